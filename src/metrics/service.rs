//! Whether this gateway is in service, and what is wrong.

use prometheus::{IntGauge, IntGaugeVec, Registry};

use super::register::{gauge, gauges};

/// What `/readyz` says, in numbers.
#[derive(Debug)]
pub struct Service {
    /// Whether this gateway is going away.
    pub draining: IntGauge,
    ready: IntGauge,
    findings: IntGaugeVec,
}

impl Service {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            draining: gauge(
                registry,
                "usher_draining",
                "1 while this gateway is going away.",
            ),
            ready: gauge(registry, "usher_ready", "1 while /readyz answers 200."),
            findings: gauges(
                registry,
                "usher_findings",
                "1 for each reason or warning of /readyz; a finding that is over has no series.",
                "reason",
            ),
        }
    }

    /// Takes over what `/readyz` says now.
    pub fn set<'a>(&self, ready: bool, findings: impl IntoIterator<Item = &'a str>) {
        self.ready.set(ready.into());
        self.findings.reset();
        for finding in findings {
            self.findings.with_label_values(&[finding]).set(1);
        }
    }
}
