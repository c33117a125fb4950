//! A session's membership among its user's.

use std::{future::poll_fn, sync::Arc};

use bytes::Bytes;
use ulid::Ulid;

use super::{
    Backlog, Entry, FollowError, JoinError, JoinState, Outgoing, Pushed, Registry, Session,
    TopicChange, membership,
};
use crate::{
    channel::Topic,
    close::CloseReason,
    frame::{self, Proof},
    user::UserId,
};

/// A session's membership among its user's. Dropping it leaves.
#[derive(Debug)]
pub struct SessionHandle {
    pub(super) registry: Arc<Registry>,
    pub(super) user: UserId,
    pub(super) held: Arc<Entry>,
    pub(super) session: Arc<dyn Session>,
}

/// Follows and unfollows topics for a session.
#[derive(Debug, Clone)]
pub struct Follower {
    registry: Arc<Registry>,
    session: Arc<dyn Session>,
}

impl Follower {
    /// Changes what the session follows, and has its client told.
    ///
    /// # Errors
    ///
    /// [`FollowError`]; nothing has changed then, nor if the future is dropped.
    pub async fn change(self, change: TopicChange) -> Result<(), FollowError> {
        self.registry.follow(&self.session, change).await
    }
}

impl SessionHandle {
    /// What waits for this session.
    pub fn backlog(&self) -> &Backlog {
        self.session.backlog()
    }

    /// Whose session it is.
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// Waits until a service ends the session, on its way in. Dropping the future is safe.
    pub async fn dismissed(&self) {
        poll_fn(|cx| self.backlog().poll_dismissed(cx)).await;
    }

    /// Commits the session, before its client gets its `welcome`: from here on the session is told
    /// of a loss. A connection that was lost before is an error.
    ///
    /// # Errors
    ///
    /// [`JoinError::Unconfirmed`]: NATS has not confirmed the subscription on this connection.
    pub fn commit(&self) -> Result<(), JoinError> {
        self.backlog().set_join_state(JoinState::Welcomed);
        let registry = &self.registry;
        match registry.is_connected()
            && self.held.confirmed_on() == Some(registry.connection_number())
        {
            true => Ok(()),
            false => Err(JoinError::Unconfirmed),
        }
    }

    /// What follows and unfollows topics for the session, wherever it is done.
    pub fn follower(&self) -> Follower {
        Follower {
            registry: self.registry.clone(),
            session: self.session.clone(),
        }
    }

    /// What it follows.
    pub fn topics(&self) -> Vec<Topic> {
        self.session.follows().topics()
    }

    /// The session has started: its `welcome`, with this id, is queued. If its user has too many
    /// sessions, the oldest is ended.
    pub fn started(&self, id: Ulid) {
        self.backlog().begins(id);
        let limit = self.registry.config.max_sessions_per_user;
        self.held.keep_newest(limit, &self.session);
        self.registry.presence.comes(&self.held);
    }

    /// The frame for scripts that says that the connection is alive, and up to where the
    /// session has everything.
    pub fn ping(&self) -> (Bytes, Option<Proof>) {
        let proof = self.session.proof();
        let ping = self.backlog().protocol().frame(&frame::ping(proof));
        (ping, proof)
    }

    /// The answer to a client's `ping`: the last proof that it was told, again.
    pub fn pong(&self) -> Bytes {
        let proof = self.session.last_proof();
        self.backlog().protocol().frame(&frame::ping(proof))
    }

    /// Queues a frame for this session alone that can't be sent again. It keeps to the bounds
    /// of backlogs: where it has no room, what the stream can send again makes room, or the
    /// session ends.
    pub fn give(&self, frame: Bytes) {
        let limits = &self.registry.limits;
        let outgoing = || Outgoing::own(frame.clone(), limits);
        let backlog = self.backlog();
        if backlog.offer(outgoing(), limits).is_none() {
            self.session.clone().shed();
            if let Pushed::Overflowed(lost) = backlog.push(outgoing(), limits) {
                self.registry.metrics.dropped("slow_consumer", lost);
            }
        }
        limits.check();
    }

    /// The session has written frames that it had taken. Returns whether it is still open.
    pub fn sent(&self, messages: usize, bytes: usize) -> bool {
        let sent = self.backlog().sent(messages, bytes);
        if sent.idle && sent.open {
            self.session.clone().idle();
        }
        sent.open
    }
}

impl Drop for SessionHandle {
    fn drop(&mut self) {
        let registry = &self.registry;
        membership::leave(
            &registry.users,
            &*registry.subscriptions,
            &self.held,
            &self.session,
        );
        for entry in self.session.follows().close() {
            registry.leave(&entry, &self.session);
        }
        registry.presence.goes(&self.held);
        self.backlog().cut(CloseReason::ConnectionLost);
        self.session.left();
    }
}
