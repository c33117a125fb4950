//! What was read for one session of a round: judged, and queued.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use super::{Facts, Reader, Then};
use crate::{
    bus::stream::{Bounds, Found, Read, Reads, StreamError},
    channel::Channel,
    close::CloseReason,
    durable::{
        Durable, Opening, Session,
        catch_up::{CatchUp, Done, Missed},
        lock,
        resume::{self, Standing},
        track::{Want, Why},
    },
    frame::{self, Framed, Frames, GapReason, Protocol},
    message::{Message, Stored},
    provoke,
    supervision::contained_now,
    telemetry::{Operation, Span},
};

impl Durable {
    /// Judges what was read for a session, and queues it. If its client waits to be told where it
    /// begins, the session is opened first: the `Opening` is for its `welcome`.
    ///
    /// `joins` is where such a client was, and what records what it is sent. Nothing is queued if the stream has less than it
    /// promised and may only lag, or if what was missed was only counted: another round follows.
    ///
    /// # Errors
    ///
    /// [`StreamError`]: a second leader query failed, or the stream was replaced meanwhile.
    /// Nothing is queued then.
    pub(super) async fn deliver(
        self: &Arc<Self>,
        reader: &Reader,
        joins: Option<(Standing, Option<Span>)>,
        mut reads: Reads,
        facts: &Facts,
    ) -> Result<(Option<Opening>, Then), StreamError> {
        let Reader {
            session,
            want,
            lasts,
            ..
        } = reader;
        let of = std::mem::take(&mut reads.of);
        let mut missed: Vec<u64> = of
            .iter()
            .map(|read| read.as_ref().map_or(0, Read::total))
            .collect();
        let owed = want.chains.iter().zip(&missed);
        let gone: u64 = owed
            .map(|(chain, missed)| chain.owed.saturating_sub(*missed))
            .sum();
        if gone == 0 {
            session.amend(|catching_up| catching_up.short = 0);
        } else if session.falls_short() {
            return Ok((None, Then::Lags));
        }
        // Over the Centrifuge protocol each channel is one by itself.
        let longest = match session.backlog().protocol().is_centrifuge() {
            true => missed.iter().copied().max().unwrap_or(0),
            false => missed.iter().sum(),
        };
        let beyond = longest.saturating_sub(self.config.max_replay);
        // A client that reads slowly and now misses more than `max_replay` is closed. Not if the
        // stream could not be read in a round before: that is no fault of the client.
        let held_back = session.amend(|catching_up| {
            let held_back = catching_up.held_back.take().is_some();
            if held_back && catching_up.why == Why::Slow {
                // It counts in the rounds after this one too.
                catching_up.why = Why::Lost;
            }
            held_back
        });
        if beyond > 0 && want.why == Why::Slow && held_back != Some(true) {
            let dropped = session.backlog().cut(CloseReason::SlowConsumer);
            self.metrics.dropped("slow_consumer", dropped);
            return Ok((None, Then::Rest));
        }
        let too_many = if want.judged { 0 } else { beyond };
        let intact = self
            .is_intact(want, (&of, lasts), (&facts.leader, &mut None))
            .await?;
        let lost = gone > 0 || too_many > 0 || !intact;
        if !want.judged {
            self.metrics.caught_up(want.why.name());
            if joins.is_none() {
                let trace = self.tracer.follow(None);
                let span = self.tracer.span(Operation::Replay, trace);
                session.record(want.why, span);
            }
        }
        let each = joins
            .as_ref()
            .is_some_and(|(standing, _)| standing.each.is_some());
        // Of each channel it is decided by itself.
        let (lost, too_many) = if each { (false, 0) } else { (lost, too_many) };
        let mut catch_up = CatchUp::default();
        let mut opening = None;
        if let Some((mut standing, span)) = joins {
            let read = (&*of, &**lasts);
            let cut = self.judge_each(&mut standing, want, read, &mut missed, &facts.leader);
            let cut = cut.await?;
            let found = resume::Found {
                complete: standing.known && !lost,
                standing,
                skip: too_many,
                missed,
            };
            let counted = found.missed.iter().any(|missed| *missed > 0)
                && of.iter().flatten().all(|read| read.found.is_empty());
            opening = Some(session.open(&facts.leader, Some(found))?);
            session.record(Why::Resumed, span);
            if counted || cut {
                // It is read in the next round.
                return Ok((opening, Then::Again));
            }
        } else if lost {
            if !session.backlog().protocol().has_own_frames() {
                session.backlog().end(CloseReason::BusLost.into());
                return Ok((None, Then::Rest));
            }
            let reason = match too_many > 0 && intact && gone == 0 {
                true => GapReason::Replay,
                false => GapReason::Retention,
            };
            catch_up.gap = Some(session.backlog().protocol().frame(&frame::gap(reason)));
        }

        let Merged {
            messages,
            remaining,
            done,
        } = merge(of, want, (lasts, facts.up_to), self.bounds());
        if messages.is_empty() && !done {
            return Ok((opening, Then::Lags));
        }
        if session.track().channels_version() != want.channels_version {
            // It follows other channels by now.
            return Ok((opening, Then::Again));
        }
        let skip = session.amend(|catching_up| {
            if !want.judged {
                catching_up.judged = true;
                catching_up.skip = too_many;
            }
            // Limits remove the oldest first, which were to be left out anyway.
            let skip = catching_up.skip.saturating_sub(gone);
            catching_up.skip = skip.saturating_sub(messages.len() as u64);
            if lost {
                catching_up.gap_up_to = facts.leader.last;
            }
            skip
        });
        let mut gap_up_to = want.gap_up_to;
        if lost {
            session.track().know(facts.leader.known());
            gap_up_to = facts.leader.last;
        }
        let skip = (skip.unwrap_or(0), gap_up_to);
        catch_up.messages = self.frames(reader, messages, skip, &facts.frames);
        catch_up.channels_version = want.channels_version;
        catch_up.remaining = remaining;
        catch_up.done = done.then(|| Done {
            up_to: facts.up_to,
            proof: facts.leader.proof(),
            known: facts.leader.known(),
            connection_changes: want.connection_changes,
        });
        let then = match session.catch_up(catch_up) {
            true => Then::Again,
            false => Then::Rest,
        };
        Ok((opening, then))
    }

    /// The frames of messages, in order, but for the first `skip` of those up to a sequence: of
    /// these the client was told that they may be lost.
    fn frames(
        &self,
        Reader { session, want, .. }: &Reader,
        messages: Vec<(usize, Found)>,
        (skip, gap_up_to): (u64, u64),
        shared: &Shared,
    ) -> Vec<Missed> {
        let mut prev: Vec<u64> = want.chains.iter().map(|chain| chain.sent).collect();
        let mut left_out = 0;
        let frame = |(channel, found): (usize, Found)| {
            let Found {
                seq,
                at,
                mut message,
            } = found;
            let stored = Stored {
                seq,
                prev: prev[channel],
                at,
            };
            message.stored = Some(stored);
            let frame = if left_out < skip && seq <= gap_up_to {
                left_out += 1;
                None
            } else if message.probe {
                None
            } else {
                self.frame(session, &message, stored, shared)
            };
            if frame.is_some() {
                prev[channel] = seq;
            }
            Missed {
                channel,
                stored,
                frame,
                trace: message.trace,
                event: message.event,
            }
        };
        messages.into_iter().map(frame).collect()
    }

    /// The frame of a message that is sent again. A raw session ends at one that is too large.
    fn frame(
        &self,
        session: &Session,
        message: &Message,
        stored: Stored,
        shared: &Shared,
    ) -> Option<Framed> {
        let protocol = session.backlog().protocol();
        let build = || {
            let framed = contained_now(|| {
                provoke::here("message", message.event.as_str());
                let frames = Frames::new(message, self.config.max_frame);
                frames.to_user(session.user.as_str()).get(protocol)
            });
            framed.ok()
        };
        let framed = match message.channel {
            Channel::User => build(),
            Channel::Broadcast | Channel::Topic(_) => {
                shared.get((stored.seq, stored.prev, protocol), build)
            }
        };
        let Some(framed) = framed else {
            // Or no client that missed it could ever come back.
            self.metrics.dropped("panic", 1);
            return None;
        };
        self.metrics.replayed.inc();
        if let Framed::TooLarge(gap) = &framed {
            self.metrics.dropped("too_large", 1);
            if gap.is_none() {
                session.backlog().end(CloseReason::TooLarge.into());
                return None;
            }
        }
        Some(framed)
    }
}

/// The frames of broadcasts and topics in one round, which many sessions are sent: each is built once for
/// every message that it may name as the one before it.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<HashMap<(u64, u64, Protocol), Framed>>);

impl Shared {
    fn get(
        &self,
        key: (u64, u64, Protocol),
        build: impl FnOnce() -> Option<Framed>,
    ) -> Option<Framed> {
        let known = lock(&self.0).get(&key).cloned();
        known.or_else(|| {
            let framed = build()?;
            lock(&self.0).insert(key, framed.clone());
            Some(framed)
        })
    }
}

/// What a round brings a session.
pub(in crate::durable) struct Merged {
    /// The session's channel of each message, and the message.
    pub(in crate::durable) messages: Vec<(usize, Found)>,
    /// For each channel: how many messages are left.
    pub(in crate::durable) remaining: Vec<u64>,
    /// These were all up to where the round looked. What comes after that comes live, or has
    /// come.
    pub(in crate::durable) done: bool,
}

/// The messages of all channels in the stream's order, as far as all channels are known, which
/// is never beyond `up_to`: the reads are of different moments, and perhaps of different
/// replicas. Of all channels together there are no more than the bounds, or one message.
pub(in crate::durable) fn merge(
    reads: Vec<Option<Read>>,
    want: &Want,
    (lasts, up_to): (&[u64], u64),
    most: Bounds,
) -> Merged {
    let channels = reads.iter().zip(&want.chains).zip(lasts);
    let known = channels.map(|((read, chain), last)| {
        let read = read.as_ref();
        let end = read.and_then(|read| read.found.last());
        let end = end.map_or(chain.covered, |found| found.seq);
        let more = read.is_some_and(|read| read.more > 0);
        if more || end < *last { end } else { u64::MAX }
    });
    let horizon = known.min().unwrap_or(u64::MAX).min(up_to);
    let mut remaining: Vec<u64> = reads
        .iter()
        .map(|read| read.as_ref().map_or(0, Read::total))
        .collect();
    let reads = reads.into_iter().enumerate();
    let mut messages: Vec<(usize, Found)> = reads
        .flat_map(|(channel, read)| {
            let found = read.into_iter().flat_map(|read| read.found);
            found.map(move |found| (channel, found))
        })
        .filter(|(_, found)| found.seq <= horizon)
        .collect();
    messages.sort_by_key(|(_, found)| found.seq);
    let mut bytes = 0;
    let most_messages = messages.iter().take(most.messages);
    let fit = most_messages.take_while(|(_, found)| {
        bytes += found.message.payload.len();
        bytes <= most.bytes
    });
    let count = fit.count().max(1).min(messages.len());
    let done = horizon >= up_to && count == messages.len();
    messages.truncate(count);
    match done {
        true => remaining.fill(0),
        false => messages
            .iter()
            .for_each(|(channel, _)| remaining[*channel] -= 1),
    }
    Merged {
        messages,
        remaining,
        done,
    }
}
