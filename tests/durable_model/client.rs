//! The client, and the session's task that writes to it.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    task::{Context, Poll, Waker},
};

use shuttle::thread;
use usher::{
    channel::Channel,
    frame::Proof,
    position::{Begun, Seen, Step, Tracker},
};

use crate::{
    durable::{Durable, Session},
    one_in,
    registry::{JoinState, Next, Session as _, sync::Arc},
};

pub(crate) const TWICE: &str = "a message comes twice, or out of its order";
pub(crate) const HOLE: &str = "a message comes without the one before it";
pub(crate) const MISSING: &str = "a message is missing below a proof";

pub(crate) struct Client {
    durable: Arc<Durable>,
    session: Arc<Session>,
    tracker: Tracker,
    /// What it follows, each with the last message of it that it has or needs not.
    channels: BTreeMap<Channel, u64>,
}

/// Has the session's task return when it has nothing to do: see [`Client::run`].
pub(crate) fn stop(session: &Session) {
    session.backlog().set_join_state(JoinState::Confirmed);
}

impl Client {
    pub(crate) fn new(durable: Arc<Durable>, session: Arc<Session>) -> Self {
        let mut tracker = Tracker::default();
        let epoch = Some("e".into());
        tracker.welcome(epoch, 0, 0, Begun::Complete, []);
        let channels = [(Channel::User, 0), (Channel::Broadcast, 0)];
        Self {
            durable,
            session,
            tracker,
            channels: channels.into(),
        }
    }

    /// Writes what is queued until [`stop`], or the session's end.
    pub(crate) fn run(&mut self) {
        loop {
            let more = poll_fn(|cx| {
                let written = self.write(cx);
                let stops = !self.session.backlog().is_welcomed();
                match written {
                    Poll::Pending if stops => Poll::Ready(false),
                    written => written,
                }
            });
            if !shuttle::future::block_on(more) {
                return;
            }
            if one_in(3) {
                self.ping();
            }
            if one_in(6) {
                self.durable.shed(&self.session);
            }
        }
    }

    /// Writes what is queued. Whether there was anything.
    pub(crate) fn writes(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        matches!(self.write(&mut cx), Poll::Ready(true))
    }

    /// Writes some of what is queued; false at the end.
    fn write(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut taken = Vec::new();
        let limit = if one_in(2) { 1 } else { 2 };
        let backlog = self.session.backlog();
        let next = backlog.poll_next(cx, limit, |outgoing| taken.push(outgoing));
        match next {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Next::Ended(_)) => return Poll::Ready(false),
            Poll::Ready(Next::Frames) => {}
        }
        thread::yield_now();
        let bytes = taken.iter().map(|outgoing| outgoing.bytes.len()).sum();
        let messages = taken.len();
        for outgoing in taken {
            self.sees(*outgoing.step.expect("no frame of another kind"));
        }
        let sent = self.session.backlog().sent(messages, bytes);
        if sent.idle && sent.open {
            self.session.clone().idle();
        }
        Poll::Ready(true)
    }

    /// The session's task pings.
    pub(crate) fn ping(&mut self) {
        if let Some(Proof { seq, at }) = self.session.proof() {
            self.sees(Step::Proof { seq, at });
        }
    }

    fn sees(&mut self, step: Step) {
        match step {
            Step::Event {
                channel,
                seq,
                prev,
                at,
            } => {
                let last = self.channels.get_mut(&channel);
                let last = last.expect("a message of a topic that is not followed");
                *last = seq;
                match self.tracker.event(channel, seq, prev, at) {
                    Seen::New => {}
                    Seen::AfterGap => panic!("{HOLE}"),
                    Seen::Already => panic!("{TWICE}"),
                }
            }
            Step::Following { topics, seq, at } => {
                let had = self.tracker.position().expect("a position").proven;
                assert!(seq >= had, "a topic begins below a proof");
                let topics: Vec<_> = topics.into_iter().map(Channel::Topic).collect();
                let stays = |channel: &Channel| {
                    topics.contains(channel) || !matches!(channel, Channel::Topic(_))
                };
                self.channels.retain(|channel, _| stays(channel));
                for channel in &topics {
                    self.channels.entry(channel.clone()).or_insert(seq);
                }
                let names = topics.into_iter().filter_map(|channel| match channel {
                    Channel::Topic(topic) => Some(topic),
                    Channel::User | Channel::Broadcast => None,
                });
                self.tracker.following(names, seq, at);
            }
            Step::Proof { seq, at } => {
                for (channel, last) in &self.channels {
                    let missing = self.durable.stream.after(channel, *last);
                    let missing = missing.iter().any(|stored| stored.seq <= seq);
                    assert!(!missing, "{MISSING}");
                }
                self.tracker.proof(seq, at);
            }
        }
    }

    /// It has every message of what it follows.
    pub(crate) fn has_all(&self) {
        for (channel, last) in &self.channels {
            let missing = self.durable.stream.after(channel, *last);
            assert!(missing.is_empty(), "complete and live, without {missing:?}");
        }
    }
}
