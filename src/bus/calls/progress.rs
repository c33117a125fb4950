//! Counting calls: under way, ended, and how long they took.

use std::{sync::Arc, time::Instant};

use crate::metrics::Metrics;

/// A call under way. Where it is dropped before its end, it counts as cancelled.
pub(super) struct Progress {
    metrics: Arc<Metrics>,
    began: Instant,
    result: &'static str,
}

impl Progress {
    pub(super) fn begin(metrics: &Arc<Metrics>) -> Self {
        metrics.calls.in_flight.inc();
        Self {
            metrics: metrics.clone(),
            began: Instant::now(),
            result: "cancelled",
        }
    }

    /// The call ends so.
    pub(super) fn end(&mut self, result: &'static str) {
        self.result = result;
        if let "ok" | "service_error" = result {
            let seconds = self.began.elapsed().as_secs_f64();
            self.metrics.calls.seconds.observe(seconds);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.metrics.calls.in_flight.dec();
        self.metrics.calls.count(self.result);
    }
}
