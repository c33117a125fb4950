//! Permits for connections that are not admitted yet, and how long it is worth waiting
//! for one.
//!
//! When thousands connect at the same moment, a permit becomes free a moment later:
//! waiting for it costs less than a refusal, after which a browser is back in seconds.
//! Where permits are held by those who say nothing, waiting is in vain, and whoever
//! waits holds up all that come after.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

/// What a permit that became free adds to the patience.
const EARNED: Duration = Duration::from_millis(1);
/// The patience never grows beyond this: Redis or NATS may stall for as long.
const MOST: Duration = Duration::from_millis(500);

/// A bounded number of permits, and whether they move.
#[derive(Debug)]
pub(super) struct Permits {
    free: Arc<Semaphore>,
    /// Used up by waiting.
    patience: Duration,
}

impl Permits {
    /// `count` permits.
    pub(super) fn new(count: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(count)),
            patience: MOST,
        }
    }

    /// Waits for a permit. `None` if no permit is free and none becomes free meanwhile.
    pub(super) async fn take(&mut self) -> Option<OwnedSemaphorePermit> {
        let start = Instant::now();
        let permit = timeout(self.patience, self.free.clone().acquire_owned()).await;
        self.patience = self.patience.saturating_sub(start.elapsed());
        let permit = permit.ok()?.ok()?;
        self.patience = (self.patience + EARNED).min(MOST);
        Some(permit)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    /// Takes permits for a second, and holds each for `held`; returns how many
    /// there were, and how many times there was none.
    async fn a_second(permits: &mut Permits, held: Duration) -> (u32, u32) {
        let start = Instant::now();
        let (mut taken, mut refused) = (0, 0);
        while start.elapsed() < Duration::from_secs(1) {
            match permits.take().await {
                Some(permit) => {
                    taken += 1;
                    tokio::spawn(async move {
                        sleep(held).await;
                        drop(permit);
                    });
                }
                None => refused += 1,
            }
            // Somebody comes every quarter of a millisecond, when there is time for them.
            if (taken + refused) % 4 == 0 {
                sleep(Duration::from_millis(1)).await;
            }
        }
        (taken, refused)
    }

    #[tokio::test(start_paused = true)]
    async fn what_moves_is_waited_for() {
        let (taken, refused) = a_second(&mut Permits::new(20), Duration::from_millis(9)).await;
        assert!(taken > 1500 && refused == 0, "{taken}, {refused}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_stands_still_holds_up_nobody() {
        let mut permits = Permits::new(20);
        let first = a_second(&mut permits, Duration::from_secs(60)).await;
        let then = a_second(&mut permits, Duration::from_secs(60)).await;
        assert_eq!(first.0, 20);
        assert_eq!(then.0, 0);
        assert!(first.1 > 1500 && then.1 == 4000, "{first:?}, {then:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn few_that_move_hold_up_few() {
        let mut permits = Permits::new(20);
        let (taken, refused) = a_second(&mut permits, Duration::from_millis(200)).await;
        assert!((100..=130).contains(&taken), "{taken}");
        assert!(refused > 1000, "{refused}");
    }
}
