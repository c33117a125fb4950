//! Millions of latencies in some hundred numbers, and a clock that processes share.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// Each step is so many times the one before: no latency is off by more than half of that.
const STEP: f64 = 1.02;
/// The clock begins anew after so many microseconds, which is as far as a payload counts.
const TURN: u128 = 10_000_000_000_000;

/// How many latencies there are of each size.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Latencies(BTreeMap<u32, u64>);

impl Latencies {
    pub(crate) fn count(&mut self, micros: f64) {
        let step = micros.max(1.0).log(STEP).round() as u32;
        *self.0.entry(step).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (step, times) in &other.0 {
            *self.0.entry(*step).or_default() += times;
        }
    }

    /// In microseconds; not a number where there are none.
    pub(crate) fn percentile(&self, percent: f64) -> f64 {
        let all: u64 = self.0.values().sum();
        let wanted = (all as f64 * percent / 100.0).ceil().max(1.0) as u64;
        let mut seen = 0;
        let mut steps = self.0.iter();
        let found = steps.find(|(_, times)| {
            seen += **times;
            seen >= wanted
        });
        found.map_or(f64::NAN, |(step, _)| STEP.powf(f64::from(*step)))
    }
}

/// Microseconds of a clock that all processes share, as a message carries them.
pub(crate) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| (now.as_micros() % TURN) as u64)
}

/// The same as the time of a message.
pub(crate) fn stamp() -> Duration {
    Duration::from_nanos(now())
}

/// Microseconds since a message with this time was sent.
pub(crate) fn since(stamp: Duration) -> f64 {
    now().saturating_sub(stamp.as_nanos() as u64) as f64
}
