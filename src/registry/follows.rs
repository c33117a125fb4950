//! The topics that a session follows. NATS is subscribed to a topic exactly while a session
//! here follows it.

use std::{
    pin::pin,
    sync::{Arc, Mutex, OnceLock},
};

use futures_util::future::join_all;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout_at},
};

use super::{
    CONFIRM, Entry, Registry, Session,
    membership::{self, Joined},
    sync::lock,
};
use crate::{
    channel::{Audience, Topic},
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
    /// One change at a time.
    turn: tokio::sync::Mutex<()>,
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
    /// Over the Centrifuge protocol: where the client was in the topic.
    pub since: Option<Mark>,
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
    /// [`Change::since`]
    pub since: Option<Mark>,
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
    /// NATS, or the stream, is away or slow.
    #[error("NATS did not confirm the topics in time; try again")]
    Unavailable,
    /// The session is over.
    #[error("the session is over")]
    Over,
}

/// Topics that a session is about to follow. Dropping it gives them up.
pub(super) struct Pending<'a> {
    registry: &'a Registry,
    session: Arc<dyn Session>,
    entries: Vec<Arc<Entry>>,
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
            Err(FollowError::Already | FollowError::Over) => {}
        }
        changed
    }

    async fn change_followed(
        &self,
        session: &Arc<dyn Session>,
        change: Change,
    ) -> Result<(), FollowError> {
        let follows = session.follows();
        let _turn = follows.inner().turn.lock().await;
        let deadline = Instant::now() + CONFIRM;
        let now = follows.topics();
        let mut new: Vec<Topic> = Vec::new();
        let follows_some = !change.follow.is_empty();
        let is_centrifuge = session.backlog().protocol().is_centrifuge();
        let offered = |topic: &Topic| !is_centrifuge || centrifuge::is_offered(topic);
        let limit = self.config.max_topics_per_session;
        for topic in change.follow.into_iter().filter(offered) {
            if new.len() > limit {
                return Err(FollowError::TooMany(limit));
            }
            if !now.contains(&topic) && !new.contains(&topic) && !change.unfollow.contains(&topic) {
                new.push(topic);
            }
        }
        // A client of the Centrifuge protocol subscribes to one topic at a time, and is told.
        if is_centrifuge && change.id.is_some() && follows_some && new.is_empty() {
            return Err(FollowError::Already);
        }
        let is_gone = |topic: &Topic| {
            let keep_only = change.keep_only.as_ref();
            change.unfollow.contains(topic)
                || keep_only.is_some_and(|grants| !grants.may_follow(topic))
        };
        let (gone, mut all): (Vec<_>, Vec<_>) = now.into_iter().partition(is_gone);
        all.extend(new.iter().cloned());
        if !new.is_empty() && all.len() > limit {
            return Err(FollowError::TooMany(limit));
        }
        let left: Vec<_> = follows.entries();
        let left = left
            .into_iter()
            .filter(|entry| topic(entry).as_ref().is_some_and(is_gone));
        let left: Vec<_> = left.collect();
        let mut pending = self.begin_to_follow(session, &new)?;
        pending.confirmed(deadline).await?;
        let followed = Followed {
            new,
            gone,
            all,
            id: change.id,
            since: change.since,
            follows: follows_some,
            entries: pending.entries.clone(),
        };
        session.clone().follow(followed).await?;
        // They are the session's now.
        pending.entries.clear();
        for entry in left {
            self.leave(&entry, session);
        }
        Ok(())
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

    /// Subscribes to topics for a session.
    ///
    /// # Errors
    ///
    /// [`FollowError::Unavailable`]: NATS is away. [`FollowError::Full`]: `topics.max` is reached.
    pub(super) fn begin_to_follow(
        &self,
        session: &Arc<dyn Session>,
        topics: &[Topic],
    ) -> Result<Pending<'_>, FollowError> {
        let mut pending = Pending {
            registry: self,
            session: session.clone(),
            entries: Vec::with_capacity(topics.len()),
        };
        if topics.is_empty() {
            return Ok(pending);
        }
        if !self.is_connected() {
            return Err(FollowError::Unavailable);
        }
        // So that what NATS says of them wakes who waits.
        session.follows().inner();
        for topic in topics {
            let audience = Audience::Topic(topic.clone());
            let held = self.topics.0.contains_key(&audience);
            if !held && self.topics.0.len() >= self.config.max_topics {
                return Err(FollowError::Full);
            }
            session.expect(topic);
            let Joined { held, .. } = membership::join(
                &self.topics,
                &*self.subscriptions,
                &audience,
                session.clone(),
            );
            pending.entries.push(held);
        }
        Ok(pending)
    }

    /// A session no longer follows a topic.
    pub(super) fn leave(&self, entry: &Arc<Entry>, session: &Arc<dyn Session>) {
        membership::leave(&self.topics, &*self.subscriptions, entry, session);
    }
}

impl Pending<'_> {
    /// Waits until NATS delivers all of them: until it has confirmed them, and `settle` is over.
    ///
    /// # Errors
    ///
    /// [`FollowError::Forbidden`]: NATS refuses one. [`FollowError::Unavailable`]: it has not
    /// confirmed all before the deadline.
    pub(super) async fn confirmed(&self, deadline: Instant) -> Result<(), FollowError> {
        if self.entries.is_empty() {
            return Ok(());
        }
        self.answered(deadline).await?;
        // Waited also behind another session, which may be settling still.
        sleep(self.registry.connection().settle).await;
        Ok(())
    }

    /// Waits until NATS has confirmed all of them on this connection.
    ///
    /// # Errors
    ///
    /// As [`Pending::confirmed`].
    pub(super) async fn answered(&self, deadline: Instant) -> Result<(), FollowError> {
        let answered = &self.session.follows().inner().answered;
        loop {
            let mut next = pin!(answered.notified());
            next.as_mut().enable();
            let number = self.registry.connection_number();
            let mut all = true;
            for entry in &self.entries {
                if !entry.has(&self.session) {
                    return Err(FollowError::Forbidden);
                }
                all &= entry.confirmed_on() == Some(number);
            }
            if all {
                return Ok(());
            }
            let waited = timeout_at(deadline, next).await;
            waited.map_err(|_| FollowError::Unavailable)?;
        }
    }

    /// The session begins with them.
    pub(super) fn begin(&mut self) {
        for topic in self.entries.iter().filter_map(|entry| topic(entry)) {
            self.session.cease_to_expect(&topic);
        }
        let mut followed = Followed {
            entries: std::mem::take(&mut self.entries),
            ..Followed::default()
        };
        self.session.follows().change(&mut followed, || {});
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        for entry in self.entries.drain(..) {
            if let Some(topic) = topic(&entry) {
                self.session.cease_to_expect(&topic);
            }
            self.registry.leave(&entry, &self.session);
        }
    }
}

fn topic(entry: &Entry) -> Option<Topic> {
    match entry.key() {
        Audience::Topic(topic) => Some(topic.clone()),
        Audience::User(_) => None,
    }
}
