//! Sessions that are held back, because the stream can't be read: how many there are.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{metrics::Metrics, readiness::Readiness};

/// Counts them, in a metric and for `/readyz`.
#[derive(Debug)]
pub(super) struct HeldBack {
    metrics: Arc<Metrics>,
    readiness: Readiness,
    count: Mutex<i64>,
}

/// One session that is held back, for as long as this lives.
#[derive(Debug)]
pub(super) struct Held(Arc<HeldBack>);

impl HeldBack {
    pub(super) fn new(metrics: Arc<Metrics>, readiness: Readiness) -> Arc<Self> {
        Arc::new(Self {
            metrics,
            readiness,
            count: Mutex::new(0),
        })
    }

    pub(super) fn one(self: &Arc<Self>) -> Held {
        self.change(1);
        Held(self.clone())
    }

    fn change(&self, by: i64) {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *count;
        *count += by;
        self.metrics.sessions_held_back.set(*count);
        if (before == 0) != (*count == 0) {
            self.readiness.held_back(*count > 0);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.change(-1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::readiness::Reason;

    #[tokio::test(start_paused = true)]
    async fn it_is_a_warning_after_a_while_until_nobody_is_held_back() {
        let readiness = Readiness::new(Duration::ZERO);
        let metrics = Arc::new(Metrics::new());
        let held_back = HeldBack::new(metrics.clone(), readiness.clone());
        let one = held_back.one();
        tokio::time::advance(Duration::from_secs(4)).await;
        let other = held_back.one();
        assert_eq!(metrics.sessions_held_back.get(), 2);
        assert_eq!(readiness.warnings(), []);
        tokio::time::advance(Duration::from_secs(2)).await;
        drop(one);
        assert_eq!(readiness.warnings(), [Reason::SessionsHeldBack]);
        assert!(readiness.is_ready());
        drop(other);
        assert_eq!(metrics.sessions_held_back.get(), 0);
        assert_eq!(readiness.warnings(), []);
    }
}
