//! Which sessions of a round read for themselves, and which are read for in one scan.
//!
//! Both ways cost nats-server time for each message that it goes through: a read by subject
//! goes through those of others between one message and the next, a scan through all of them
//! once, and hands each to this gateway. So a scan is cheaper where many sessions missed parts
//! of one range.

use std::{sync::Mutex, time::Duration};

use tokio::time::Instant;

use super::Reader;
use crate::{
    bus::stream::{LeaderState, Stream},
    durable::lock,
};

/// The fixed cost of a read by subject, in nanoseconds: in this gateway and in nats-server 2.15.
const READ_NS: u64 = 300_000;
/// The cost of a read by subject for each message that it goes through, in nanoseconds: 30 in
/// nats-server where few are found, 120 where many are.
const READ_PER_MESSAGE_NS: u64 = 80;
/// The fixed cost of a scan, in nanoseconds.
const SCAN_NS: u64 = 300_000;
/// The cost of a scan for each message that it goes through, in nanoseconds.
const SCAN_PER_MESSAGE_NS: u64 = 4_500;
/// The cost of asking for the last messages of a session's channels, in nanoseconds.
const LASTS_NS: u64 = 25_000;
/// Costs of longer ago do not count.
const LATELY: Duration = Duration::from_secs(10);
/// For fewer sessions than this no scan is begun. A scan that others began goes on.
const FEW: usize = 16;
/// So many that read for themselves are told how much they missed when they have been read for.
const FEW_ALONE: usize = 8;

/// What one session has to be read.
#[derive(Debug, Clone, Copy)]
struct Range {
    /// What is after this sequence.
    after: u64,
    up_to: u64,
    /// What its own reads cost, in nanoseconds.
    cost: u64,
}

/// What scans have seen by now, and how far another one may go.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// After which sequence, up to which.
    seen: Option<(u64, u64)>,
    /// Messages of one scan.
    reach: u64,
    /// What sessions that read for themselves have cost lately, in nanoseconds.
    spent: u64,
}

impl Known {
    /// What it costs to have seen everything after one sequence, up to another one, in
    /// nanoseconds.
    fn cost(&self, after: u64, up_to: u64) -> u64 {
        let messages = match self.seen {
            Some((from, to)) if to >= after => {
                from.saturating_sub(after) + up_to.saturating_sub(to)
            }
            _ => up_to.saturating_sub(after),
        };
        match messages {
            0 => 0,
            _ if messages > self.reach => u64::MAX,
            _ => SCAN_NS + messages * SCAN_PER_MESSAGE_NS,
        }
    }

    /// How many sessions a scan has to be for.
    fn few(&self) -> usize {
        if self.seen.is_some() || self.spent > 0 {
            1
        } else {
            FEW
        }
    }
}

/// Divides sessions: first those whose messages scans have seen, as far as asking what they
/// missed would cost more than seeing the rest.
pub(super) fn seen(
    readers: Vec<Reader>,
    seen: Option<(u64, u64)>,
    last: u64,
) -> (Vec<Reader>, Vec<Reader>) {
    let Some((after, up_to)) = seen else {
        return (Vec::new(), readers);
    };
    let (within, beyond): (Vec<_>, Vec<_>) = readers
        .into_iter()
        .partition(|reader| (after..=up_to).contains(&reader.after()));
    let known = Known {
        seen,
        reach: u64::MAX,
        spent: 0,
    };
    match known.cost(after, last) <= within.len() as u64 * LASTS_NS {
        true => (within, beyond),
        false => (Vec::new(), within.into_iter().chain(beyond).collect()),
    }
}

/// Divides sessions that missed something: first those for a scan, then the others. A session
/// that is so far behind that the scan would cost more than its own reads reads for itself.
///
/// A storm of returns comes in many small rounds, none of which is worth a scan by itself. So
/// what reads have cost lately counts too: when a scan would have cost no more than that, it is
/// worth it, since as many sessions may return.
pub(super) fn choose(
    mut readers: Vec<Reader>,
    stream: &Stream,
    leader: &LeaderState,
    spent: &Spent,
) -> (Vec<Reader>, Vec<Reader>) {
    if leader.is_pinned() {
        // A scan could prove nothing.
        return (Vec::new(), readers);
    }
    let many = are_many(&readers);
    readers.sort_by_cached_key(|reader| std::cmp::Reverse(range(reader, many).after));
    let mut ranges: Vec<_> = readers.iter().map(|reader| range(reader, many)).collect();
    // A scan goes up to the leader's last.
    ranges
        .iter_mut()
        .for_each(|range| range.up_to = leader.last);
    let known = Known {
        seen: stream.scanned(leader),
        reach: stream.reach(),
        spent: spent.lately(),
    };
    let scanned = scanned(&ranges, known);
    let alone = readers.split_off(scanned);
    if scanned > 0 {
        spent.forget();
    }
    if !alone.is_empty() {
        spent.add(ranges[scanned..].iter().map(|range| range.cost).sum());
    }
    (readers, alone)
}

/// What sessions that read for themselves have cost lately, in nanoseconds.
#[derive(Debug, Default)]
pub(in crate::durable) struct Spent(Mutex<Option<(Instant, u64)>>);

impl Spent {
    fn lately(&self) -> u64 {
        let spent = *lock(&self.0);
        let lately = spent.filter(|(at, _)| at.elapsed() < LATELY);
        lately.map_or(0, |(_, spent)| spent)
    }

    fn add(&self, cost: u64) {
        let sum = self.lately().saturating_add(cost);
        *lock(&self.0) = Some((Instant::now(), sum));
    }

    /// A scan has read for all.
    fn forget(&self) {
        *lock(&self.0) = None;
    }
}

/// How many of these are worth a scan, the least far behind first.
fn scanned(ranges: &[Range], known: Known) -> usize {
    let (mut best, mut count) = (0, 0);
    let (mut up_to, mut alone) = (0, known.spent);
    for (index, range) in ranges.iter().enumerate() {
        up_to = range.up_to.max(up_to);
        alone += range.cost;
        let saved = alone.saturating_sub(known.cost(range.after, up_to));
        if index + 1 >= known.few() && saved > best {
            (best, count) = (saved, index + 1);
        }
    }
    count
}

/// Whether so many read for themselves that clients that come back are told first how much they
/// missed.
pub(super) fn are_many(readers: &[Reader]) -> bool {
    readers.len() > FEW_ALONE
}

fn range(reader: &Reader, many: bool) -> Range {
    let mut range = Range {
        // All its channels are looked for.
        after: reader.after(),
        up_to: 0,
        cost: 0,
    };
    let channels = reader.want.chains.iter().zip(&reader.lasts);
    for (chain, last) in channels {
        if *last <= chain.covered && chain.owed == 0 {
            continue;
        }
        range.up_to = range.up_to.max(*last);
        let passed = last.saturating_sub(chain.covered);
        range.cost += READ_NS + passed.saturating_mul(READ_PER_MESSAGE_NS);
    }
    if many && reader.joins.is_some() {
        // What it missed is counted first.
        range.cost = range.cost.saturating_mul(2);
    }
    range
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(count: u64, after: u64, up_to: u64) -> Vec<Range> {
        let cost = READ_NS + (up_to - after) * READ_PER_MESSAGE_NS;
        let range = Range { after, up_to, cost };
        (0..count).map(|_| range).collect()
    }

    const ANEW: Known = Known {
        seen: None,
        reach: u64::MAX,
        spent: 0,
    };

    #[test]
    fn many_with_one_range_are_scanned_for_and_few_read_for_themselves() {
        assert_eq!(scanned(&ranges(1, 900, 1000), ANEW), 0);
        assert_eq!(scanned(&ranges(15, 900, 1000), ANEW), 0);
        assert_eq!(scanned(&ranges(100, 900, 1000), ANEW), 100);
        // However long it is, from some sixty sessions on.
        assert_eq!(scanned(&ranges(50, 0, 10_000_000), ANEW), 0);
        assert_eq!(scanned(&ranges(60, 0, 10_000_000), ANEW), 60);
        let reach = Known {
            reach: 9_999_999,
            ..ANEW
        };
        assert_eq!(scanned(&ranges(60, 0, 10_000_000), reach), 0);
    }

    #[test]
    fn one_that_is_far_behind_does_not_stretch_the_scan() {
        let mut some = ranges(200, 9_900_000, 9_901_000);
        some.extend(ranges(1, 10, 9_901_000));
        assert_eq!(scanned(&some, ANEW), 200);
    }

    #[test]
    fn what_was_seen_costs_nothing_again() {
        let known = Known {
            seen: Some((100, 10_000)),
            reach: u64::MAX,
            spent: 0,
        };
        assert_eq!(scanned(&ranges(1, 100, 10_000), known), 1);
        assert_eq!(scanned(&ranges(1, 200, 10_001), known), 1);
        assert_eq!(scanned(&ranges(1, 200, 11_000), known), 0);
        assert_eq!(
            scanned(&ranges(1, 20_000, 21_000), known),
            0,
            "not a part of it"
        );
    }

    #[test]
    fn what_reads_have_cost_lately_counts() {
        let known = |spent| Known { spent, ..ANEW };
        assert_eq!(scanned(&ranges(10, 0, 100_000), ANEW), 0);
        assert_eq!(scanned(&ranges(10, 0, 100_000), known(100_000_000)), 0);
        assert_eq!(scanned(&ranges(10, 0, 100_000), known(400_000_000)), 10);
    }
}
