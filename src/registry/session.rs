//! A session, as the registry sees it, and the session of live mode. Durable mode brings its
//! own (`durable/session.rs`).

use std::{fmt, future::ready, sync::Arc};

use futures_util::future::BoxFuture;

use super::{
    arrival::Arrival,
    backlog::{Backlog, Outgoing, Source},
    follows::{FollowError, Followed, Follows, Recovery},
    limits::Limits,
    membership::Member,
};
use crate::{
    channel::{Audience, Channel, Topic},
    close::CloseReason,
    frame::{
        Framed, Frames, Proof, Protocol, answer,
        centrifuge::{self, Changed},
    },
};

/// What became of a message at one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// The session will write it.
    Queued,
    /// The session will write it. The backlog is more than half full, and only because the
    /// session has not had its turn: see [`Backlog::needs_turn`].
    NeedsTurn,
    /// The session is over.
    Over,
    /// The session is over now. How many messages are lost, this one included.
    Overflowed(usize),
    /// The message is too large for a frame. The session is told so in its place, or has
    /// ended.
    TooLarge,
    /// Nothing is queued now: the session has the message already, gets it from the stream
    /// later, or is not meant to get it (a probe, a topic that it does not follow).
    NotQueued,
}

/// A session that follows channels. The registry calls it for what the bus says.
pub trait Session: fmt::Debug + Send + Sync {
    /// What waits for the client.
    fn backlog(&self) -> &Backlog;

    /// The topics that it follows.
    fn follows(&self) -> &Follows;

    /// Asks where topics begin that NATS delivers by now. `since` says where the client was in the
    /// only one. The session does not follow them before [`Commit`].
    ///
    /// # Errors
    ///
    /// [`FollowError`]; nothing has changed then, nor if the future is dropped.
    fn prepare(
        self: Arc<Self>,
        topics: Vec<Topic>,
        since: Option<Recovery>,
    ) -> BoxFuture<'static, Result<Commit, FollowError>>;

    /// Messages of this topic may come from now on, though it does not follow it yet.
    fn expect(&self, _topic: &Topic) {}

    /// It does not come to follow this topic.
    fn cease_to_expect(&self, _topic: &Topic) {}

    /// A message comes on one of its channels. All sessions that it is for share `frames`.
    fn offer(self: Arc<Self>, frames: &mut Frames<'_>, arrival: Arrival, limits: &Limits)
    -> Pushed;

    /// The connection to NATS is lost, or about to be used again.
    fn lost(&self) {}

    /// The connection to NATS is back. Whether the session sees to what it missed by itself;
    /// else it has to be told.
    fn catches_up(self: Arc<Self>) -> bool {
        false
    }

    /// It has left, and is over: it gets nothing more.
    fn left(&self) {}

    /// Takes its backlog back, to be sent again later. False where it can't be.
    fn shed(self: Arc<Self>) -> bool {
        false
    }

    /// Bytes that [`Session::shed`] frees.
    fn sheddable(&self) -> usize {
        0
    }

    /// The client was written everything that was queued.
    fn idle(self: Arc<Self>) {}

    /// What a `ping` tells the client: up to where it has everything.
    fn proof(&self) -> Option<Proof> {
        None
    }

    /// The last proof that the client was told; `None` if it was told none, or has since
    /// fallen behind.
    fn last_proof(&self) -> Option<Proof> {
        None
    }

    /// Whether everything to its user up to a sequence is queued.
    fn has_up_to(&self, _seq: u64) -> bool {
        false
    }
}

/// Changes what a session follows, by [`Follows::change`], and tells its client at that moment. If
/// it fails, nothing has changed.
pub type Commit = Box<dyn FnOnce(Followed) -> Result<(), FollowError> + Send>;

/// A session of live mode: what its backlog can't hold ends it.
#[derive(Debug)]
pub struct Live {
    backlog: Backlog,
    follows: Follows,
    limits: Arc<Limits>,
}

impl Live {
    /// A session on its way in.
    pub fn new(protocol: Protocol, limits: Arc<Limits>) -> Arc<Self> {
        Arc::new(Self {
            backlog: Backlog::new(protocol),
            follows: Follows::default(),
            limits,
        })
    }

    fn change_topics(&self, mut followed: Followed) -> Result<(), FollowError> {
        let protocol = self.backlog.protocol();
        let frame = match protocol.is_centrifuge() {
            true => centrifuge::changed(
                protocol,
                &Changed {
                    id: followed.id.as_deref(),
                    new: &followed.new,
                    gone: &followed.gone,
                    follows: followed.follows,
                    recovers: followed.recovers,
                    stream: None,
                },
            ),
            false => protocol.has_own_frames().then(|| {
                let following = answer::following(followed.id.as_deref(), &followed.all, None);
                protocol.frame(&following)
            }),
        };
        let changed = self.follows.change(&mut followed, || {
            if let Some(frame) = frame {
                let frame = Outgoing::own(frame, &self.limits);
                self.backlog.push(frame, &self.limits);
                self.limits.check();
            }
        });
        match changed {
            true => Ok(()),
            false => Err(FollowError::Over),
        }
    }

    fn push(&self, framed: Framed, arrival: Arrival, limits: &Limits) -> Pushed {
        let own = |bytes| Outgoing::new(bytes, Some(arrival), Source::Own, limits);
        match framed {
            Framed::Whole(bytes) => self.backlog.push(own(bytes), limits),
            Framed::TooLarge(Some(gap)) => match self.backlog.push(own(gap), limits) {
                Pushed::Queued | Pushed::NeedsTurn => Pushed::TooLarge,
                pushed => pushed,
            },
            Framed::TooLarge(None) => {
                self.backlog.end(CloseReason::TooLarge.into());
                Pushed::TooLarge
            }
        }
    }
}

impl Session for Live {
    fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    fn follows(&self) -> &Follows {
        &self.follows
    }

    fn prepare(
        self: Arc<Self>,
        _topics: Vec<Topic>,
        since: Option<Recovery>,
    ) -> BoxFuture<'static, Result<Commit, FollowError>> {
        // Nothing is kept that could be sent again.
        let commit: Result<Commit, _> = match since.is_some_and(|since| since.required) {
            true => Err(FollowError::Unrecoverable),
            false => Ok(Box::new(move |followed| self.change_topics(followed))),
        };
        Box::pin(ready(commit))
    }

    fn offer(
        self: Arc<Self>,
        frames: &mut Frames<'_>,
        arrival: Arrival,
        limits: &Limits,
    ) -> Pushed {
        let framed = frames.get(self.backlog.protocol());
        match &frames.message().channel {
            Channel::User | Channel::Broadcast => self.push(framed, arrival, limits),
            // It comes before the client is told that it follows the topic, or after it was
            // told that it does not.
            Channel::Topic(topic) => {
                let pushed = self
                    .follows
                    .with(topic, || self.push(framed, arrival, limits));
                pushed.unwrap_or(Pushed::NotQueued)
            }
        }
    }
}

impl Member<Audience> for Arc<dyn Session> {
    fn confirmed(&self, of: &Audience) {
        match of {
            Audience::User(_) => self.backlog().confirm(),
            Audience::Topic(_) => self.follows().nats_answered(),
        }
    }

    fn is_welcomed(&self) -> bool {
        self.backlog().is_welcomed() && self.backlog().is_open()
    }

    fn replaced(&self) {
        self.backlog().end(CloseReason::Replaced.into());
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(self, other)
    }
}
