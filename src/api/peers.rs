//! The connections of callers: how many there may be, and which one has to go when a
//! newcomer needs its room.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::metrics::Metrics;

/// How long a connection may send nothing. After that it may be closed to make room. A good
/// caller is through with TLS and the preface by then.
const SILENT: Duration = Duration::from_millis(500);
/// How long a connection that speaks HTTP may go without a call that was let in. After that it
/// may be closed to make room.
const STRANGE: Duration = Duration::from_secs(10);
/// Health checks under way on one connection; they need no token.
const MAX_HEALTH_CHECKS: usize = 16;

/// All connections.
#[derive(Debug)]
pub(super) struct Peers {
    most: usize,
    here: Mutex<Here>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Here {
    next: u64,
    /// In the order in which they came.
    peers: BTreeMap<u64, Arc<Peer>>,
}

/// One connection, as its calls see it.
#[derive(Debug)]
pub(super) struct Peer {
    since: Instant,
    standing: AtomicU8,
    flooded: AtomicBool,
    heard: Notify,
    cut: Notify,
    ending: watch::Sender<bool>,
    health_checks: AtomicUsize,
}

/// How well a connection is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Standing {
    /// Nothing was heard yet that is HTTP.
    Silent,
    /// It speaks HTTP.
    Stranger,
    /// It has made a call that was let in.
    Caller,
}

/// A connection's permit among all; dropping it frees the permit.
#[derive(Debug)]
pub(super) struct Permit {
    id: u64,
    peer: Arc<Peer>,
    peers: Arc<Peers>,
}

/// A health check under way; dropping it ends it.
#[derive(Debug)]
pub(super) struct HealthCheck(Arc<Peer>);

impl Peers {
    /// At most `most` connections.
    pub(super) fn new(most: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            most,
            here: Mutex::default(),
            metrics,
        })
    }

    /// A permit for a connection that was just accepted. Where all are taken, the oldest
    /// connection that has not made a call goes, if there is one that has had its time;
    /// otherwise there is none, and the newcomer has to be closed.
    pub(super) fn admit(self: &Arc<Self>) -> Option<Permit> {
        let peer = Arc::new(Peer::new());
        let mut here = self.here();
        if here.peers.len() >= self.most {
            let Some(oldest) = here.oldest_evictable() else {
                drop(here);
                self.metrics.grpc_connections_cut("too_many");
                return None;
            };
            if let Some(evicted) = here.peers.remove(&oldest) {
                evicted.cut.notify_one();
                self.metrics.grpc_connections_cut("made_room");
            }
        }
        let id = here.next;
        here.next += 1;
        here.peers.insert(id, peer.clone());
        self.count(&here);
        drop(here);
        Some(Permit {
            id,
            peer,
            peers: self.clone(),
        })
    }

    fn count(&self, here: &Here) {
        let count = i64::try_from(here.peers.len()).unwrap_or(i64::MAX);
        self.metrics.grpc_connections.set(count);
    }

    fn here(&self) -> MutexGuard<'_, Here> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Here {
    fn oldest_evictable(&self) -> Option<u64> {
        let now = Instant::now();
        let (id, _) = self.peers.iter().find(|(_, peer)| {
            let patience = match peer.standing() {
                Standing::Silent => SILENT,
                Standing::Stranger => STRANGE,
                Standing::Caller => return false,
            };
            now.duration_since(peer.since) >= patience
        })?;
        Some(*id)
    }
}

impl Permit {
    /// The connection, for its calls.
    pub(super) fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut here = self.peers.here();
        // One that made room for another is gone from there.
        here.peers.remove(&self.id);
        self.peers.count(&here);
    }
}

impl Peer {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            standing: AtomicU8::new(Standing::Silent as u8),
            flooded: AtomicBool::new(false),
            heard: Notify::new(),
            cut: Notify::new(),
            ending: watch::Sender::new(false),
            health_checks: AtomicUsize::new(0),
        }
    }

    /// The connection speaks HTTP.
    pub(super) fn spoke(&self) {
        self.rise(Standing::Stranger);
    }

    /// One of its calls was let in.
    pub(super) fn called(&self) {
        self.rise(Standing::Caller);
    }

    /// It has sent too many frames before a call that was let in.
    pub(super) fn flood(&self) {
        self.flooded.store(true, Ordering::Relaxed);
    }

    /// Whether it has.
    pub(super) fn has_flooded(&self) -> bool {
        self.flooded.load(Ordering::Relaxed)
    }

    /// Whether nothing was heard yet that is HTTP.
    pub(super) fn is_silent(&self) -> bool {
        self.standing() == Standing::Silent
    }

    /// Whether one of its calls was let in.
    pub(super) fn is_caller(&self) -> bool {
        self.standing() == Standing::Caller
    }

    fn rise(&self, to: Standing) {
        let before = self.standing.fetch_max(to as u8, Ordering::Relaxed);
        if before == Standing::Silent as u8 {
            self.heard.notify_one();
        }
    }

    fn standing(&self) -> Standing {
        match self.standing.load(Ordering::Relaxed) {
            0 => Standing::Silent,
            1 => Standing::Stranger,
            _ => Standing::Caller,
        }
    }

    /// Returns when something was heard that is HTTP. For one task alone.
    pub(super) async fn heard(&self) {
        self.heard.notified().await;
    }

    /// Returns when the connection has to make room for another.
    pub(super) async fn cut(&self) {
        self.cut.notified().await;
    }

    /// Tells the calls of the connection that it was asked to close.
    pub(super) fn end(&self) {
        self.ending.send_replace(true);
    }

    /// True from the moment at which the connection was asked to close: streams that
    /// would go on for ever end then.
    pub(super) fn ending(&self) -> watch::Receiver<bool> {
        self.ending.subscribe()
    }

    /// A health check more, where there are not too many under way.
    pub(super) fn begin_health_check(self: &Arc<Self>) -> Option<HealthCheck> {
        let more = |now| (now < MAX_HEALTH_CHECKS).then_some(now + 1);
        let checks = &self.health_checks;
        let begun = checks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        begun.ok()?;
        Some(HealthCheck(self.clone()))
    }
}

impl Drop for HealthCheck {
    fn drop(&mut self) {
        self.0.health_checks.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn peers(most: usize) -> Arc<Peers> {
        Peers::new(most, Arc::new(Metrics::new()))
    }

    fn is_cut(permit: &Permit) -> bool {
        futures_util::FutureExt::now_or_never(permit.peer().cut()).is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_beyond_the_limit_gets_no_place() {
        let peers = peers(2);
        let first = peers.admit().expect("a permit");
        let second = peers.admit().expect("a permit");
        assert!(peers.admit().is_none(), "both have just come");
        drop(first);
        let third = peers.admit().expect("a permit");
        assert!(!is_cut(&second) && !is_cut(&third));
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_silent_connection_makes_room() {
        let peers = peers(3);
        let caller = peers.admit().expect("a permit");
        caller.peer().called();
        let old = peers.admit().expect("a permit");
        advance(SILENT).await;
        let young = peers.admit().expect("a permit");
        let newcomer = peers.admit().expect("the old one's permit");
        assert!(is_cut(&old) && !is_cut(&young) && !is_cut(&caller));
        // Its permit is not freed twice.
        drop(old);
        assert!(peers.admit().is_none());
        drop(newcomer);
        assert!(peers.admit().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stranger_has_more_time_than_a_silent_one_and_a_caller_all() {
        let peers = peers(2);
        let caller = peers.admit().expect("a permit");
        caller.peer().called();
        caller.peer().spoke();
        let stranger = peers.admit().expect("a permit");
        stranger.peer().spoke();
        advance(STRANGE - Duration::from_millis(1)).await;
        assert!(peers.admit().is_none());
        advance(Duration::from_millis(1)).await;
        assert!(peers.admit().is_some());
        assert!(is_cut(&stranger) && !is_cut(&caller));
    }

    #[tokio::test]
    async fn health_checks_of_a_connection_are_counted() {
        let peer = Arc::new(Peer::new());
        let checks: Vec<_> = std::iter::from_fn(|| peer.begin_health_check()).collect();
        assert_eq!(checks.len(), MAX_HEALTH_CHECKS);
        drop(checks);
        assert!(peer.begin_health_check().is_some());
    }
}
