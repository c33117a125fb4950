//! Which sessions of a round read for themselves, and which are read for in one scan.
//!
//! Both ways cost nats-server time for each message that it goes through: a read by subject
//! goes through those of others between one message and the next, a scan through all of them
//! once, and hands each to this gateway. So a scan is cheaper where many sessions missed parts
//! of one range.

use super::Reader;

/// What a read by subject costs besides, in nanoseconds: here and in nats-server 2.15.
const READ: u64 = 300_000;
/// What it costs for each message in between.
const PASSED: u64 = 60;
/// What a scan costs for each message.
const SCANNED: u64 = 4_500;
/// For fewer sessions there is no scan.
const FEW: usize = 16;

/// What one session has to be read.
#[derive(Debug, Clone, Copy)]
struct Range {
    /// What is after this sequence.
    after: u64,
    up_to: u64,
    /// What its own reads cost.
    cost: u64,
}

/// Divides them: first those for a scan, then the others. A session that is so far behind that
/// the scan would cost more than its own reads reads for itself.
pub(super) fn choose(mut readers: Vec<Reader>) -> (Vec<Reader>, Vec<Reader>) {
    readers.sort_by_cached_key(|reader| std::cmp::Reverse(range(reader).after));
    let ranges: Vec<_> = readers.iter().map(range).collect();
    let alone = readers.split_off(scanned(&ranges));
    (readers, alone)
}

/// How many of these are worth a scan, the least far behind first.
fn scanned(ranges: &[Range]) -> usize {
    let (mut best, mut count) = (0, 0);
    let (mut up_to, mut alone) = (0, 0);
    for (index, range) in ranges.iter().enumerate() {
        up_to = range.up_to.max(up_to);
        alone += range.cost;
        let scan = (up_to - range.after.min(up_to)).saturating_mul(SCANNED);
        let saved = alone.saturating_sub(scan);
        if index + 1 >= FEW && saved > best {
            (best, count) = (saved, index + 1);
        }
    }
    count
}

fn range(reader: &Reader) -> Range {
    let mut range = Range {
        after: u64::MAX,
        up_to: 0,
        cost: 0,
    };
    let channels = reader.wanted().into_iter().zip(&reader.lasts);
    for (wanted, last) in channels {
        let Some(wanted) = wanted else { continue };
        range.after = range.after.min(wanted.after);
        range.up_to = range.up_to.max(*last);
        let passed = last.saturating_sub(wanted.after);
        range.cost += READ + passed.saturating_mul(PASSED);
    }
    range
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(count: u64, after: u64, up_to: u64) -> Vec<Range> {
        let cost = READ + (up_to - after) * PASSED;
        let range = Range { after, up_to, cost };
        (0..count).map(|_| range).collect()
    }

    #[test]
    fn many_with_one_range_are_scanned_for_and_few_read_for_themselves() {
        assert_eq!(scanned(&ranges(1, 900, 1000)), 0);
        assert_eq!(scanned(&ranges(15, 900, 1000)), 0);
        assert_eq!(scanned(&ranges(100, 900, 1000)), 100);
        // However long it is, from some eighty sessions on.
        assert_eq!(scanned(&ranges(60, 0, 10_000_000)), 0);
        assert_eq!(scanned(&ranges(80, 0, 10_000_000)), 80);
    }

    #[test]
    fn one_that_is_far_behind_does_not_stretch_the_scan() {
        let mut some = ranges(200, 9_900_000, 9_901_000);
        some.extend(ranges(1, 10, 9_901_000));
        assert_eq!(scanned(&some), 200);
    }
}
