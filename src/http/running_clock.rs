//! Time in which this process ran. A machine that was paused, or a process that was
//! stopped, must not blame its clients for the silence: nothing of them could be heard.
//!
//! A task notes every [`TICK`] that it runs. Where it comes too late the process stood
//! still, and the clock leaves out the time beyond [`AT_MOST`].

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};

const TICK: Duration = Duration::from_millis(250);
/// What one tick may take. A busy machine is late too, by less.
const AT_MOST: Duration = Duration::from_millis(500);
/// Less than that is not worth a line in the log.
const WORTH_SAYING: Duration = Duration::from_secs(1);

/// A moment of an [`AwakeClock`]: how long the process had run until then.
pub(super) type Awake = Duration;

/// A clock that stands still while the process does.
#[derive(Debug)]
pub(super) struct AwakeClock {
    begun: Instant,
    /// Nanoseconds in which the process stood still.
    left_out: AtomicU64,
    /// What this clock may show at most until the next tick, in nanoseconds.
    limit: AtomicU64,
}

impl AwakeClock {
    /// One that goes as long as what is returned with it is polled, which ends with the last
    /// reference.
    pub(super) fn ticking() -> (Arc<Self>, impl Future<Output = ()> + Send + 'static) {
        let clock = Arc::new(Self::new(AT_MOST));
        let ticks = tick(Arc::downgrade(&clock));
        (clock, ticks)
    }

    /// One that no task keeps, and that never stands still.
    #[cfg(any(test, fuzzing))]
    pub(super) fn never_still() -> Arc<Self> {
        Arc::new(Self::new(Duration::MAX))
    }

    fn new(limit: Duration) -> Self {
        Self {
            begun: Instant::now(),
            left_out: AtomicU64::new(0),
            limit: AtomicU64::new(nanos(limit)),
        }
    }

    /// What the clock shows at a moment, which is now or a little earlier.
    pub(super) fn at(&self, moment: Instant) -> Awake {
        let passed = nanos(moment.saturating_duration_since(self.begun));
        // The order of `tick`'s writes the other way round: a new limit comes with the
        // time left out that belongs to it.
        let limit = self.limit.load(Ordering::Acquire);
        let left_out = self.left_out.load(Ordering::Relaxed);
        Duration::from_nanos(passed.saturating_sub(left_out).min(limit))
    }

    /// What the clock shows now.
    pub(super) fn now(&self) -> Awake {
        self.at(Instant::now())
    }

    /// How long the process has stood still since the clock began.
    pub(super) fn stood_still(&self) -> Duration {
        let now = Instant::now();
        let passed = now.saturating_duration_since(self.begun);
        passed.saturating_sub(self.at(now))
    }

    /// Notes that the process runs; returns how long it stood still before.
    fn tick(&self, now: Instant) -> Duration {
        let before = self.left_out.load(Ordering::Relaxed);
        let passed = nanos(now.saturating_duration_since(self.begun));
        let shown = nanos(self.at(now));
        let left_out = passed - shown;
        self.left_out.store(left_out, Ordering::Relaxed);
        let limit = shown.saturating_add(nanos(AT_MOST));
        self.limit.store(limit, Ordering::Release);
        Duration::from_nanos(left_out.saturating_sub(before))
    }
}

async fn tick(clock: Weak<AwakeClock>) {
    loop {
        sleep(TICK).await;
        let Some(clock) = clock.upgrade() else {
            return;
        };
        let stood_still = clock.tick(Instant::now());
        if stood_still >= WORTH_SAYING {
            let seconds = stood_still.as_secs_f64();
            tracing::warn!(
                stood_still = format!("{seconds:.1}s"),
                "the gateway stood still; no session is idle or slow because of that"
            );
        }
    }
}

/// 584 years at most.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[tokio::test(start_paused = true)]
    async fn time_without_ticks_is_left_out() {
        let clock = AwakeClock::new(AT_MOST);
        let begun = clock.begun;
        for tick in 1..=8 {
            assert_eq!(clock.tick(begun + tick * TICK), Duration::ZERO);
        }
        assert_eq!(clock.at(begun + ms(2100)), ms(2100));
        // Already before the tick that comes too late.
        assert_eq!(clock.at(begun + ms(62_100)), ms(2500));
        assert_eq!(clock.tick(begun + ms(62_100)), ms(59_600));
        assert_eq!(clock.at(begun + ms(62_100)), ms(2500));
        assert_eq!(clock.at(begun + ms(62_300)), ms(2700));
        assert_eq!(clock.tick(begun + ms(62_350)), Duration::ZERO);
        assert_eq!(clock.at(begun + ms(62_400)), ms(2800));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_never_stands_still_shows_all_time() {
        let clock = AwakeClock::never_still();
        tokio::time::advance(ms(3_600_000)).await;
        assert_eq!(clock.now(), ms(3_600_000));
        assert_eq!(clock.stood_still(), Duration::ZERO);
    }
}
