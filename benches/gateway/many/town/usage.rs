//! CPU or memory by kind of process.

use std::ops::Sub;

/// What the processes of each kind use: CPU seconds, or bytes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Use {
    pub(crate) gateways: f64,
    pub(crate) nats: f64,
    pub(crate) redis: f64,
    pub(crate) sessions: f64,
}

pub(super) fn kinds(gateways: f64, nats: f64, redis: f64, sessions: f64) -> Use {
    Use {
        gateways,
        nats,
        redis,
        sessions,
    }
}

impl Sub for Use {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        kinds(
            self.gateways - before.gateways,
            self.nats - before.nats,
            self.redis - before.redis,
            self.sessions - before.sessions,
        )
    }
}

impl Use {
    /// Of one of so many.
    pub(crate) fn of_one(self, count: f64) -> Self {
        kinds(
            self.gateways / count,
            self.nats / count,
            self.redis / count,
            self.sessions / count,
        )
    }

    /// Each with its name.
    pub(crate) fn by_kind(self) -> [(&'static str, f64); 4] {
        [
            ("gateways", self.gateways),
            ("nats-server", self.nats),
            ("Redis", self.redis),
            ("clients", self.sessions),
        ]
    }

    pub(crate) fn of_all(self) -> f64 {
        self.by_kind().iter().map(|(_, value)| value).sum()
    }
}
