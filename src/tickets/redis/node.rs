//! A server that holds tickets, with its pool of connections.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use deadpool::managed::{Object, Pool, PoolError, QueueMode};
use deadpool_redis::redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value, cmd, pipe};
use tokio::time::{Instant, timeout_at};

use super::{
    config::{Address, Config},
    fault::Fault,
    link::{Link, Links},
};

/// Connections that were idle for longer are closed.
const IDLE: Duration = Duration::from_secs(60);

/// One server. Clones of its `Arc` share the pool.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) address: Address,
    pool: Pool<Links>,
    limit: Duration,
    /// It failed its last examination: commands fail immediately rather than wait for it.
    down: AtomicBool,
}

/// Why a command has no value.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server refused it, so that it did nothing.
    Refused(RedisError),
    /// No answer, or no connection. It may have been carried out.
    Lost(Fault),
}

impl Node {
    pub(super) fn new(config: &Arc<Config>, address: Address) -> Arc<Self> {
        let links = Links::new(config.clone(), address.clone());
        let pool = Pool::builder(links)
            .max_size(config.pool_size)
            // The others are closed when they are not needed.
            .queue_mode(QueueMode::Lifo)
            .build()
            .expect("a pool without timeouts of its own needs no runtime");
        Arc::new(Self {
            address,
            pool,
            limit: config.timeout,
            down: AtomicBool::new(false),
        })
    }

    /// Runs a command once, until `deadline`. `asking`: on a node to which the key's slot
    /// is being moved.
    ///
    /// Dropping the future is safe: a connection keeps the order of its answers. A
    /// connection that broke, did not answer in time or refused to serve is discarded.
    pub(super) async fn run(
        &self,
        command: &Cmd,
        asking: bool,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        if self.is_down() {
            return Err(Failure::Lost(Fault::new(&self.address, "it is away")));
        }
        self.run_anyhow(command, asking, deadline).await
    }

    /// Examines it by a GETDEL of a key that is never there: a server that may not write
    /// answers a PING as well. From then on commands run, or fail immediately.
    pub(super) async fn examine(&self, own_key: String) -> Result<(), Fault> {
        let mut command = cmd("GETDEL");
        command.arg(own_key);
        let deadline = Instant::now() + self.limit;
        let examined = match self.run_anyhow(&command, false, deadline).await {
            Ok(_) => Ok(()),
            // Another node has the key: this one works.
            Err(Failure::Refused(error)) if is_redirect(&error) => Ok(()),
            Err(Failure::Refused(error)) if super::inspect::refuses(&error) => {
                let fault = Fault::read(&self.address, &error, self.limit);
                Err(fault.into_unusable())
            }
            Err(Failure::Refused(error)) => Err(Fault::read(&self.address, &error, self.limit)),
            Err(Failure::Lost(fault)) => Err(fault),
        };
        self.down.store(examined.is_err(), Ordering::Relaxed);
        match examined {
            Ok(()) => self.pool.retain(|_, metrics| metrics.last_used() < IDLE),
            Err(_) => self.pool.retain(|_, _| false),
        };
        examined
    }

    /// Whether it failed its last examination.
    pub(super) fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Commands fail immediately from now on, until an examination finds that it works.
    pub(super) fn set_down(&self) {
        self.down.store(true, Ordering::Relaxed);
        self.pool.retain(|_, _| false);
    }

    async fn run_anyhow(
        &self,
        command: &Cmd,
        asking: bool,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        let silent = || Failure::Lost(Fault::silent(&self.address, self.limit));
        let mut link = match timeout_at(deadline, self.pool.get()).await {
            Ok(Ok(link)) => link,
            Ok(Err(PoolError::Backend(fault))) => return Err(Failure::Lost(fault)),
            Ok(Err(_)) => return Err(Failure::Lost(Fault::new(&self.address, "no connection"))),
            Err(_) => return Err(silent()),
        };
        match timeout_at(deadline, send(&mut link, command, asking)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) if error.code().is_some() => {
                if is_useless(&error) {
                    drop(Object::take(link));
                    // They lead to the same server.
                    self.pool.retain(|_, _| false);
                }
                Err(Failure::Refused(error))
            }
            Ok(Err(error)) => {
                drop(Object::take(link));
                let fault = Fault::read(&self.address, &error, self.limit);
                Err(Failure::Lost(fault))
            }
            Err(_) => {
                drop(Object::take(link));
                Err(silent())
            }
        }
    }
}

/// In one write, so that nothing comes between ASKING and the command.
async fn send(link: &mut Link, command: &Cmd, asking: bool) -> Result<Value, RedisError> {
    let connection = &mut link.connection;
    if !asking {
        return connection
            .send_packed_command(command)
            .await?
            .extract_error();
    }
    let mut pipeline = pipe();
    pipeline.cmd("ASKING").add_command(command.clone());
    let answers = connection.send_packed_commands(&pipeline, 1, 1).await?;
    answers
        .into_iter()
        .next()
        .unwrap_or_default()
        .extract_error()
}

/// Whether a slot's key is, or will be, on another node. The command did nothing here.
pub(super) fn is_redirect(error: &RedisError) -> bool {
    use ServerErrorKind::{Ask, Moved, TryAgain};
    matches!(error.kind(), ErrorKind::Server(Moved | Ask | TryAgain))
}

/// Whether a connection is of no use any more after this refusal: another server may be
/// the primary now, or behind the same address. What access control forbids, or a Cluster
/// that is down, refuses on every connection alike, and until then no longer.
pub(super) fn is_useless(error: &RedisError) -> bool {
    let useless = ["READONLY", "MASTERDOWN", "LOADING", "NOAUTH"];
    error.code().is_some_and(|code| useless.contains(&code))
}
