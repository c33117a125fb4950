//! The rule for any client: whether to come back, and when.

use std::time::Duration;

use crate::jitter;

/// The longest wait of the first time; it doubles from then on.
const FIRST: Duration = Duration::from_secs(1);
/// As far as it doubles.
const MOST: Duration = Duration::from_secs(30);
/// Only a session this long shows that all is well again.
const SETTLED: Duration = Duration::from_secs(30);
/// Nobody is kept away for longer, whatever a gateway says.
const LONGEST_HINT: Duration = Duration::from_secs(300);

/// Whether a close code says: stay away.
pub(super) fn stays_away(code: u16) -> bool {
    matches!(code, 4100..=4199 | 1000 | 1002 | 1005 | 1007 | 1008 | 1009)
}

/// How often in a row it went wrong.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// How long to wait after a session that lasted `lasted`, or after no session.
    ///
    /// A gateway's hint is what it says, the first time: it spreads its sessions
    /// itself. From the second time in a row on it may become longer.
    pub(super) fn after(&mut self, lasted: Option<Duration>, hint: Option<Duration>) -> Duration {
        if lasted.is_some_and(|lasted| lasted >= SETTLED) {
            self.failures = 0;
        }
        let first = self.failures == 0;
        let most = FIRST.saturating_mul(1 << self.failures.min(5)).min(MOST);
        self.failures = self.failures.saturating_add(1);
        // Full jitter: whole crowds come back at the same time otherwise.
        let wait = jitter::between(Duration::ZERO, most);
        match hint.map(|hint| hint.min(LONGEST_HINT)) {
            None => wait,
            Some(hint) if first => hint,
            Some(hint) => hint.max(wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::close::CloseReason;

    const SHORT: Option<Duration> = Some(Duration::from_secs(29));
    const LONG: Option<Duration> = Some(SETTLED);

    /// The longest of many waits after `failures` failures, in seconds.
    fn longest(failures: u32, lasted: Option<Duration>, hint: Option<Duration>) -> f64 {
        let waits = (0..2000).map(|_| Backoff { failures }.after(lasted, hint).as_secs_f64());
        waits.fold(0.0, f64::max)
    }

    #[test]
    fn waits_grow_from_one_second_to_thirty_with_full_jitter() {
        for (failures, most) in [
            (0, 1.0),
            (1, 2.0),
            (3, 8.0),
            (4, 16.0),
            (5, 30.0),
            (99, 30.0),
        ] {
            let longest = longest(failures, None, None);
            assert!(
                longest <= most && longest > most * 0.9,
                "{failures}: {longest}"
            );
        }
        let shortest = (0..2000)
            .map(|_| Backoff { failures: 5 }.after(None, None))
            .min();
        assert!(shortest < Some(Duration::from_secs(1)), "{shortest:?}");
    }

    #[test]
    fn only_a_long_session_makes_it_start_anew() {
        assert!(longest(5, SHORT, None) > 20.0);
        assert!(longest(5, LONG, None) <= 1.0);
    }

    #[test]
    fn a_hint_is_kept() {
        let hint = Duration::from_millis(4210);
        assert_eq!(Backoff::default().after(SHORT, Some(hint)), hint);
        assert_eq!(Backoff { failures: 5 }.after(LONG, Some(hint)), hint);
        assert!((0..100).all(|_| Backoff { failures: 5 }.after(SHORT, Some(hint)) >= hint));
        assert!(
            longest(5, SHORT, Some(hint)) > 20.0,
            "a gateway that drains for ever"
        );
        let for_ever = Backoff::default().after(None, Some(Duration::MAX));
        assert_eq!(for_ever, LONGEST_HINT);
    }

    #[test]
    fn it_stays_away_where_the_table_says_so() {
        let comes_back = |reason: CloseReason| !reason.code().is_some_and(stays_away);
        assert!(comes_back(CloseReason::Drain) && comes_back(CloseReason::SessionExpired));
        assert!(!comes_back(CloseReason::Replaced) && !comes_back(CloseReason::TooManyFrames));
        assert!(
            [1001, 1006, 1011, 1012, 4000, 4003, 4200]
                .iter()
                .all(|code| !stays_away(*code))
        );
        assert!(
            [1000, 1005, 4100, 4199]
                .iter()
                .all(|code| stays_away(*code))
        );
    }
}
