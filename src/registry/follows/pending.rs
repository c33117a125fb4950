//! Topics that a session is about to follow.

use std::{pin::pin, sync::Arc};

use tokio::time::{Instant, sleep, timeout_at};

use super::{FollowError, Followed, topic};
use crate::{
    channel::{Audience, Topic},
    registry::{
        Entry, Registry, Session,
        membership::{self, Joined},
    },
};

/// Topics that a session is about to follow. Dropping it gives them up.
pub(in crate::registry) struct Pending<'a> {
    registry: &'a Registry,
    session: Arc<dyn Session>,
    pub(super) entries: Vec<Arc<Entry>>,
}

impl Registry {
    /// Subscribes to topics for a session.
    ///
    /// # Errors
    ///
    /// [`FollowError::Unavailable`]: NATS is away. [`FollowError::Full`]: `topics.max` is reached.
    pub(in crate::registry) fn begin_to_follow(
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
    pub(in crate::registry) fn leave(&self, entry: &Arc<Entry>, session: &Arc<dyn Session>) {
        membership::leave(&self.topics, &*self.subscriptions, entry, session);
    }
}

impl Pending<'_> {
    /// Waits until NATS delivers all of them: until it has confirmed them, and `settle` is over.
    /// Returns the number of the connection on which it has confirmed them.
    ///
    /// # Errors
    ///
    /// [`FollowError::Forbidden`]: NATS refuses one. [`FollowError::Unavailable`]: it has not
    /// confirmed all before the deadline.
    pub(super) async fn confirmed(&self, deadline: Instant) -> Result<u64, FollowError> {
        let connection = self.answered(deadline).await?;
        if !self.entries.is_empty() {
            // Waited also behind another session, which may be settling still.
            sleep(self.registry.connection().settle).await;
        }
        Ok(connection)
    }

    /// Waits until NATS has confirmed all of them on this connection, and returns its number.
    ///
    /// # Errors
    ///
    /// As [`Pending::confirmed`].
    pub(in crate::registry) async fn answered(
        &self,
        deadline: Instant,
    ) -> Result<u64, FollowError> {
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
                return Ok(number);
            }
            let waited = timeout_at(deadline, next).await;
            waited.map_err(|_| FollowError::Unavailable)?;
        }
    }

    /// The session begins with them. False if NATS has refused one since it confirmed it.
    pub(in crate::registry) fn begin(&mut self) -> bool {
        for topic in self.entries.iter().filter_map(|entry| topic(entry)) {
            self.session.cease_to_expect(&topic);
        }
        let entries = std::mem::take(&mut self.entries);
        let mut followed = Followed {
            entries: entries.clone(),
            ..Followed::default()
        };
        self.session.follows().change(&mut followed, || {});
        // Only now: a refusal after this finds that the session follows them.
        entries.iter().all(|entry| entry.has(&self.session))
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
