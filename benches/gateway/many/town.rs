//! As many gateways and processes of sessions as it takes.

mod messages;
mod opening;
mod usage;

use std::{
    net::SocketAddr,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Resource, getrlimit};

use self::usage::kinds;
pub(crate) use self::{messages::Delivered, opening::Opened, usage::Use};
use super::{Count, Many, Order, Peer, Plan};
use crate::{
    Outcome,
    process::Process,
    servers::{Gateway, Servers},
};

/// The most sessions of a gateway, and the descriptors that it keeps free of sessions.
const SESSIONS_EACH: u64 = 18_500;
const OTHERS: u64 = 1_500;
/// Connections to the push API, which nobody uses here: they would take descriptors.
const SERVICES: u32 = 16;
/// Handshakes of a process of sessions that are under way at once.
const HANDSHAKES: usize = 64;
/// Between two looks at processes.
const LOOK: Duration = Duration::from_millis(100);
/// Sessions that leave are gone by then.
const PATIENCE: Duration = Duration::from_secs(120);

/// How many sessions, and of how many users.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) sessions: usize,
    pub(crate) sessions_per_user: usize,
}

impl Size {
    pub(crate) fn users(self) -> usize {
        self.sessions.div_ceil(self.sessions_per_user)
    }
}

/// A gateway and the process that has its sessions.
struct Pair {
    gateway: Gateway,
    many: Many,
    sessions: usize,
}

/// All that runs.
pub(crate) struct Town<'a> {
    servers: &'a Servers,
    size: Size,
    peer: Peer,
    pairs: Vec<Pair>,
}

impl<'a> Town<'a> {
    /// Starts gateways with these variables besides, and processes for their sessions; no
    /// session is open yet.
    pub(crate) fn start(
        servers: &'a Servers,
        size: Size,
        variables: &[(&str, String)],
    ) -> Outcome<Self> {
        let mut variables = variables.to_vec();
        variables.push(("USHER_GRPC__MAX_CONNECTIONS", SERVICES.to_string()));
        Self::of(servers, size, Peer::Usher, || {
            servers.gateway_with(&variables)
        })
    }

    /// Starts gateways of this kind, and processes for their sessions.
    pub(crate) fn of(
        servers: &'a Servers,
        size: Size,
        peer: Peer,
        start: impl Fn() -> Outcome<Gateway>,
    ) -> Outcome<Self> {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let most = descriptors.saturating_sub(OTHERS).clamp(1, SESSIONS_EACH);
        let gateways = size.sessions.div_ceil(most as usize);
        // All sessions of a user are at the same gateway.
        let each = size.users().div_ceil(gateways) * size.sessions_per_user;
        let pairs = (0..size.sessions).step_by(each).map(|first| {
            let gateway = start()?;
            let sessions = each.min(size.sessions - first);
            let many = Many::start(&Plan {
                peer,
                addresses: vec![gateway.public],
                returns: false,
                redis: servers.redis,
                first,
                sessions,
                sessions_per_user: size.sessions_per_user,
                handshakes: HANDSHAKES,
            })?;
            Ok(Pair {
                gateway,
                many,
                sessions,
            })
        });
        let pairs = pairs.collect::<Outcome<_>>()?;
        Ok(Self {
            servers,
            size,
            peer,
            pairs,
        })
    }

    /// Where the first gateway is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.pairs[0].gateway.public
    }

    pub(crate) fn gateways(&self) -> usize {
        self.pairs.len()
    }

    /// CPU seconds until now.
    pub(crate) fn cpu(&self) -> Use {
        self.each(Process::cpu_of_threads)
    }

    /// Bytes that are resident now.
    pub(crate) fn memory(&self) -> Use {
        self.each(|process| process.memory().resident)
    }

    fn each(&self, of: impl Fn(&Process) -> f64) -> Use {
        let sum = |one: fn(&Pair) -> &Process| self.pairs.iter().map(|pair| of(one(pair))).sum();
        kinds(
            sum(|pair| &pair.gateway.process),
            of(&self.servers.nats_process),
            of(&self.servers.redis_process),
            sum(|pair| &pair.many.process),
        )
    }

    /// What all sessions have seen.
    pub(crate) fn look(&mut self) -> Outcome<Count> {
        self.ask_all(&Order::Look)
    }

    fn ask_all(&mut self, order: &Order) -> Outcome<Count> {
        let mut all = Count::default();
        for pair in &mut self.pairs {
            all.add(&pair.many.ask(order)?);
        }
        Ok(all)
    }

    /// Which process has ended, if one has.
    pub(crate) fn ended(&mut self) -> Option<String> {
        self.pairs.iter_mut().find_map(|pair| {
            let each = [
                ("a gateway", &mut pair.gateway.process),
                ("a process of sessions", &mut pair.many.process),
            ];
            each.into_iter().find_map(|(what, process)| {
                let ended = process.has_ended();
                ended.then(|| format!("{what} has ended: {}", process.said()))
            })
        })
    }

    /// Closes all sessions; returns how long it took until no gateway had one.
    pub(crate) fn close(&mut self) -> Outcome<Duration> {
        let start = Instant::now();
        self.ask_all(&Order::Close)?;
        loop {
            let mut open = 0.0;
            match self.peer {
                Peer::Usher => {
                    for pair in &self.pairs {
                        open += pair.gateway.metric("usher_sessions{")?;
                    }
                }
                // Others do not say what they have.
                _ => open = self.look()?.open as f64,
            }
            if open == 0.0 {
                return Ok(start.elapsed());
            }
            if start.elapsed() > PATIENCE {
                return Err(format!("{open} sessions are still there after two minutes").into());
            }
            sleep(LOOK);
        }
    }
}
