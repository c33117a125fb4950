//! Rounds: all sessions that are behind at one moment are caught up together.
//!
//! A round takes the sessions that wait. It asks the stream's leader once how far it is, and
//! once for the last message of each channel. Sessions that have everything are done. For the
//! others it reads: for each session by itself, or in one scan for many, whichever costs the
//! servers less. Sessions get at most half of a backlog a round, and wait again when they have
//! written that. So a client that reads slowly costs no more memory than any other.

mod choice;
pub(super) mod deliver;
mod pace;
mod reader;
mod scan_or_read;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{
    StreamExt as _,
    stream::{self, FuturesUnordered},
};
use tokio::time::{sleep, sleep_until};

pub(super) use self::choice::Spent;
use self::{deliver::Shared, pace::Pace, reader::Reader};
use super::{Durable, Session, Waiting, lock, resume::ELECTION_PAUSE};
use crate::{
    bus::stream::{Lasts, LeaderState, Reads, StreamError},
    close::CloseReason,
    jitter,
    supervision::{self, Panicked, contained},
};

/// Rounds of the queue `joining` that are under way at the same time.
const MAX_JOINING: usize = 4;
/// Rounds of the queue `waiting` that are under way at the same time. Sessions that come meanwhile
/// wait together for the next one: the fewer rounds, the more sessions share a scan.
const MAX_ROUNDS: usize = 2;
/// Sessions of one round at most.
const MAX_SESSIONS: usize = 2048;
/// Sessions that read for themselves at the same time, in all rounds. A nats-server looks for
/// one after the other, and what it is to store waits for all whose turn has not come. A second
/// one is on its way while the first is queued here.
pub(super) const MAX_READS: usize = 2;
/// Sessions that count what they missed at the same time, for the same reason.
pub(super) const MAX_COUNTS: usize = 2;
/// Positions that are judged at the same time in a round.
const MAX_PLACES: usize = 16;
/// Sessions that are judged, or pause, at the same time in a round.
const MAX_CONCLUDED: usize = 64;
/// The longest pause before a session that the stream did not answer waits for another round; half
/// of it is the shortest.
const PAUSE: Duration = Duration::from_millis(400);
/// How long a replica that lags gets before it is asked again.
pub(super) const LAG: Duration = Duration::from_millis(25);

/// What a round knows of the stream.
struct Facts {
    /// By its leader, before anything was read.
    leader: LeaderState,
    /// The last messages of channels were looked for up to this sequence.
    up_to: u64,
    /// Frames of broadcasts, which many sessions are sent.
    frames: Shared,
}

/// What follows for a session.
enum Then {
    /// Nothing.
    Rest,
    /// Another round, immediately.
    Again,
    /// Another round, when a replica that lags had some time.
    Lags,
}

impl Durable {
    /// Catches sessions up, for as long as the process lives.
    ///
    /// Sessions on their way in have rounds of their own, in which what they missed is only
    /// counted. So no client waits for its welcome because others have much to read, and what
    /// many sessions missed is read for them together.
    pub(super) async fn rounds(self: Arc<Self>) {
        let (mut joins, mut rounds) = (FuturesUnordered::new(), FuturesUnordered::new());
        let (mut join_pace, mut round_pace) = (Pace::default(), Pace::default());
        loop {
            let [next_join, next_round] = [join_pace.next(), round_pace.next()];
            let joining = take(
                &self.joining,
                joins.len() < MAX_JOINING && next_join.is_none(),
            );
            let waiting = take(
                &self.waiting,
                rounds.len() < MAX_ROUNDS && next_round.is_none(),
            );
            let idle = joining.is_empty() && waiting.is_empty();
            let waits = lock(&self.joining).len() + lock(&self.waiting).len();
            self.metrics.rounds.waiting.set(waits as i64);
            if !joining.is_empty() {
                join_pace.begins();
                joins.push(self.clone().round(joining));
            }
            if !waiting.is_empty() {
                round_pace.begins();
                rounds.push(self.clone().round(waiting));
            }
            if idle {
                let idle_at = self.stream.drop_idle_index();
                let next = [idle_at, next_join, next_round].into_iter().flatten().min();
                let time = async {
                    match next {
                        Some(at) => sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    Some(()) = joins.next() => {}
                    Some(()) = rounds.next() => {}
                    () = self.woken.notified() => {}
                    () = time => {}
                }
            }
        }
    }

    async fn round(self: Arc<Self>, sessions: Vec<Waiting>) {
        let _timer = self.metrics.rounds.seconds.start_timer();
        let leader = match self.leader().await {
            Ok(leader) => leader,
            Err(error) => return self.fail(sessions, &error).await,
        };
        let lasts = self.lasts_of_unknown(&sessions, &leader).await;
        let readers = stream::iter(sessions)
            .map(|waiting| self.reader(waiting, (&leader, &lasts)))
            .buffer_unordered(MAX_PLACES)
            .filter_map(async |reader| reader);
        let readers: Vec<_> = Box::pin(readers).collect().await;
        let seen = self.stream.scanned(&leader);
        let (seen, unseen) = choice::seen(readers, seen, leader.last);
        let scan = async {
            let unserved = self.scan(seen, (&leader, lasts.up_to)).await;
            self.read(unserved, (&leader, lasts.up_to)).await;
        };
        tokio::join!(scan, self.read(unseen, (&leader, lasts.up_to)));
    }

    /// What a session needs in this round. `None` if it needs nothing, if its client was refused,
    /// or if it waits for another round.
    async fn reader(
        self: &Arc<Self>,
        waiting: Waiting,
        (leader, lasts): (&LeaderState, &Lasts),
    ) -> Option<Reader> {
        let Waiting { session, mut asked } = waiting;
        if let Some(asked) = &asked
            && asked.opening.is_closed()
        {
            // Its client has left, or was refused.
            return None;
        }
        if let Some(one) = &mut asked
            && one.is_too_early(leader)
        {
            self.wait_after(ELECTION_PAUSE, Waiting { session, asked });
            return None;
        }
        let (want, joins) = match asked {
            None => (session.want()?, None),
            Some(asked) => match self.standing(&session, &asked.since, (leader, lasts)).await {
                Ok(standing) => (
                    session
                        .track()
                        .want_from(&standing.at)
                        .knowing(standing.position.as_ref()),
                    Some((asked, standing)),
                ),
                Err(error) => {
                    let _ = asked.opening.send(Err(error));
                    return None;
                }
            },
        };
        if joins.is_none() && want.chains.iter().any(|chain| chain.covered > leader.last) {
            // The leader was asked before the session followed a topic, or was elected just now.
            if session.falls_short() {
                let asked = None;
                self.wait_after(LAG, Waiting { session, asked });
            } else {
                // The stream has lost its end, or never had what somebody slipped in.
                session.backlog().end(CloseReason::BusLost.into());
            }
            return None;
        }
        let subjects = session.subjects_of(want.chains.iter().map(|chain| &chain.channel));
        Some(Reader {
            lasts: lasts.all(&subjects).unwrap_or_default(),
            subjects,
            session,
            want,
            joins,
        })
    }

    /// Judges and queues what was read for a session, which may have to wait for another round
    /// then.
    async fn conclude(
        self: &Arc<Self>,
        reader: Reader,
        reads: Result<Reads, StreamError>,
        facts: &Facts,
    ) {
        let later = self.conclusion(reader, reads, facts).await;
        self.want_later(later).await;
    }

    /// Judges and queues what was read for a session. If the session has to wait for another
    /// round, returns it, and how long to pause before that.
    async fn conclusion(
        self: &Arc<Self>,
        mut reader: Reader,
        reads: Result<Reads, StreamError>,
        facts: &Facts,
    ) -> Option<(Arc<Session>, Duration)> {
        let session = reader.session.clone();
        let (mut asked, standing) = reader.joins.take().unzip();
        let span = asked.as_mut().and_then(|asked| asked.span.take());
        let joins = standing.map(|standing| (standing, span));
        let delivering = async {
            match reads {
                Ok(reads) => self.deliver(&reader, joins, reads, facts).await,
                Err(error) => Err(error),
            }
        };
        let delivered = contained(delivering).await;
        match (delivered, asked) {
            // A fault over one session ends that one; its client may reconnect.
            (Err(Panicked), _) => {
                session.backlog().end(CloseReason::Internal.into());
                None
            }
            (Ok(Err(error)), asked) => self.failed(Waiting { session, asked }, &error),
            (Ok(Ok((opening, then))), asked) => {
                if let (Some(asked), Some(opening)) = (asked, opening) {
                    let _ = asked.opening.send(Ok(opening));
                }
                match then {
                    Then::Rest => None,
                    Then::Again => Some((session, Duration::ZERO)),
                    Then::Lags => Some((session, LAG)),
                }
            }
        }
    }

    /// The stream can't be read for a session: where its client waits to be told, it is
    /// refused, else the session is held back.
    fn failed(
        &self,
        Waiting { session, asked }: Waiting,
        error: &StreamError,
    ) -> Option<(Arc<Session>, Duration)> {
        tracing::debug!(%error, "a session cannot catch up yet");
        if let Some(asked) = asked {
            let _ = asked.opening.send(Err(error.clone()));
            return None;
        }
        if !session.backlog().is_open() {
            return None;
        }
        session.amend(|catching_up| {
            let held = &mut catching_up.held_back;
            held.get_or_insert_with(|| self.held_back.one());
        });
        Some((session, jitter::fraction_of(PAUSE, 0.5, 1.0)))
    }

    async fn fail(&self, sessions: Vec<Waiting>, error: &StreamError) {
        let failed = sessions.into_iter();
        let failed: Vec<_> = failed.filter_map(|one| self.failed(one, error)).collect();
        // They stay together.
        if let Some((_, pause)) = failed.first() {
            sleep(*pause).await;
        }
        failed
            .into_iter()
            .for_each(|(session, _)| self.want(session));
    }

    /// Has a session wait for another round after a pause. No round waits for that pause.
    fn wait_after(self: &Arc<Self>, pause: Duration, waiting: Waiting) {
        let durable = self.clone();
        supervision::spawn("a pause before another round", async move {
            sleep(pause).await;
            durable.wait(waiting);
        });
    }

    async fn want_later(&self, later: Option<(Arc<Session>, Duration)>) {
        if let Some((session, pause)) = later {
            if !pause.is_zero() {
                sleep(pause).await;
            }
            self.want(session);
        }
    }
}

impl Facts {
    fn new(leader: &LeaderState, up_to: u64) -> Self {
        Self {
            leader: leader.clone(),
            up_to,
            frames: Shared::default(),
        }
    }
}

/// The sessions of the next round, if another may begin.
fn take(waiting: &Mutex<VecDeque<Waiting>>, may_begin: bool) -> Vec<Waiting> {
    let mut waiting = lock(waiting);
    let count = if may_begin {
        waiting.len().min(MAX_SESSIONS)
    } else {
        0
    };
    waiting.drain(..count).collect()
}

#[cfg(test)]
mod tests;
