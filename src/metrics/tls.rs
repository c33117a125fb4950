//! The TLS files of the listeners.

use prometheus::{IntCounterVec, IntGaugeVec, Registry};

use super::register::{counters, gauges};

/// What became of new files.
#[derive(Debug)]
pub struct Tls {
    reloads: IntCounterVec,
    stale: IntGaugeVec,
}

impl Tls {
    pub(super) fn new(registry: &Registry) -> Self {
        let tls = Self {
            reloads: counters(
                registry,
                "usher_tls_reloads_total",
                "Changes of a listener's TLS files: taken up ('ok') or not good ('failed').",
                &["listener", "result"],
            ),
            stale: gauges(
                registry,
                "usher_tls_stale",
                "1 while a listener shows an older certificate than its files hold, since these \
                 are not good; 0 otherwise.",
                "listener",
            ),
        };
        for listener in ["public", "grpc"] {
            tls.stale.with_label_values(&[listener]);
            for result in ["ok", "failed"] {
                tls.reloads.with_label_values(&[listener, result]);
            }
        }
        tls
    }

    /// A listener's files were read anew; whether they are good.
    pub fn read(&self, listener: &str, good: bool) {
        let result = if good { "ok" } else { "failed" };
        self.reloads.with_label_values(&[listener, result]).inc();
        let stale = self.stale.with_label_values(&[listener]);
        stale.set(i64::from(!good));
    }
}
