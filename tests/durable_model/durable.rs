//! Durable mode around its sessions: their own sources over a stream in memory, and rounds and
//! audits that do what `rounds.rs` and `audit.rs` do, each read at a moment of its own.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "the model needs less of it than the library"
)]

mod catch_up;
mod chain;
mod held_back;
mod session;
mod topics;
mod track;

use std::collections::VecDeque;

use shuttle::sync::Condvar;
use usher::{
    channel::{Channel, Topic},
    frame::{Framed, Frames, Proof, Protocol},
    message::{EventName, Message, Stored},
    metrics::Metrics,
    position::{Mark, Step},
    telemetry::Tracer,
    user::UserId,
};

pub(crate) use self::session::Session;
use self::{
    catch_up::{Audit, CatchUp, Done, Missed},
    chain::Compared,
    sync::{Mutex, lock},
    track::{Beginning, Resumed},
};
pub(crate) use crate::registry::sync;
use crate::{
    bus::stream::LeaderState,
    registry::{Arrival, Limits, Outgoing, Pushed, Session as _, Source},
};
use sync::Arc;

/// Messages of one channel in one read.
const READ: usize = 2;

/// A step of the sessions that the model splits in two, to show that it would be noticed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Split {
    Nothing,
    /// A message is noted as sent, and queued when the track is unlocked.
    NoteAndQueue,
    /// A backlog is taken back, and the track learns it later.
    TakeBack,
    /// The backlog is seen not to be written, and the session ceases to wait for a round later.
    IdleAndQueued,
}

/// The messages of the stream, from the first one on.
#[derive(Debug, Default)]
pub(crate) struct Stream(Mutex<Vec<(Channel, Stored)>>);

#[derive(Debug)]
pub(crate) struct Durable {
    pub(crate) stream: Stream,
    pub(crate) limits: Arc<Limits>,
    metrics: Arc<Metrics>,
    tracer: Tracer,
    split: Split,
    waiting: Mutex<Waiting>,
    woken: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    sessions: VecDeque<Arc<Session>>,
    over: bool,
}

impl Stream {
    /// Stores the next message of a channel.
    pub(crate) fn store(&self, channel: Channel) -> (Channel, Stored) {
        let mut all = lock(&self.0);
        let same = all.iter().rev().find(|(other, _)| *other == channel);
        let prev = same.map_or(0, |(_, stored)| stored.seq);
        let seq = all.len() as u64 + 1;
        let stored = Stored { seq, prev, at: seq };
        all.push((channel.clone(), stored));
        (channel, stored)
    }

    /// The messages of a channel after a sequence.
    pub(crate) fn after(&self, channel: &Channel, seq: u64) -> Vec<Stored> {
        let all = lock(&self.0);
        let of = all
            .iter()
            .filter(|(other, stored)| other == channel && stored.seq > seq);
        of.map(|(_, stored)| *stored).collect()
    }

    fn leader(&self) -> LeaderState {
        LeaderState::new(lock(&self.0).len() as u64)
    }

    fn last(&self, channel: &Channel) -> u64 {
        self.after(channel, 0).last().map_or(0, |last| last.seq)
    }

    fn subject(&self, _: &UserId, channel: &Channel) -> Arc<str> {
        format!("{channel:?}").into()
    }
}

/// What sessions call.
impl Durable {
    fn want(&self, session: Arc<Session>) {
        let mut waiting = lock(&self.waiting);
        assert!(
            waiting.sessions.is_empty(),
            "a session waits for two rounds"
        );
        waiting.sessions.push_back(session);
        self.woken.notify_all();
    }

    fn is_at(&self, _: &LeaderState) -> bool {
        // It locks the state of the stream.
        !lock(&self.stream.0).is_empty() || self.limits.messages > 0
    }

    async fn leader_for(&self, _: Option<&Mark>) -> Result<LeaderState, ()> {
        Ok(self.stream.leader())
    }

    async fn missed(
        &self,
        _: &Session,
        _: &Topic,
        _: &Mark,
        _: &LeaderState,
    ) -> Result<Option<u64>, ()> {
        Ok(None)
    }

    fn look_again(&self) {}

    fn look_later(&self, _: &Arc<Session>) {}

    fn forget(&self, _: u64) {}
}

impl Durable {
    pub(crate) fn new(limits: Limits, split: Split, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            stream: Stream::default(),
            limits: Arc::new(limits),
            metrics,
            tracer: Tracer::default(),
            split,
            waiting: Mutex::default(),
            woken: Condvar::new(),
        })
    }

    pub(crate) fn session(self: &Arc<Self>) -> Arc<Session> {
        let user = UserId::parse("42").expect("a user");
        // Such a session is told with each frame what it says of the client's position.
        Arc::new(Session::new(user, Protocol::Sse, &[], self.clone(), 0))
    }

    /// Tells a session where it begins: its client has nothing of the stream.
    pub(crate) fn begin(&self, session: &Arc<Session>) {
        let leader = self.stream.leader();
        let missed = |channel: &Channel| {
            let all = self.stream.after(channel, 0);
            all.iter().filter(|one| one.seq <= leader.last).count() as u64
        };
        let channels = session.channels();
        session.set_beginning(Beginning {
            at: vec![0; channels.len()],
            proven: Proof::default(),
            known: Proof::default(),
            resumed: Some(Resumed {
                gap_up_to: 0,
                skip: 0,
                missed: channels.iter().map(missed).collect(),
            }),
        });
        self.want(session.clone());
    }

    /// Rounds, until [`Durable::stop`].
    pub(crate) fn rounds(&self) {
        loop {
            let mut waiting = lock(&self.waiting);
            let session = loop {
                if waiting.over {
                    return;
                }
                if let Some(session) = waiting.sessions.pop_front() {
                    break session;
                }
                let woken = self.woken.wait(waiting);
                waiting = woken.expect("a panic ends the schedule");
            };
            drop(waiting);
            self.round(&session);
        }
    }

    pub(crate) fn stop(&self) {
        lock(&self.waiting).over = true;
        self.woken.notify_all();
    }

    /// The next round, where a session waits for one.
    pub(crate) fn next_round(&self) -> bool {
        let next = lock(&self.waiting).sessions.pop_front();
        next.is_some_and(|session| {
            self.round(&session);
            true
        })
    }

    fn round(&self, session: &Arc<Session>) {
        let leader = self.stream.leader();
        if self.conclusion(session, &leader) {
            self.want(session.clone());
        }
    }

    /// Whether another round has to follow.
    fn conclusion(&self, session: &Arc<Session>, leader: &LeaderState) -> bool {
        let want = match self.split {
            Split::IdleAndQueued if !session.backlog().is_idle() => {
                others();
                session.amend(|catching_up| catching_up.queued = false);
                None
            }
            _ => session.want(),
        };
        let Some(want) = want else {
            return false;
        };
        let ahead = want.chains.iter().any(|chain| chain.covered > leader.last);
        if ahead {
            assert!(session.falls_short(), "the stream has lost its end");
            return true;
        }
        let mut horizon = leader.last;
        let mut messages = Vec::new();
        let mut totals = Vec::new();
        for (channel, chain) in want.chains.iter().enumerate() {
            let mut found = self.stream.after(&chain.channel, chain.covered);
            assert!(
                chain.owed <= found.len() as u64,
                "more is owed than there is"
            );
            totals.push(found.len() as u64);
            if found.len() > READ {
                found.truncate(READ);
                horizon = horizon.min(found[READ - 1].seq);
            }
            messages.extend(found.into_iter().map(|stored| (channel, stored)));
        }
        messages.retain(|(_, stored)| stored.seq <= horizon);
        messages.sort_by_key(|(_, stored)| stored.seq);
        let all = messages.len();
        messages.truncate(READ);
        let done = horizon >= leader.last && messages.len() == all;
        let mut sent: Vec<_> = want.chains.iter().map(|chain| chain.sent).collect();
        let missed = messages.into_iter().map(|(channel, stored)| {
            totals[channel] -= 1;
            let prev = std::mem::replace(&mut sent[channel], stored.seq);
            Missed {
                channel,
                stored: Stored { prev, ..stored },
                frame: Some(Framed::Whole("replayed".into())),
                trace: None,
                event: EventName::default(),
            }
        });
        let messages = missed.collect();
        if session.track().channels_version() != want.channels_version {
            return true;
        }
        session.amend(|catching_up| catching_up.judged = true);
        session.catch_up(CatchUp {
            gap: None,
            messages,
            remaining: if done { vec![0; totals.len()] } else { totals },
            done: done.then(|| Done {
                up_to: leader.last,
                proof: leader.proof(),
                known: leader.known(),
                connection_changes: want.connection_changes,
            }),
            channels_version: want.channels_version,
        })
    }

    /// Compares a session with the stream, and once more when messages may have come meanwhile.
    pub(crate) fn audit(&self, session: &Arc<Session>, meanwhile: impl FnOnce()) {
        let before = session.covered();
        let leader = self.stream.leader();
        let channels = session.channels();
        let lasts: Vec<_> = channels.iter().map(|one| self.stream.last(one)).collect();
        let compare = || {
            let covered = (&before.up_to[..], before.channels_version);
            session.audit(covered, &leader, &lasts, leader.last)
        };
        assert_ne!(compare(), Audit::Beyond);
        meanwhile();
        if compare() == Audit::Missing {
            let wants = session.track().fall_behind_after_audit();
            if wants {
                self.want(session.clone());
            }
        }
    }

    /// A live message comes to a session.
    pub(crate) fn offer(&self, session: &Arc<Session>, (channel, stored): (Channel, Stored)) {
        let now = Arrival::At(std::time::Instant::now());
        if self.split == Split::NoteAndQueue
            && let Some((source, step)) = session.notes(&channel, stored)
        {
            let outgoing = Outgoing {
                step,
                ..Outgoing::new("live".into(), Some(now), source, &self.limits)
            };
            others();
            session.backlog().extend(vec![outgoing]);
            return;
        }
        let message = Message {
            event: EventName::default(),
            payload: "1".into(),
            channel,
            stored: Some(stored),
            probe: false,
            trace: None,
        };
        let mut frames = Frames::new(&message, usize::MAX);
        let pushed = session.clone().offer(&mut frames, now, &self.limits);
        assert!(!matches!(pushed, Pushed::Overflowed(_) | Pushed::TooLarge));
    }

    /// All sessions together use too much memory, or the session's task has no room for an answer.
    pub(crate) fn shed(&self, session: &Arc<Session>) {
        if self.split != Split::TakeBack {
            session.clone().shed();
            return;
        }
        let taken = session.backlog().take_back();
        others();
        session.track().take_back();
        for outgoing in taken {
            session.track().rewind(outgoing.source);
        }
        let wants = session.backlog().is_idle() && session.track().queue();
        if wants {
            self.want(session.clone());
        }
    }
}

/// Lets other threads run between two steps that are split.
fn others() {
    for _ in 0..30 {
        shuttle::thread::yield_now();
    }
}

impl Session {
    /// Notes a message as sent, where it is the next one of its channel.
    fn notes(&self, channel: &Channel, stored: Stored) -> Option<(Source, Option<Box<Step>>)> {
        let mut track = self.track();
        let index = track.index(channel)?;
        let compared = track.compare(index, stored)?;
        let is_next = matches!(compared, Compared::Next { .. });
        is_next.then(|| {
            let source = track.note_sent(index, stored.seq);
            (source, self.step(&track, index, stored))
        })
    }

    pub(crate) fn is_live(&self) -> bool {
        self.track().is_live()
    }

    /// The stream is another one by now.
    pub(crate) fn disown(&self) {
        self.track().disown();
    }
}
