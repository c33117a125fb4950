//! What one connection to NATS tells operators: in its metric, in readiness, in the log.

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::interest::Info;
use crate::{
    metrics::Metrics,
    readiness::{Part, Readiness, Reason},
};

/// The oldest nats-server that works in durable mode.
const OLDEST: [u32; 3] = [2, 14, 2];

/// A connection, as operators see it.
#[derive(Debug, Clone)]
pub(super) struct Health {
    pub(super) name: &'static str,
    part: Part,
    durable: bool,
    pub(super) metrics: Arc<Metrics>,
    pub(super) readiness: Readiness,
    /// Whether it has worked before.
    worked: Arc<AtomicBool>,
}

impl Health {
    /// Of a connection that has not worked yet. `name` is the label of its metric; with
    /// `durable` an old server is of no use.
    pub(super) fn new(
        name: &'static str,
        part: Part,
        durable: bool,
        metrics: Arc<Metrics>,
        readiness: Readiness,
    ) -> Self {
        metrics.nats_connected(name, false);
        readiness.needs(part);
        Self {
            name,
            part,
            durable,
            metrics,
            readiness,
            worked: Arc::default(),
        }
    }

    /// The connection works.
    pub(super) fn up(&self, server: &str, version: &str) {
        self.metrics.nats_connected(self.name, true);
        let connection = self.name;
        match self.worked.swap(true, Ordering::Relaxed) {
            false => tracing::info!(connection, server, version, "connected to NATS"),
            true => tracing::info!(connection, server, version, "connected to NATS again"),
        }
        self.judge(server, version);
    }

    /// The server is of use, or too old.
    fn judge(&self, server: &str, version: &str) {
        let connection = self.name;
        if !is_too_old(version) {
            return self.readiness.up(self.part);
        }
        tracing::warn!(
            connection,
            server,
            version,
            "this nats-server is too old: before 2.14.2 it can reorder a leave and a join in a \
             cluster, and durable mode does not work; upgrade it"
        );
        match self.durable {
            true => self.readiness.unusable(self.part, Reason::NatsTooOld),
            false => self.readiness.up(self.part),
        }
    }

    /// The connection is lost.
    pub(super) fn down(&self, error: &dyn Display) {
        self.metrics.nats_connected(self.name, false);
        self.readiness.away(self.part);
        let connection = self.name;
        tracing::warn!(connection, %error, "the connection to NATS is lost; reconnecting");
    }

    /// The server has answered an operation with `-ERR`.
    pub(super) fn refused(&self, error: &str) {
        let connection = self.name;
        tracing::warn!(connection, error, "NATS refused an operation");
    }

    /// The server is in lame-duck mode, so the connection moves to another one.
    pub(super) fn retiring(&self, server: &str) {
        let connection = self.name;
        tracing::info!(connection, server, "this nats-server is about to shut down");
    }

    /// The connection is one to another server now.
    pub(super) fn moved(&self, info: &Info) {
        let (connection, server) = (self.name, &info.server_name);
        tracing::info!(connection, %server, "moved to another server of NATS");
        self.judge(server, &info.version);
    }

    /// A message made no sense, and was skipped.
    pub(super) fn nonsense(&self) {
        self.metrics.dropped("malformed", 1);
    }
}

/// Whether durable mode does not work with a nats-server of this version. One that does
/// not say its version as nats-server does is believed to be new.
pub(super) fn is_too_old(version: &str) -> bool {
    is_before(version, OLDEST)
}

/// Whether a stream that republishes ends a nats-server of this version at a message whose
/// header block has one byte. Seen with 2.15.1 and 2.15.2.
pub(super) fn dies_of_one_byte(version: &str) -> bool {
    is_before(version, [2, 15, 3])
}

fn is_before(version: &str, other: [u32; 3]) -> bool {
    let version = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Result<Vec<u32>, _> = version.split('.').map(str::parse).collect();
    numbers.is_ok_and(|numbers| numbers.as_slice() < other.as_slice())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for (version, old) in [
            ("2.9.10", true),
            ("2.10.25", true),
            ("2.14.1", true),
            ("2.14.2", false),
            ("2.14.2-RC.1", false),
            ("2.15.1", false),
            ("3.0.0", false),
            ("", false),
        ] {
            assert_eq!(is_too_old(version), old, "{version}");
        }
    }

    /// As in an update of a cluster, server by server.
    #[test]
    fn a_move_judges_the_version_anew() {
        let readiness = Readiness::new(Duration::ZERO);
        let (part, metrics) = (Part::Interest, Arc::new(Metrics::new()));
        let health = Health::new("interest", part, true, metrics, readiness.clone());
        let moved = |version: &str| {
            health.moved(&Info {
                version: version.to_owned(),
                ..Info::default()
            });
        };
        health.up("old", "2.10.25");
        assert_eq!(readiness.reasons(), [Reason::NatsTooOld]);
        moved("2.15.1");
        assert_eq!(readiness.reasons(), []);
        moved("2.10.25");
        assert_eq!(readiness.reasons(), [Reason::NatsTooOld]);
    }
}
