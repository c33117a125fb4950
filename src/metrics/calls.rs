//! Clients' calls.

use prometheus::{Histogram, IntCounterVec, IntGauge, Registry};

use super::register::{counters, gauge, histogram};

/// Calls.
#[derive(Debug)]
pub struct Calls {
    ended: IntCounterVec,
    /// Calls under way.
    pub in_flight: IntGauge,
    /// From a call to its answer, for those that were answered.
    pub seconds: Histogram,
}

impl Calls {
    pub(super) fn new(registry: &Registry) -> Self {
        let calls = Self {
            ended: counters(
                registry,
                "usher_calls_total",
                "Clients' calls, by what became of them: a service answered ('ok'), or answered \
                 with an error of its own ('service_error'); published, where the client wants \
                 no answer ('published'); the session ended before the answer ('cancelled'); \
                 else the error's code.",
                &["result"],
            ),
            in_flight: gauge(
                registry,
                "usher_calls_in_flight",
                "Clients' calls under way.",
            ),
            seconds: histogram(
                registry,
                "usher_call_seconds",
                "From a client's call to a service's answer.",
            ),
        };
        for result in [
            "ok",
            "service_error",
            "published",
            "cancelled",
            "no_responders",
            "timeout",
            "too_many",
            "forbidden",
            "too_large",
            "unavailable",
        ] {
            calls.ended.with_label_values(&[result]);
        }
        calls
    }

    /// Counts a call that has ended.
    pub fn count(&self, result: &str) {
        self.ended.with_label_values(&[result]).inc();
    }
}
