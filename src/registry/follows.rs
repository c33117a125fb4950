//! The topics that a session follows. NATS is subscribed to a topic exactly while a session
//! here follows it.

mod pending;
mod turns;

use std::sync::{Arc, Mutex, OnceLock};

use futures_util::{
    FutureExt as _,
    future::{join_all, try_join},
};
use tokio::{sync::Notify, time::Instant};

pub(super) use self::pending::Pending;
use self::turns::Turns;
use super::{CONFIRM, Entry, Registry, Session, session::Commit, sync::lock};
use crate::{
    channel::{Audience, Topic},
    close::CloseReason,
    frame::centrifuge,
    grants::Grants,
    position::Mark,
    user::UserId,
};

/// What a session follows. One that follows nothing has no more than a pointer.
#[derive(Debug, Default)]
pub struct Follows(OnceLock<Box<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    /// The changes under way.
    turns: Turns,
    /// NATS has confirmed or refused one of the topics.
    answered: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// In the order in which they were followed.
    entries: Vec<Arc<Entry>>,
    /// The session has left.
    over: bool,
}

/// What changes of a session's topics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Followed from now on; what is followed already stays.
    pub follow: Vec<Topic>,
    /// Followed no more.
    pub unfollow: Vec<Topic>,
    /// Also unfollow all topics that these grants do not allow, as of when earlier changes are made.
    pub keep_only: Option<Box<Grants>>,
    /// The `id` of the client's command, which its answer repeats.
    pub id: Option<String>,
    /// Follow as many of the new topics as the session may. Without this it follows none of them if
    /// they are too many.
    pub up_to_limit: bool,
    /// Over the Centrifuge protocol: where the client was in the topic.
    pub since: Option<Recovery>,
}

/// A client of the Centrifuge protocol wants what it missed of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// Where it was.
    pub mark: Mark,
    /// If it does not get everything that it missed, it does not want to follow the topic.
    pub required: bool,
}

/// A change that is about to be made: NATS delivers the new topics' messages.
#[derive(Debug, Default)]
pub struct Followed {
    /// Topics that were not followed.
    pub new: Vec<Topic>,
    /// Topics that are followed no more.
    pub gone: Vec<Topic>,
    /// All that is followed then.
    pub all: Vec<Topic>,
    /// [`Change::id`]
    pub id: Option<String>,
    /// The client wants what it missed: [`Change::since`].
    pub recovers: bool,
    /// Something was to be followed.
    pub follows: bool,
    entries: Vec<Arc<Entry>>,
}

/// Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// The session would follow more than it may.
    #[error("a session follows {0} topics at most (topics.max_per_session)")]
    TooMany(usize),
    /// The gateway would.
    #[error("this gateway follows as many topics as it may (topics.max); try again later")]
    Full,
    /// NATS permits this gateway no subscription to one of the topics.
    #[error("NATS forbids the subscription to one of the topics")]
    Forbidden,
    /// The session follows the topic already, and its protocol answers that with an error.
    #[error("the session follows this topic already")]
    Already,
    /// The client wants the topic only with everything that it missed, which it can't have.
    #[error("not everything that was missed can be sent")]
    Unrecoverable,
    /// NATS, or the stream, is away or slow.
    #[error("NATS did not confirm the topics in time; try again")]
    Unavailable,
    /// The session is over.
    #[error("the session is over")]
    Over,
}

/// New topics that NATS delivers to the session by now, and what makes the session follow them.
struct Prepared<'a> {
    pending: Pending<'a>,
    commit: Commit,
    /// The number of the connection on which NATS has confirmed them.
    connection: u64,
}

/// What a change comes to, with what the session follows now.
struct Plan {
    new: Vec<Topic>,
    gone: Vec<Topic>,
    all: Vec<Topic>,
}

impl Plan {
    /// # Errors
    ///
    /// [`FollowError::TooMany`]
    fn of(change: &Change, now: Vec<Topic>, limit: usize) -> Result<Self, FollowError> {
        let mut new: Vec<Topic> = Vec::new();
        for topic in &change.follow {
            if new.len() > limit && !change.up_to_limit {
                return Err(FollowError::TooMany(limit));
            }
            if !now.contains(topic) && !new.contains(topic) && !change.unfollow.contains(topic) {
                new.push(topic.clone());
            }
        }
        let (gone, mut all): (Vec<_>, Vec<_>) = now.into_iter().partition(|topic| {
            let keep_only = change.keep_only.as_ref();
            change.unfollow.contains(topic)
                || keep_only.is_some_and(|grants| !grants.may_follow(topic))
        });
        if change.up_to_limit {
            new.truncate(limit.saturating_sub(all.len()));
        }
        all.extend(new.iter().cloned());
        if !new.is_empty() && all.len() > limit {
            return Err(FollowError::TooMany(limit));
        }
        Ok(Self { new, gone, all })
    }
}

impl Follows {
    /// The topics, in the order in which they were followed.
    pub fn topics(&self) -> Vec<Topic> {
        self.entries()
            .iter()
            .filter_map(|entry| topic(entry))
            .collect()
    }

    /// Calls `f` where the session follows a topic, while that does not change.
    pub fn with<R>(&self, wanted: &Topic, f: impl FnOnce() -> R) -> Option<R> {
        let state = lock(&self.0.get()?.state);
        let mut topics = state.entries.iter().filter_map(|entry| topic(entry));
        let follows = topics.any(|topic| topic == *wanted);
        follows.then(f)
    }

    /// Makes a change, and calls `then` before another one, or what it decides. False where the
    /// session has left.
    pub fn change(&self, followed: &mut Followed, then: impl FnOnce()) -> bool {
        let mut state = lock(&self.inner().state);
        if state.over {
            return false;
        }
        state.entries.retain(|entry| {
            let topic = topic(entry);
            !topic.is_some_and(|topic| followed.gone.contains(&topic))
        });
        state.entries.append(&mut followed.entries);
        then();
        true
    }

    /// NATS has confirmed or refused a topic of the session.
    pub(super) fn nats_answered(&self) {
        if let Some(inner) = self.0.get() {
            inner.answered.notify_waiters();
        }
    }

    /// The session has left. Returns what it followed.
    pub(super) fn close(&self) -> Vec<Arc<Entry>> {
        let Some(inner) = self.0.get() else {
            return Vec::new();
        };
        let mut state = lock(&inner.state);
        state.over = true;
        std::mem::take(&mut state.entries)
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        let inner = self.0.get();
        inner.map_or_else(Vec::new, |inner| lock(&inner.state).entries.clone())
    }

    fn inner(&self) -> &Inner {
        self.0.get_or_init(Box::default)
    }
}

impl Registry {
    /// Topics that sessions here follow.
    pub fn topics(&self) -> usize {
        self.topics.0.len()
    }

    /// Changes what a session follows, and has it told. From then on nothing of a new topic is
    /// missing.
    ///
    /// # Errors
    ///
    /// [`FollowError`]; nothing has changed then, nor if the future is dropped.
    pub async fn follow(
        &self,
        session: &Arc<dyn Session>,
        change: Change,
    ) -> Result<(), FollowError> {
        let changed = self.change_followed(session, change).await;
        match changed {
            Ok(()) => self.metrics.topics.count("followed"),
            Err(FollowError::TooMany(_) | FollowError::Full) => {
                self.metrics.topics.count("too_many");
            }
            Err(FollowError::Forbidden | FollowError::Unavailable) => {
                self.metrics.topics.count("unavailable");
            }
            Err(FollowError::Already | FollowError::Unrecoverable | FollowError::Over) => {}
        }
        changed
    }

    /// Several changes of a session wait for NATS and the stream at the same time: a client with
    /// many topics waits as long as a client with one. Each change is made in its turn.
    async fn change_followed(
        &self,
        session: &Arc<dyn Session>,
        mut change: Change,
    ) -> Result<(), FollowError> {
        let follows = session.follows();
        let follows_some = !change.follow.is_empty();
        let is_centrifuge = session.backlog().protocol().is_centrifuge();
        change
            .follow
            .retain(|topic| !is_centrifuge || centrifuge::is_offered(topic));
        let limit = self.config.max_topics_per_session;
        let plan = |change: &Change, now| Plan::of(change, now, limit);
        // Dropped last: until then no other change may join one of these topics.
        let (turn, now) = follows.inner().turns.begin(&change, || follows.topics());
        let early = now.and_then(|now| plan(&change, now).ok());
        let early = early.map_or_else(Vec::new, |plan| plan.new);
        let preparing = self.prepare(session, early.clone(), &change);
        let comes = turn.comes().map(Ok);
        let (mut prepared, ()) = try_join(preparing, comes).await?;

        let Plan { new, gone, all } = plan(&change, follows.topics())?;
        // A client of the Centrifuge protocol subscribes to one topic at a time, and is told.
        if is_centrifuge && change.id.is_some() && follows_some && new.is_empty() {
            return Err(FollowError::Already);
        }
        let reconnected = prepared.connection != self.connection_number();
        if new != early || (reconnected && !new.is_empty()) {
            // Before the session joins one of them again.
            drop(prepared);
            prepared = self.prepare(session, new.clone(), &change).await?;
        }
        let mut left = follows.entries();
        left.retain(|entry| topic(entry).is_some_and(|topic| gone.contains(&topic)));
        let followed = Followed {
            new,
            gone,
            all,
            id: change.id,
            recovers: change.since.is_some(),
            follows: follows_some,
            entries: prepared.pending.entries.clone(),
        };
        (prepared.commit)(followed)?;
        // They are the session's now.
        let entries = std::mem::take(&mut prepared.pending.entries);
        if !entries.iter().all(|entry| entry.has(session)) {
            // NATS has refused a topic just before: then whoever refuses it did not see that the
            // session follows it.
            session.backlog().end(CloseReason::Internal.into());
        }
        for entry in left {
            self.leave(&entry, session);
        }
        Ok(())
    }

    /// Has NATS deliver topics to a session, and asks the session where they begin.
    ///
    /// # Errors
    ///
    /// [`FollowError`] of [`Pending::confirmed`] and [`Session::prepare`].
    async fn prepare(
        &self,
        session: &Arc<dyn Session>,
        topics: Vec<Topic>,
        change: &Change,
    ) -> Result<Prepared<'_>, FollowError> {
        let deadline = Instant::now() + CONFIRM;
        let pending = self.begin_to_follow(session, &topics)?;
        let connection = pending.confirmed(deadline).await?;
        let commit = session.clone().prepare(topics, change.since.clone());
        Ok(Prepared {
            commit: commit.await?,
            pending,
            connection,
        })
    }

    /// Changes what the open sessions of a user follow. Returns how many were changed.
    pub async fn change_topics(&self, user: &UserId, change: &Change) -> usize {
        let mut sessions = Vec::new();
        if let Some(held) = self.user(user) {
            held.each(|session| {
                if session.backlog().is_welcomed() && session.backlog().is_open() {
                    sessions.push(session.clone());
                }
            });
        }
        let changes = sessions
            .iter()
            .map(|session| self.follow(session, change.clone()));
        let changed = join_all(changes).await;
        changed.iter().filter(|changed| changed.is_ok()).count()
    }
}

fn topic(entry: &Entry) -> Option<Topic> {
    match entry.key() {
        Audience::Topic(topic) => Some(topic.clone()),
        Audience::User(_) => None,
    }
}
