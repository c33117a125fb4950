//! Who comes and goes, for the module `presence`, which tells services: a queue of changes that it
//! reads, and what it asks and notes here. Without a reader nothing is queued.

use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;

use super::{Entry, Registry};
use crate::{channel::Audience, metrics::Metrics, user::UserId};

/// Changes that wait for the reader. It takes microseconds for each.
const QUEUE: usize = 65_536;

/// A user's first session was welcomed, or the last one has left. More may have happened
/// since: see [`Registry::is_here`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Who it is.
    pub user: UserId,
    /// Whether the user has come.
    pub came: bool,
}

/// Where changes go.
#[derive(Debug)]
pub(super) struct Presence {
    changes: OnceLock<mpsc::Sender<Change>>,
    metrics: Arc<Metrics>,
}

impl Presence {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        let changes = OnceLock::new();
        Self { changes, metrics }
    }

    /// A session of this user was welcomed.
    pub(super) fn comes(&self, held: &Entry) {
        if let Some(changes) = self.changes.get() {
            held.comes(|| self.queue(changes, held, true));
        }
    }

    /// A session of this user has left.
    pub(super) fn goes(&self, held: &Entry) {
        if let Some(changes) = self.changes.get()
            && held.goes()
        {
            self.queue(changes, held, false);
        }
    }

    /// Another gateway asks whether the user is here. Returns `sessions`, or 0 while no session of
    /// the user was welcomed.
    pub(super) fn counts(&self, held: &Entry, sessions: usize) -> usize {
        match self.changes.get() {
            // One that is on its way in may never be.
            Some(_) if !held.is_here() => 0,
            _ => sessions,
        }
    }

    fn queue(&self, changes: &mpsc::Sender<Change>, held: &Entry, came: bool) -> bool {
        let Audience::User(user) = held.key().clone() else {
            return false;
        };
        let queued = changes.try_send(Change { user, came }).is_ok();
        if !queued {
            self.metrics.presence_dropped.inc();
        }
        queued
    }
}

impl Registry {
    /// Changes from now on, for one reader: a second one gets nothing.
    pub fn changes(&self) -> mpsc::Receiver<Change> {
        let (sender, changes) = mpsc::channel(QUEUE);
        let _ = self.presence.changes.set(sender);
        changes
    }

    /// Whether a user has come, and has not gone, by what [`Registry::changes`] tells.
    pub fn is_here(&self, user: &UserId) -> bool {
        self.user(user).is_some_and(|entry| entry.is_here())
    }

    /// Services know by this gateway that a user is online: so probes are answered until the
    /// user goes.
    pub fn announce(&self, user: &UserId) {
        if let Some(entry) = self.user(user) {
            entry.announce();
        }
    }
}
