//! The topics that sessions follow.

use prometheus::{IntCounterVec, IntGauge, Registry};

use super::register::{counters, gauge};

/// Topics.
#[derive(Debug)]
pub struct Topics {
    /// Topics that sessions here follow.
    pub followed: IntGauge,
    changes: IntCounterVec,
}

impl Topics {
    pub(super) fn new(registry: &Registry) -> Self {
        let topics = Self {
            followed: gauge(
                registry,
                "usher_topics",
                "Topics that at least one session here follows, each counted once.",
            ),
            changes: counters(
                registry,
                "usher_topic_changes_total",
                "Requests to change what an open session follows, by its client or by a service: \
                 it was changed ('followed'); its ticket or token does not grant a topic \
                 ('forbidden'); above a bound, or too often ('too_many'); NATS or the stream did \
                 not confirm it ('unavailable').",
                &["result"],
            ),
        };
        for result in ["followed", "forbidden", "too_many", "unavailable"] {
            topics.changes.with_label_values(&[result]);
        }
        topics
    }

    /// Counts a change that was asked for: `followed`, `forbidden`, `too_many` or
    /// `unavailable`.
    pub fn count(&self, result: &str) {
        self.changes.with_label_values(&[result]).inc();
    }
}
