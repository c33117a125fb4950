//! When sessions are pinged: those that are due at about the same time are due at the same
//! moment, so the process wakes once for all of them, and their answers come together.

use std::time::Duration;

use tokio::time::Instant;

/// Moments in one interval.
const MOMENTS: u32 = 1024;

/// The moments at which sessions are pinged.
#[derive(Debug)]
pub(super) struct Beat {
    begun: Instant,
    interval: Duration,
}

impl Beat {
    pub(super) fn new(interval: Duration) -> Self {
        let begun = Instant::now();
        Self { begun, interval }
    }

    /// When a ping is due after this one: after an interval, or a little earlier.
    pub(super) fn after(&self, last: Instant) -> Instant {
        let due = last + self.interval;
        let step = (self.interval / MOMENTS).as_nanos().max(1);
        let early = due.saturating_duration_since(self.begun).as_nanos() % step;
        due - Duration::from_nanos(u64::try_from(early).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_due_at_about_the_same_time_is_due_at_the_same_moment() {
        let beat = Beat::new(Duration::from_millis(10_240));
        let at = |millis| beat.begun + Duration::from_millis(millis);
        assert_eq!(beat.after(at(3)), at(10_240));
        assert_eq!(beat.after(at(9)), at(10_240));
        assert_eq!(beat.after(at(10)), at(10_250));
        // A ping that was a little late does not put off the next.
        assert_eq!(beat.after(at(10_241)), at(20_480));
        let short = Beat::new(Duration::from_nanos(1));
        assert_eq!(
            short.after(short.begun),
            short.begun + Duration::from_nanos(1)
        );
    }
}
