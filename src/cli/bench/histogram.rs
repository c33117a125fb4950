//! Latencies, counted without a lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Values below this have a bucket each; above it, each power of two has half as many.
const EXACT: u64 = 128;
const HALF: u64 = EXACT / 2;
/// 2^37 µs are 38 hours; a longer latency counts as that.
const LARGEST: u64 = (1 << 37) - 1;
const BUCKETS: usize = EXACT as usize + 30 * HALF as usize;

/// Microseconds in buckets that are at most 1/64 wide: a percentile is at most 1.6% too high.
pub(super) struct Histogram {
    buckets: Box<[AtomicU64]>,
    max: AtomicU64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            max: AtomicU64::new(0),
        }
    }

    pub(super) fn record(&self, micros: u64) {
        self.buckets[bucket(micros)].fetch_add(1, Relaxed);
        self.max.fetch_max(micros, Relaxed);
    }

    /// The values that these shares of all values do not exceed; `None` if nothing was recorded.
    pub(super) fn percentiles<const N: usize>(&self, shares: [f64; N]) -> Option<[u64; N]> {
        let counts: Vec<u64> = self.buckets.iter().map(|one| one.load(Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return None;
        }
        Some(shares.map(|share| {
            let rank = ((share * total as f64).ceil() as u64).clamp(1, total);
            let mut seen = 0;
            let found = counts.iter().position(|count| {
                seen += count;
                seen >= rank
            });
            found.map_or(LARGEST, largest_of).min(self.max())
        }))
    }

    /// The largest value, exactly.
    pub(super) fn max(&self) -> u64 {
        self.max.load(Relaxed)
    }
}

fn bucket(micros: u64) -> usize {
    let value = micros.min(LARGEST);
    if value < EXACT {
        return value as usize;
    }
    // So that `value >> shift` is from 64 to 127.
    let shift = value.ilog2() - EXACT.ilog2() + 1;
    (EXACT + u64::from(shift - 1) * HALF + (value >> shift) - HALF) as usize
}

/// The largest value that belongs in a bucket.
fn largest_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < EXACT {
        return bucket;
    }
    let (shift, within) = ((bucket - EXACT) / HALF + 1, (bucket - EXACT) % HALF + HALF);
    ((within + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_within_its_bucket() {
        assert_eq!(bucket(LARGEST), BUCKETS - 1);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        let mut value = 1;
        while value < LARGEST {
            for value in [value - 1, value, value + 1] {
                let largest = largest_of(bucket(value));
                assert!(largest >= value, "{value}: {largest}");
                assert!(largest - value <= value / 64, "{value}: {largest}");
                assert_eq!(bucket(largest), bucket(value));
                assert_eq!(bucket(largest + 1), (bucket(value) + 1).min(BUCKETS - 1));
            }
            value = value * 9 / 8 + 1;
        }
    }

    #[test]
    fn percentiles_are_of_what_was_recorded() {
        let histogram = Histogram::new();
        assert_eq!(histogram.percentiles([0.5]), None);
        (1..=100).for_each(|micros| histogram.record(micros));
        histogram.record(1_000_000);
        assert_eq!(
            histogram.percentiles([0.0, 0.5, 0.99, 1.0]),
            Some([1, 51, 100, 1_000_000])
        );
        assert_eq!(histogram.max(), 1_000_000);
    }
}
