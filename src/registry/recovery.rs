//! Bringing a session up to date from the stream: one that resumes, that did not read for
//! a while, that something on the way from NATS was lost to, or whose NATS was away.
//!
//! In steps: each reads what the session has yet to get, as much as its backlog may hold,
//! and the next one follows when it has written that. So a client that reads slowly costs
//! no more memory than any other.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::sleep;

use super::{
    Entry, Registry,
    chain::{Behind, Kind, Why},
    durable::{Durable, Waiting},
    outbox::{Brought, Done, Outbox, Pace},
};
use crate::{
    bus::stream::{Bounds, Found, Look, Read, StreamError},
    close::CloseReason,
    frame::{self, Framed, Frames, GapReason, Protocol, Resume},
    jitter,
    message::{Message, Stored},
    position::{Position, Since},
    provoke,
    supervision::{Panicked, contained, contained_now},
};

/// Steps under way at once: as many as may be read for together. What a step has read is
/// bounded by the stream's own bounds on that; one that waits for its turn holds next to
/// nothing.
const MAX_STEPS: usize = 2048;
/// Before a step that the stream did not answer is tried again.
const PAUSE: Duration = Duration::from_millis(400);
/// Before a replica that lags is asked again, and how often that is done before what is
/// not there counts as lost.
const LAG: (Duration, u32) = (Duration::from_millis(25), 40);

/// What a step has come to.
enum Step {
    /// Nothing to do now.
    Rest,
    /// There is more to bring at once.
    Again,
    /// A replica lags.
    Lagging,
}

/// How a client that came back begins.
pub(super) struct Resumption {
    /// Of each kind, what it has.
    pub(super) at: [u64; 2],
    /// What it sent; none where that is not of this stream as it is.
    pub(super) since: Option<Position>,
    pub(super) resume: Resume,
    /// So many of the oldest that it missed are left out.
    pub(super) skip: u64,
    /// So many it missed of each kind.
    pub(super) missed: [u64; 2],
}

impl Registry {
    /// Brings sessions up to date, for as long as the process lives.
    pub(super) async fn recover(self: Arc<Self>, durable: Arc<Durable>) {
        let mut steps = FuturesUnordered::new();
        loop {
            let next = match steps.len() {
                MAX_STEPS.. => None,
                _ => durable.waiting().pop_front(),
            };
            if let Some(mut waiting) = next {
                let (registry, durable) = (self.clone(), durable.clone());
                steps.push(async move {
                    let wants = registry.step_on(&durable, &mut waiting).await;
                    wants.then_some(waiting)
                });
                continue;
            }
            tokio::select! {
                Some(done) = steps.next() => {
                    let done: Option<Waiting> = done;
                    if let Some(waiting) = done {
                        durable.waiting().push_back(waiting);
                    }
                }
                () = durable.woken.notified(), if steps.len() < MAX_STEPS => {}
            }
        }
    }

    /// One step; whether another has to follow.
    async fn step_on(self: &Arc<Self>, durable: &Durable, waiting: &mut Waiting) -> bool {
        let step = contained(self.step(durable, waiting)).await;
        if let Ok(Ok(_)) = step {
            waiting.held_back = None;
        }
        let outbox = &waiting.outbox;
        match step {
            // A fault over one session ends that one; its client may come again.
            Err(Panicked) => {
                outbox.end(CloseReason::Internal.into());
                false
            }
            Ok(Ok(Step::Rest)) => false,
            Ok(Ok(Step::Again)) => true,
            Ok(Ok(Step::Lagging)) => {
                sleep(LAG.0).await;
                true
            }
            Ok(Err(error)) => {
                if waiting.held_back.is_none() && outbox.is_open() {
                    waiting.held_back = Some(durable.held_back.one());
                }
                tracing::debug!(%error, "a session cannot be brought up to date yet");
                sleep(jitter::fraction_of(PAUSE, 0.5, 1.0)).await;
                outbox.is_open()
            }
        }
    }

    async fn step(
        self: &Arc<Self>,
        durable: &Durable,
        waiting: &Waiting,
    ) -> Result<Step, StreamError> {
        let Waiting { entry, outbox, .. } = waiting;
        let Some(pace) = outbox.pace() else {
            return Ok(Step::Rest);
        };
        let look = self.look(durable).await?;
        let proof = look.proof();
        if pace.covered.iter().any(|covered| *covered > look.last) {
            // It has lost its end, or never had what somebody slipped in.
            outbox.end(CloseReason::BusLost.into());
            return Ok(Step::Rest);
        }
        let lasts = durable.stream.lasts(entry.user(), &look).await?;
        let last = [lasts.user, lasts.broadcast];
        let wanted = |kind: Kind| {
            let kind = kind as usize;
            last[kind] > pace.covered[kind] || pace.expected[kind] > 0
        };
        let bounds = Bounds {
            messages: (self.limits.messages / 2).max(1),
            bytes: self.limits.bytes / 2,
        };
        let after = Kind::ALL.map(|kind| wanted(kind).then_some(pace.covered[kind as usize]));
        let reading = durable.stream.read(entry.user(), after, bounds, &look);
        // Keeps its place or its memory until its frames are queued.
        let read = reading.await?;

        let missed: u64 = read.of.iter().flatten().map(Read::total).sum();
        let gone = |kind: Kind| {
            let total = read.of[kind as usize].as_ref().map_or(0, Read::total);
            pace.expected[kind as usize].saturating_sub(total)
        };
        let gone: u64 = Kind::ALL.into_iter().map(gone).sum();
        let short = gone > 0;
        if !short {
            outbox.amend(|behind| behind.short = 0);
        }
        if short
            && outbox
                .amend(Behind::falls_short)
                .is_some_and(|times| times < LAG.1)
        {
            return Ok(Step::Lagging);
        }
        let beyond = missed.saturating_sub(durable.config.max_replay);
        let too_many = if pace.begun { 0 } else { beyond };
        if beyond > 0 && pace.why == Why::Slow && waiting.held_back.is_none() {
            let dropped = outbox.cut(CloseReason::SlowConsumer);
            self.metrics.dropped("slow_consumer", dropped);
            return Ok(Step::Rest);
        }
        let intact = self.is_intact(durable, &look, &pace, &read.of).await?;
        let lost = short || too_many > 0 || !intact;
        if lost && outbox.protocol() == Protocol::RawV1 {
            outbox.end(CloseReason::BusLost.into());
            return Ok(Step::Rest);
        }
        if !pace.begun {
            self.metrics.caught_up(pace.why.name());
        }

        let (events, left) = merge(read.of, pace.covered, last, lasts.up_to);
        let mut reached = pace.covered;
        for (kind, found) in &events {
            reached[*kind as usize] = found.seq;
        }
        // What is left beyond that comes live, or has come.
        let done = reached.iter().zip(last).all(|(now, last)| *now >= last);
        if events.is_empty() && !done {
            return Ok(Step::Lagging);
        }
        let gap = outbox.amend(|behind| {
            if !behind.begun {
                behind.begun = true;
                behind.skip = too_many;
            }
            // Limits remove the oldest first, which were to be left out anyway.
            behind.skip = behind.skip.saturating_sub(gone);
            behind.expected = if done { [0; 2] } else { left };
            if lost {
                behind.told = look.last;
            }
            lost
        });
        let gap = (gap == Some(true)).then(|| {
            let gap = match too_many > 0 && intact && !short {
                true => GapReason::Replay,
                false => GapReason::Retention,
            };
            outbox.protocol().frame(&frame::gap(gap))
        });
        let brought = self.frames(outbox, events);
        let done = done.then(|| Done {
            up_to: lasts.up_to,
            proof,
            live: outbox.protocol().frame(&frame::live(proof)),
            losses: pace.losses,
        });
        Ok(match outbox.bring(gap, brought, done, &self.limits) {
            true => Step::Again,
            false => Step::Rest,
        })
    }

    /// Whether nothing is gone of what was to be read, but for what it was told of. What
    /// rests on the stream's beginning rests on where that is now: it may have moved since
    /// the look.
    async fn is_intact(
        self: &Arc<Self>,
        durable: &Durable,
        look: &Look,
        pace: &Pace,
        reads: &[Option<Read>; 2],
    ) -> Result<bool, StreamError> {
        let mut resting = Vec::new();
        for (kind, read) in reads.iter().enumerate() {
            match read {
                Some(read) if read.intact && read.anchored => {}
                // Limits remove the oldest first.
                Some(read) if !read.intact && begins_within(read, pace.told) => {}
                Some(read) if !read.intact => return Ok(false),
                None if !pace.doubtful[kind] => {}
                _ => resting.push(pace.told.max(pace.covered[kind])),
            }
        }
        if resting.is_empty() {
            return Ok(true);
        }
        let now = self.look(durable).await?;
        let has_all = resting.iter().all(|&after| now.has_all_after(after));
        Ok(has_all && now.epoch == look.epoch)
    }

    /// The frames of what is brought, in order.
    fn frames(&self, outbox: &Outbox, events: Vec<(Kind, Found)>) -> Vec<Brought> {
        let mut brought = Vec::with_capacity(events.len());
        for (
            kind,
            Found {
                seq,
                at,
                mut message,
            },
        ) in events
        {
            let prev = outbox.amend(|behind| match behind.skip {
                0 if message.probe => Err(behind.brought[kind as usize]),
                0 => Ok(std::mem::replace(&mut behind.brought[kind as usize], seq)),
                _ => {
                    behind.skip -= 1;
                    Err(behind.brought[kind as usize])
                }
            });
            let prev = prev.unwrap_or(Err(0));
            let stored = Stored {
                seq,
                prev: prev.unwrap_or_else(|prev| prev),
                at,
            };
            message.stored = Some(stored);
            let bytes = prev.ok().and_then(|_| self.replayed(outbox, &message));
            brought.push(Brought {
                of: (kind, stored),
                bytes,
            });
        }
        brought
    }

    /// The frame of a message that is sent again. A raw session ends at one that is too large.
    fn replayed(&self, outbox: &Outbox, message: &Message) -> Option<Bytes> {
        let framed = contained_now(|| {
            provoke::here("message", message.event.as_str());
            Frames::new(message, self.config.max_frame).get(outbox.protocol())
        });
        let Ok(framed) = framed else {
            // Or no client that missed it could ever come back.
            self.metrics.dropped("panic", 1);
            return None;
        };
        self.metrics.replayed.inc();
        match framed {
            Framed::Whole(bytes) => Some(bytes),
            Framed::TooLarge(gap) => {
                self.metrics.dropped("too_large", 1);
                if gap.is_none() {
                    outbox.end(CloseReason::TooLarge.into());
                }
                gap
            }
        }
    }

    /// Where a client begins that comes back with this position, and whether it can be
    /// shown that it gets all that it missed.
    pub(super) async fn resumption(
        self: &Arc<Self>,
        durable: &Durable,
        entry: &Entry,
        since: &Since,
        look: &Look,
    ) -> Result<Resumption, StreamError> {
        let (at, known, position) = match since {
            Since::Beginning => ([0; 2], true, None),
            Since::Former => ([0; 2], false, None),
            Since::Position(position) => match self.is_of(durable, entry, position, look).await? {
                true => {
                    let at = Kind::ALL.map(|kind| position.of(&kind.channel()));
                    (at, true, Some(position.clone()))
                }
                // Of a stream that is no more, or that was set back to an older state: all
                // that there is may be new to it.
                false => ([0; 2], false, None),
            },
        };
        let lasts = durable.stream.lasts(entry.user(), look).await?;
        let last = [lasts.user, lasts.broadcast];
        let after = Kind::ALL.map(|kind| {
            let kind = kind as usize;
            (last[kind] > at[kind]).then_some(at[kind])
        });
        let counted = durable.stream.count(entry.user(), after, look).await?;
        let now = self.look(durable).await?;
        let is_intact = |kind: Kind| match &counted[kind as usize] {
            Some(read) => read.intact && (read.anchored || now.has_all_after(at[kind as usize])),
            // Limits remove the oldest first: where the last one is still there, none after
            // it is gone.
            None => {
                let at = at[kind as usize];
                at > 0 && last[kind as usize] == at || now.has_all_after(at)
            }
        };
        let intact = Kind::ALL.into_iter().all(is_intact);
        let total = |read: Option<Read>| read.map_or(0, |read| read.total());
        let [to_user, to_all] = counted.map(total);
        let skip = (to_user + to_all).saturating_sub(durable.config.max_replay);
        let complete = known && intact && skip == 0 && durable.is_at(&now) && durable.is_at(look);
        Ok(Resumption {
            at,
            since: position,
            resume: match complete {
                true => Resume::Complete,
                false => Resume::Gap,
            },
            skip,
            missed: [to_user, to_all],
        })
    }

    /// Whether a position is of this stream, which was not set back to an older state since.
    async fn is_of(
        &self,
        durable: &Durable,
        entry: &Entry,
        position: &Position,
        look: &Look,
    ) -> Result<bool, StreamError> {
        let &Position {
            ref epoch, top, at, ..
        } = position;
        let ahead = |seq: &u64| *seq > look.last;
        if *epoch != look.epoch || ahead(&position.proven) || ahead(&top) {
            return Ok(false);
        }
        if position.marks.values().any(ahead) {
            return Ok(false);
        }
        if top == 0 {
            return Ok(true);
        }
        if top == look.last {
            return Ok(at == look.last_at);
        }
        match durable.stream.stored_at(top).await? {
            Some(stored_at) => Ok(stored_at == at),
            // It is gone. In a stream that went another way, something that is not after it
            // is younger.
            None => durable.stream.nothing_later(entry.user(), top, at).await,
        }
    }
}

/// Whether the first message found is up to there.
fn begins_within(read: &Read, up_to: u64) -> bool {
    read.found.first().is_some_and(|found| found.seq <= up_to)
}

/// Both kinds in the stream's order, as far as both are known, which is never beyond
/// `up_to`: the two reads are of different moments, and perhaps of different replicas. And
/// how many of each are left then. `last` are those of each kind up to there.
fn merge(
    reads: [Option<Read>; 2],
    covered: [u64; 2],
    last: [u64; 2],
    up_to: u64,
) -> (Vec<(Kind, Found)>, [u64; 2]) {
    let known = |kind: Kind| {
        let kind = kind as usize;
        let read = reads[kind].as_ref();
        let end = read
            .and_then(|read| read.found.last())
            .map(|found| found.seq);
        let end = end.unwrap_or(covered[kind]);
        let more = read.is_some_and(|read| read.more > 0);
        match more || end < last[kind] {
            true => end,
            false => u64::MAX,
        }
    };
    let horizon = known(Kind::User).min(known(Kind::Broadcast)).min(up_to);
    let mut left = [0; 2];
    let mut events = Vec::new();
    for (kind, read) in Kind::ALL.into_iter().zip(reads) {
        let Some(read) = read else { continue };
        let total = read.total();
        let before = events.len();
        let known = read.found.into_iter().filter(|found| found.seq <= horizon);
        events.extend(known.map(|found| (kind, found)));
        left[kind as usize] = total - (events.len() - before) as u64;
    }
    events.sort_by_key(|(_, found)| found.seq);
    (events, left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::EventName;

    fn read(seqs: &[u64], more: u64) -> Option<Read> {
        let found = seqs.iter().map(|&seq| Found {
            seq,
            at: 0,
            message: Message {
                event: EventName::default(),
                payload: "x".into(),
                broadcast: false,
                stored: None,
                probe: false,
            },
        });
        Some(Read {
            intact: true,
            anchored: false,
            found: found.collect(),
            more,
        })
    }

    /// Of a session that has nothing, up to 100.
    fn merged(reads: [Option<Read>; 2]) -> (Vec<u64>, [u64; 2]) {
        merged_with(reads, [0; 2])
    }

    fn merged_with(reads: [Option<Read>; 2], last: [u64; 2]) -> (Vec<u64>, [u64; 2]) {
        let (events, left) = merge(reads, [0; 2], last, 100);
        (events.iter().map(|(_, found)| found.seq).collect(), left)
    }

    #[test]
    fn two_kinds_come_in_the_streams_order() {
        let (events, left) = merged([read(&[1, 4, 9], 0), read(&[2, 3, 10], 0)]);
        assert_eq!((events, left), (vec![1, 2, 3, 4, 9, 10], [0, 0]));
    }

    #[test]
    fn nothing_goes_ahead_of_what_is_not_read_yet() {
        let (events, left) = merged([read(&[1, 4, 9], 0), read(&[2, 3], 5)]);
        assert_eq!((events, left), (vec![1, 2, 3], [2, 5]));
        let (events, left) = merged([read(&[7], 1), None]);
        assert_eq!((events, left), (vec![7], [1, 0]));
        assert_eq!(merged([None, None]), (vec![], [0, 0]));
    }

    #[test]
    fn a_later_read_does_not_go_ahead_of_an_earlier_one() {
        let (events, left) = merged_with([read(&[98], 0), read(&[99, 101], 0)], [98, 99]);
        assert_eq!(
            (events, left),
            (vec![98, 99], [0, 1]),
            "of the moment of the first"
        );
        let (events, left) = merged_with([read(&[90], 0), read(&[95, 99], 0)], [98, 99]);
        assert_eq!((events, left), (vec![90], [0, 2]), "a replica that lags");
        let (events, left) = merged_with([read(&[], 0), read(&[99], 0)], [98, 99]);
        assert_eq!((events, left), (vec![], [0, 1]), "one that lags still more");
    }
}
