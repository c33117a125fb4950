//! What has happened so far, counted by all tasks.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{histogram::Histogram, seen::Seen};

/// Counters of one run. Each is written without a lock, but for what is rare.
pub(super) struct Tally {
    /// Messages that were handed to the gateway.
    pub(super) sent: Count,
    /// Messages that the gateway has confirmed.
    pub(super) confirmed: Count,
    /// Messages that the gateway refused to publish, or could not.
    pub(super) failed: Count,
    /// Messages that were published or not: nobody can say.
    pub(super) unknown: Count,
    /// Deliveries of all other messages.
    pub(super) expected: Count,
    /// Deliveries that came, each once; after [`Tally::forget`] of the expected ones alone.
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
    /// The messages that were published or not: where they went, and their numbers there.
    unknown: Vec<(u64, u64)>,
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
            unknown: Count::default(),
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

    /// The message is not confirmed, so that nobody need get it. With `unknown`, where it went
    /// and its number there, somebody may.
    pub(super) fn fails(&self, deliveries: u64, unknown: Option<(u64, u64)>, why: String) {
        self.expected.sub(deliveries);
        let mut rare = self.rare();
        rare.first_failure.get_or_insert(why);
        match unknown {
            None => self.failed.add(1),
            Some(message) => {
                self.unknown.add(1);
                rare.unknown.push(message);
            }
        }
    }

    /// Takes the deliveries of unknown messages off what came: `seen` is what a session got.
    pub(super) fn forget(&self, seen: &[(u64, Seen)]) {
        for (to, seen) in seen {
            let rare = self.rare();
            let unknown = rare.unknown.iter().filter(|(other, _)| other == to);
            let came = unknown.filter(|(_, number)| seen.contains(*number));
            self.received.sub(came.count() as u64);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_unknown_outcome_hides_no_loss() {
        let tally = Tally::new();
        let mut seen = Seen::default();
        for number in 0..3 {
            tally.sends(1);
            // The third is lost.
            if number < 2 {
                seen.insert(number);
                tally.received.add(1);
            }
        }
        tally.fails(1, Some((7, 0)), "no answer".to_owned());
        tally.forget(&[(7, seen)]);
        let counts = [
            &tally.failed,
            &tally.unknown,
            &tally.expected,
            &tally.received,
        ];
        assert_eq!(counts.map(Count::get), [0, 1, 2, 1]);
        assert_eq!(tally.lost(), 1);
    }
}
