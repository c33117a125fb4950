//! A stream with its users, a gateway over it, and what they spend.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    cut::Way,
    rows::Row,
    table::{Rounds, WAYS},
};
use crate::{
    Outcome,
    parts::{subjects, users},
    payload::{Numbers, Payload},
    process::Process,
    publisher::Publisher,
    servers::{Gateway, JetStream, Servers},
};

/// A stream drops what is published faster than it stores, so it has to acknowledge one of so
/// many.
const STORED: u64 = 500;
/// Gateway and NATS are quiet when they spend at most a hundredth of a second in this time.
const LOOK: Duration = Duration::from_millis(200);
const TICK: f64 = 0.011;
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) struct World {
    pub(super) nats: JetStream,
    pub(super) gateway: Gateway,
    pub(super) users: Vec<String>,
    pub(super) subjects: Vec<String>,
    bytes: usize,
}

/// CPU seconds so far.
#[derive(Clone, Copy)]
pub(super) struct Spent {
    pub(super) gateway: f64,
    pub(super) nats: f64,
    pub(super) redis: f64,
}

impl Spent {
    pub(super) fn now(gateway: &Gateway, world: &World, servers: &Servers) -> Self {
        Self {
            gateway: gateway.process.cpu_of_threads(),
            nats: world.nats.process.cpu_of_threads(),
            redis: servers.redis_process.cpu_of_threads(),
        }
    }

    pub(super) fn since(self, before: Self) -> Self {
        Self {
            gateway: self.gateway - before.gateway,
            nats: self.nats - before.nats,
            redis: self.redis - before.redis,
        }
    }
}

impl Rounds {
    pub(super) fn now(gateway: &Gateway) -> Outcome<Self> {
        let mut sessions = [0.0; WAYS.len()];
        for (sessions, way) in sessions.iter_mut().zip(WAYS) {
            *sessions = gateway.metric(&format!("usher_round_sessions_total{{way=\"{way}\""))?;
        }
        let scanned = gateway.metric("usher_scanned_messages_total")?;
        Ok(Self { sessions, scanned })
    }

    pub(super) fn since(mut self, before: &Self) -> Self {
        for (now, before) in self.sessions.iter_mut().zip(before.sessions) {
            *now -= before;
        }
        self.scanned -= before.scanned;
        self
    }
}

impl World {
    /// Each user has a message in the stream.
    pub(super) fn start(servers: &Servers, row: &Row, run: u64) -> Outcome<Self> {
        let nats = JetStream::start()?;
        let gateway = servers.durable_gateway(&nats, "file")?;
        let users = users("user", row.users);
        let world = Self {
            nats,
            gateway,
            subjects: subjects(&users),
            users,
            bytes: row.bytes,
        };
        let all: Vec<_> = (0..row.users).collect();
        world.store(&all, run, 1)?;
        Ok(world)
    }

    /// Whether the row can be measured here.
    pub(super) fn fits(&self, row: &Row) -> bool {
        self.users.len() == row.users && self.bytes == row.bytes
    }

    /// The users that come, evenly among all.
    pub(super) fn clients(&self, count: usize) -> Vec<usize> {
        let all = self.users.len();
        (0..count).map(|index| index * all / count).collect()
    }

    /// Another gateway, whose way to NATS can be cut.
    pub(super) fn gateway_behind(&self, servers: &Servers) -> Outcome<(Gateway, Way)> {
        let way = Way::open(self.nats.address)?;
        let gateway = servers.gateway_with(&[
            ("USHER_NATS__URL", format!("nats://{}", way.address)),
            ("USHER_DURABLE__ENABLED", "true".to_owned()),
        ])?;
        Ok((gateway, way))
    }

    /// Stores so many messages for each of these users, who take turns.
    pub(super) fn store(&self, users: &[usize], run: u64, each: u64) -> Outcome<()> {
        let payload = Payload::of_size(self.bytes);
        let mut publisher = Publisher::connect_for(self.nats.address, payload)?;
        let all = each * users.len() as u64;
        let (mut count, mut first) = (0, 0);
        for seq in 0..each {
            for user in users {
                let subject = &self.subjects[*user];
                let at = Duration::ZERO;
                let numbers = Numbers { run, seq, at };
                count += 1;
                if count != 1 && count != all && !count.is_multiple_of(STORED) {
                    publisher.publish(subject, numbers)?;
                    continue;
                }
                let stored = publisher.store(subject, numbers)?;
                if count == 1 {
                    first = stored;
                } else if stored != first + count - 1 {
                    let came = stored - first + 1;
                    return Err(format!("of {count} messages {came} came to the stream").into());
                }
            }
        }
        Ok(())
    }

    /// Waits until gateway and NATS have nothing more to do.
    pub(super) fn quiet(&self) {
        let start = Instant::now();
        let processes: [&Process; 2] = [&self.gateway.process, &self.nats.process];
        let spent = || processes.iter().map(|one| one.cpu()).sum::<f64>();
        let mut before = spent();
        while start.elapsed() < PATIENCE {
            sleep(LOOK);
            let now = spent();
            if now - before < TICK {
                return;
            }
            before = now;
        }
    }
}
