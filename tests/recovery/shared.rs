//! What clients, publishers and faults of a run all know.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::{RwLock, watch},
    time::Instant,
};

use crate::auditor::{Auditor, Channels, Heard, Id, Retention, To, What};

/// The largest frame that a session is sent, in KiB.
pub(crate) const MAX_FRAME_KIB: usize = 64;
/// So many of a client's last frames are looked at.
const LATELY: usize = 1000;
/// Gateways side by side.
pub(crate) const GATEWAYS: usize = 3;

/// What a run does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Everybody publishes and reads.
    Running,
    /// No new message is sent; those under way are sent until they are acknowledged.
    Settling,
    /// Everybody comes back once more, and goes when it has everything.
    Closing,
}

#[derive(Debug)]
pub(crate) struct Shared {
    auditor: Mutex<Auditor>,
    /// Each publishes holding it to read; whoever holds it to write publishes alone.
    pub(crate) gate: RwLock<()>,
    /// What each client read.
    heard: Vec<Mutex<Vec<Heard>>>,
    /// What each client of the Centrifuge protocol has of the channels that it follows.
    offsets: Vec<Mutex<Vec<u64>>>,
    /// Whether each client has a session now.
    connected: Vec<AtomicBool>,
    counts: Mutex<BTreeMap<String, usize>>,
    complaints: Mutex<Vec<String>>,
    /// Which stream it is, as the first welcome said.
    epoch: Mutex<Option<String>>,
    pub(crate) phase: watch::Sender<Phase>,
    begin: Instant,
}

/// What stands in a message.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Payload {
    pub(crate) publisher: usize,
    pub(crate) to: To,
    pub(crate) number: usize,
    pub(crate) padding: String,
}

impl Payload {
    pub(crate) fn id(&self) -> Id {
        Id {
            publisher: self.publisher,
            to: self.to,
            number: self.number,
        }
    }
}

impl Shared {
    pub(crate) fn new(retention: Retention, clients: usize) -> Self {
        Self {
            auditor: Mutex::new(Auditor::new(retention, since_1970())),
            gate: RwLock::default(),
            heard: (0..clients).map(|_| Mutex::default()).collect(),
            offsets: (0..clients).map(|_| Mutex::default()).collect(),
            connected: (0..clients).map(|_| AtomicBool::default()).collect(),
            counts: Mutex::default(),
            complaints: Mutex::default(),
            epoch: Mutex::default(),
            phase: watch::channel(Phase::Running).0,
            begin: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    pub(crate) fn auditor(&self) -> MutexGuard<'_, Auditor> {
        lock(&self.auditor)
    }

    /// A client has read something.
    pub(crate) fn hears(&self, client: usize, what: What) {
        let at = self.now();
        lock(&self.heard[client]).push(Heard { at, what });
    }

    pub(crate) fn heard(&self, client: usize) -> MutexGuard<'_, Vec<Heard>> {
        lock(&self.heard[client])
    }

    /// A client has a session from now on, or none.
    pub(crate) fn is_connected(&self, client: usize, connected: bool) {
        self.connected[client].store(connected, Ordering::Relaxed);
    }

    /// A client of the Centrifuge protocol has so much of the channels that it follows, in the
    /// order of [`Channels::to`].
    pub(crate) fn follows_up_to(&self, client: usize, offsets: Vec<u64>) {
        *lock(&self.offsets[client]) = offsets;
    }

    /// Whether such a client has the last message of each channel that it follows.
    pub(crate) fn has_all(&self, client: usize, channels: Channels) -> bool {
        let offsets = lock(&self.offsets[client]).clone();
        let auditor = self.auditor();
        let mut channels = channels.to().into_iter().zip(&offsets);
        !offsets.is_empty() && channels.all(|(to, offset)| *offset >= auditor.last_of(to))
    }

    /// The same, or it has no session.
    pub(crate) fn has_all_or_is_away(&self, client: usize, channels: Channels) -> bool {
        !self.connected[client].load(Ordering::Relaxed) || self.has_all(client, channels)
    }

    /// Whether a client that has a session was told since then that it has everything up to
    /// this sequence.
    pub(crate) fn has_proof_or_is_away(&self, client: usize, since: Duration, seq: u64) -> bool {
        let proof = |heard: &Heard| match heard.what {
            What::Live(stored) | What::Ping(stored) => heard.at > since && stored.seq >= seq,
            _ => false,
        };
        !self.connected[client].load(Ordering::Relaxed)
            || lock(&self.heard[client])
                .iter()
                .rev()
                .take(LATELY)
                .any(proof)
    }

    /// Whether a client has read this message lately.
    pub(crate) fn has_read(&self, client: usize, message: Id) -> bool {
        let is_it = |heard: &Heard| match heard.what {
            What::Event { id, .. } => id == message,
            What::Publication { id, .. } => id == Some(message),
            _ => false,
        };
        lock(&self.heard[client])
            .iter()
            .rev()
            .take(LATELY)
            .any(is_it)
    }

    /// All see one stream; nobody makes it anew.
    pub(crate) fn is_of(&self, epoch: &str) {
        let mut known = lock(&self.epoch);
        let known = known.get_or_insert_with(|| epoch.to_owned());
        if known != epoch {
            self.complain(format!("{epoch} is another stream than {known}"));
        }
    }

    /// Something that nobody should have seen.
    pub(crate) fn complain(&self, complaint: String) {
        lock(&self.complaints).push(complaint);
    }

    pub(crate) fn complaints(&self) -> Vec<String> {
        lock(&self.complaints).clone()
    }

    pub(crate) fn count(&self, what: impl Into<String>) {
        self.count_more(what, 1);
    }

    pub(crate) fn count_more(&self, what: impl Into<String>, more: usize) {
        *lock(&self.counts).entry(what.into()).or_default() += more;
    }

    /// How much of all that begins so.
    pub(crate) fn counted(&self, what: &str) -> usize {
        let counts = lock(&self.counts);
        let found = counts.iter().filter(|(name, _)| name.starts_with(what));
        found.map(|(_, count)| count).sum()
    }

    /// All that was counted, for people.
    pub(crate) fn counts(&self) -> String {
        let counts = lock(&self.counts);
        let lines = counts
            .iter()
            .map(|(what, count)| format!("  {what}: {count}\n"));
        lines.collect()
    }
}

/// Milliseconds.
pub(crate) fn since_1970() -> u64 {
    let now = UNIX_EPOCH.elapsed().expect("after 1970");
    now.as_millis() as u64
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
