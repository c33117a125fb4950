//! What has happened so far, counted by all tasks.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::histogram::Histogram;

/// Counters of one run. Each is written without a lock, but for what is rare.
pub(super) struct Tally {
    /// Messages that were handed to the gateway.
    pub(super) sent: Count,
    /// Messages that the gateway has confirmed.
    pub(super) confirmed: Count,
    /// Messages that the gateway refused to publish, or could not.
    pub(super) failed: Count,
    /// Deliveries of the messages that did not fail.
    pub(super) expected: Count,
    /// Deliveries that came, each once.
    pub(super) received: Count,
    /// Deliveries that came again.
    pub(super) duplicates: Count,
    /// Messages that came to a session of somebody else.
    pub(super) misdelivered: Count,
    /// `gap` frames, and holes that `prev` shows.
    pub(super) gaps: Count,
    /// Sessions that are open now.
    pub(super) open: Count,
    pub(super) latency: Histogram,
    /// The first and the last sequence that the stream has given.
    seqs: [AtomicU64; 2],
    rare: Mutex<Rare>,
}

#[derive(Default)]
struct Rare {
    refused: BTreeMap<String, u64>,
    closed: BTreeMap<u16, u64>,
    first_failure: Option<String>,
}

#[derive(Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    pub(super) fn sub(&self, less: u64) {
        self.0.fetch_sub(less, Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            sent: Count::default(),
            confirmed: Count::default(),
            failed: Count::default(),
            expected: Count::default(),
            received: Count::default(),
            duplicates: Count::default(),
            misdelivered: Count::default(),
            gaps: Count::default(),
            open: Count::default(),
            latency: Histogram::new(),
            seqs: [AtomicU64::new(u64::MAX), AtomicU64::new(0)],
            rare: Mutex::default(),
        }
    }

    /// A session was not opened.
    pub(super) fn refused(&self, code: String) {
        *self.rare().refused.entry(code).or_default() += 1;
    }

    /// The gateway has closed a session.
    pub(super) fn closed(&self, code: u16) {
        *self.rare().closed.entry(code).or_default() += 1;
    }

    /// A message was sent that `deliveries` sessions must get.
    pub(super) fn sends(&self, deliveries: u64) {
        self.sent.add(1);
        self.expected.add(deliveries);
    }

    /// The gateway has the message; durable mode: with this sequence, else 0.
    pub(super) fn confirms(&self, seq: u64) {
        self.confirmed.add(1);
        if seq > 0 {
            self.seqs[0].fetch_min(seq, Relaxed);
            self.seqs[1].fetch_max(seq, Relaxed);
        }
    }

    /// The gateway has refused the message, so that nobody need get it.
    pub(super) fn fails(&self, deliveries: u64, why: String) {
        self.failed.add(1);
        self.expected.sub(deliveries);
        self.rare().first_failure.get_or_insert(why);
    }

    pub(super) fn lost(&self) -> u64 {
        self.expected.get().saturating_sub(self.received.get())
    }

    pub(super) fn seqs(&self) -> Option<(u64, u64)> {
        let [first, last] = [0, 1].map(|end: usize| self.seqs[end].load(Relaxed));
        (last > 0).then_some((first, last))
    }

    pub(super) fn first_failure(&self) -> Option<String> {
        self.rare().first_failure.clone()
    }

    pub(super) fn refusals(&self) -> BTreeMap<String, u64> {
        self.rare().refused.clone()
    }

    pub(super) fn closes(&self) -> BTreeMap<u16, u64> {
        self.rare().closed.clone()
    }

    fn rare(&self) -> MutexGuard<'_, Rare> {
        self.rare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
