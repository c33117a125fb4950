//! Tickets in Redis: on one server, on the primary that Sentinels name, or in a Cluster.
//!
//! Each server has a pool of deadpool's, whose connections deadpool-redis makes and
//! recycles ([`link`]). A command runs once: one whose connection broke may have been
//! carried out, and is never sent again. MOVED, ASK and TRYAGAIN are followed, since the
//! node that says so did nothing. The client library's own Cluster and Sentinel clients are
//! not used: the first sends a command again by itself, the second has limits of time of its
//! own, and neither tells which server failed.
//!
//! The watch ([`watch`]) finds the servers and examines each once a second, so that
//! readiness says what newcomers would meet.

mod check;
mod config;
mod fault;
mod finder;
mod inspect;
mod link;
mod map;
mod node;
mod slots;
mod watch;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use deadpool_redis::redis::{Cmd, ErrorKind, FromRedisValue, ServerErrorKind, Value, cmd};
use tokio::{
    sync::{Notify, Semaphore},
    time,
};

pub use self::{
    check::check,
    config::{Address, Config, Login, Servers},
};
use self::{
    fault::describe,
    map::Map,
    node::{Failure, Node},
};
use super::{RedeemError, Ticket, Unavailable};
use crate::{
    jitter,
    metrics::Metrics,
    readiness::{Part, Readiness},
};

/// Redirections that one command follows: a slot moves once, and a fail-over may follow.
const MAX_REDIRECTS: usize = 5;
/// The shortest pause before a command is repeated that a node could not carry out yet (TRYAGAIN).
/// It is random.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
/// The longest pause before such a command is repeated.
const LONGEST_PAUSE: Duration = Duration::from_millis(25);

/// The store of tickets.
#[derive(Clone)]
pub(super) struct Redis {
    shared: Arc<Shared>,
}

struct Shared {
    config: Arc<Config>,
    map: Arc<Map>,
    /// Commands that run or wait for a connection.
    permits: Semaphore,
    /// A command failed, or was redirected: look immediately.
    doubt: Notify,
    /// The last look found all servers and that they work.
    connected: AtomicBool,
    /// Commands whose refusal the log tells of: GETDEL, and SET.
    refused: [AtomicBool; 2],
    metrics: Arc<Metrics>,
}

/// What a command is for.
#[derive(Debug, Clone, Copy)]
enum Use {
    /// GETDEL.
    Redeem,
    /// SET.
    Issue,
}

/// Why a ticket was neither taken nor stored.
enum Trouble {
    /// No answer, or one that says that Redis cannot serve now.
    Away,
    WrongType,
}

impl Redis {
    /// Also returns what finds the servers and watches them, for as long as the process lives.
    pub(super) fn new(
        config: Config,
        metrics: Arc<Metrics>,
        readiness: Readiness,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        readiness.needs(Part::Redis);
        let config = Arc::new(config);
        let shared = Arc::new(Shared {
            map: Arc::new(Map::new(config.clone())),
            permits: Semaphore::new(config.max_in_flight),
            doubt: Notify::new(),
            connected: AtomicBool::new(false),
            refused: Default::default(),
            config,
            metrics,
        });
        let watching = watch::watch(shared.clone(), readiness);
        (Self { shared }, watching)
    }

    /// Whether the last look found that Redis works.
    pub(super) fn is_connected(&self) -> bool {
        self.shared.connected.load(Ordering::Relaxed)
    }

    /// The value of a ticket, which is used up by that: one atomic GETDEL.
    ///
    /// Dropping the future may use the ticket up as well.
    pub(super) async fn take(&self, ticket: &Ticket) -> Result<Option<Vec<u8>>, RedeemError> {
        let key = self.key(ticket);
        let mut command = cmd("GETDEL");
        command.arg(&key);
        self.run(&key, &command, Use::Redeem)
            .await
            .map_err(|trouble| match trouble {
                Trouble::WrongType => RedeemError::Unreadable("its key is not a string"),
                Trouble::Away => RedeemError::Unavailable,
            })
    }

    /// Stores a new ticket's value for `ttl`.
    pub(super) async fn put(
        &self,
        ticket: &Ticket,
        value: &str,
        ttl: Duration,
    ) -> Result<(), Unavailable> {
        let key = self.key(ticket);
        let milliseconds = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let mut command = cmd("SET");
        command.arg(&key).arg(value).arg("PX").arg(milliseconds);
        let stored = self.run::<()>(&key, &command, Use::Issue).await;
        stored.map_err(|_| Unavailable)
    }

    fn key(&self, ticket: &Ticket) -> String {
        format!("{}{}", self.shared.config.key_prefix, ticket.expose())
    }

    async fn run<T: FromRedisValue>(
        &self,
        key: &str,
        command: &Cmd,
        use_of: Use,
    ) -> Result<T, Trouble> {
        let shared = &self.shared;
        let _permit = shared.permits.try_acquire().map_err(|_| Trouble::Away)?;
        let node = shared.map.route(key.as_bytes()).ok_or(Trouble::Away)?;
        if node.is_down() {
            // Nothing is sent, so there is nothing to measure.
            return Err(Trouble::Away);
        }
        let begun = Instant::now();
        let answer = shared.follow(node, command, use_of).await;
        let seconds = begun.elapsed().as_secs_f64();
        shared.metrics.redis_command_seconds.observe(seconds);
        T::from_redis_value(answer?).map_err(|_| Trouble::Away)
    }
}

impl Shared {
    /// Runs a command on the node that has its key, within `redis.timeout`.
    async fn follow(
        &self,
        mut node: Arc<Node>,
        command: &Cmd,
        use_of: Use,
    ) -> Result<Value, Trouble> {
        let deadline = time::Instant::now() + self.config.timeout;
        let mut asking = false;
        for _ in 0..=MAX_REDIRECTS {
            let error = match node.run(command, asking, deadline).await {
                Ok(value) => {
                    self.permitted(use_of);
                    return Ok(value);
                }
                Err(Failure::Refused(error)) => error,
                Err(Failure::Lost(fault)) => {
                    tracing::debug!(%fault, "a command to Redis failed");
                    self.doubt.notify_one();
                    return Err(Trouble::Away);
                }
            };
            let elsewhere = || {
                let detail = error.detail().unwrap_or_default();
                slots::redirection(detail, &node.address).ok_or(Trouble::Away)
            };
            match error.kind() {
                ErrorKind::Server(ServerErrorKind::Moved) => {
                    self.doubt.notify_one();
                    node = self.map.node(&elsewhere()?);
                    asking = false;
                }
                ErrorKind::Server(ServerErrorKind::Ask) => {
                    node = self.map.node(&elsewhere()?);
                    asking = true;
                }
                ErrorKind::Server(ServerErrorKind::TryAgain) => {
                    let pause = time::sleep(jitter::between(SHORTEST_PAUSE, LONGEST_PAUSE));
                    if time::timeout_at(deadline, pause).await.is_err() {
                        return Err(Trouble::Away);
                    }
                }
                _ if error.code() == Some("WRONGTYPE") => return Err(Trouble::WrongType),
                _ => {
                    self.refused(&node, &error, use_of);
                    return Err(Trouble::Away);
                }
            }
        }
        Err(Trouble::Away)
    }

    /// A command was carried out.
    fn permitted(&self, use_of: Use) {
        let refused = &self.refused[use_of as usize];
        // Nearly always none was refused.
        if refused.load(Ordering::Relaxed) && refused.swap(false, Ordering::Relaxed) {
            let command = match use_of {
                Use::Redeem => "GETDEL",
                Use::Issue => "SET",
            };
            tracing::info!(command, "Redis takes this command of tickets again");
        }
    }

    /// The watch said that all that it asks works again, so these need no line of their own.
    fn all_clear(&self) {
        self.refused[Use::Redeem as usize].store(false, Ordering::Relaxed);
        if self.config.mints {
            self.refused[Use::Issue as usize].store(false, Ordering::Relaxed);
        }
    }

    /// The watch asks only what a session needs, so a lost right to SET shows here alone, and
    /// a Redis that is full.
    fn refused(&self, node: &Node, error: &deadpool_redis::redis::RedisError, use_of: Use) {
        let why = describe(error);
        let address = &node.address;
        tracing::debug!(%address, why, "Redis refused a command");
        let forbidden = inspect::refuses(error);
        if !forbidden {
            self.doubt.notify_one();
        }
        if !self.refused[use_of as usize].swap(true, Ordering::Relaxed) {
            let help = match forbidden {
                true => "; may redis.user GETDEL and SET the keys of tickets.key_prefix?",
                false => "",
            };
            tracing::warn!(%address, why, "Redis refuses a command that tickets need{help}");
        }
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redis")
    }
}
