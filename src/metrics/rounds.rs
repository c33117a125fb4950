//! How sessions of durable mode are caught up.

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, Registry};

use super::register::{counter, counters, gauge, histogram};

/// Rounds, in which sessions are caught up.
#[derive(Debug)]
pub struct Rounds {
    /// Messages of the stream that scans went through.
    pub scanned: IntCounter,
    /// Memory of what scans have seen.
    pub index_bytes: IntGauge,
    /// Sessions that wait for a round.
    pub waiting: IntGauge,
    read_for: IntCounterVec,
    /// From the beginning of a round to its end.
    pub seconds: Histogram,
}

impl Rounds {
    pub(super) fn new(registry: &Registry) -> Self {
        let rounds = Self {
            scanned: counter(
                registry,
                "usher_scanned_messages_total",
                "Messages of the stream that were read for many sessions at once; \
                 usher_replayed_messages_total says how many of them sessions were sent.",
            ),
            index_bytes: gauge(
                registry,
                "usher_replay_index_bytes",
                "Memory of what was read of the stream and is kept while sessions come back; \
                 two thirds of durable.replay_bytes at most.",
            ),
            waiting: gauge(
                registry,
                "usher_sessions_waiting",
                "Sessions that are behind and wait for their round.",
            ),
            read_for: counters(
                registry,
                "usher_round_sessions_total",
                "Sessions that rounds took up, by the way they were read for: they missed \
                 nothing ('none'), from what was read for many ('scan'), or each by itself \
                 ('read'; 'count' where what they missed was only counted).",
                &["way"],
            ),
            seconds: histogram(
                registry,
                "usher_round_seconds",
                "From the beginning of a round to its end.",
            ),
        };
        for way in ["none", "scan", "count", "read"] {
            rounds.read_for(way, 0);
        }
        rounds
    }

    /// Counts sessions that a round read for, by the way.
    pub fn read_for(&self, way: &str, sessions: usize) {
        let sessions = sessions as u64;
        self.read_for.with_label_values(&[way]).inc_by(sessions);
    }
}
