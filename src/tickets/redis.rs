//! Tickets in Redis, over one multiplexed connection.
//!
//! A pool would spend two more commands on each check-out; the multiplexed
//! connection carries all commands at once. Whether it still works is asked
//! every second, so that a Redis that comes back is in use within one.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use deadpool_redis::redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ErrorKind, FromRedisValue,
    IntoConnectionInfo as _, RedisError, TlsCertificates, aio::MultiplexedConnection, cmd,
};
use tokio::{
    sync::{Notify, Semaphore},
    time::{sleep, timeout},
};
use url::Url;

use super::{RedeemError, Ticket, Unavailable};
use crate::{
    jitter,
    metrics::Metrics,
    readiness::{Part, Readiness},
    secret::Secret,
    tls::{self, ClientFiles, FileError, Which},
};

/// How often the connection is asked whether it works.
const WATCH: Duration = Duration::from_secs(1);
/// Between attempts to connect, at random in this range.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(400));

/// Where Redis is, and how tickets are kept there. `Debug` leaves out what may
/// hold credentials.
#[derive(Clone)]
pub struct Config {
    /// `redis://host:port[/db]`, or `rediss://` for TLS.
    pub url: Url,
    /// Whom to trust and who to be where it is TLS.
    pub tls: ClientFiles,
    /// A user of Redis's access control.
    pub user: Option<String>,
    /// Its password, or Redis's only one.
    pub password: Option<Secret>,
    /// For one command.
    pub timeout: Duration,
    /// Commands at once; one more is refused rather than queued.
    pub max_in_flight: usize,
    /// Before the ticket in a key.
    pub key_prefix: String,
    /// Whether a value may be just the user id.
    pub accept_plain: bool,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("timeout", &self.timeout)
            .field("max_in_flight", &self.max_in_flight)
            .field("key_prefix", &self.key_prefix)
            .field("accept_plain", &self.accept_plain)
            .finish_non_exhaustive()
    }
}

/// The store of tickets.
#[derive(Debug, Clone)]
pub(super) struct Redis {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    /// None while Redis is away: commands then fail at once.
    connection: Mutex<Option<MultiplexedConnection>>,
    permits: Semaphore,
    /// A command failed: look at once whether the connection still works.
    doubt: Notify,
    /// It was said that Redis refuses a command.
    refused: AtomicBool,
    metrics: Arc<Metrics>,
}

/// Reaches Redis and says what it is, for `usher check`.
///
/// # Errors
///
/// Why it cannot be reached, without credentials.
pub async fn probe(config: &Config) -> Result<String, String> {
    let mut connection = connect(config).await.map_err(|error| describe(&error))?;
    let mut command = cmd("INFO");
    command.arg("server");
    let asked = command.query_async(&mut connection);
    let info: String = match timeout(config.timeout, asked).await {
        // It may be there for tickets only.
        Ok(Err(error)) if error.code() == Some("NOPERM") => String::new(),
        Ok(info) => info.map_err(|error| describe(&error))?,
        Err(_) => return Err(format!("no answer within {:?}", config.timeout)),
    };
    let version = info
        .lines()
        .find_map(|line| line.strip_prefix("redis_version:"))
        .unwrap_or("of unknown version");
    Ok(format!("redis-server {version}"))
}

impl Redis {
    /// Also returns what connects, and keeps connected, for as long as the process lives.
    pub(super) fn new(
        config: Config,
        metrics: Arc<Metrics>,
        readiness: Readiness,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        readiness.needs(Part::Redis);
        let shared = Arc::new(Shared {
            connection: Mutex::new(None),
            permits: Semaphore::new(config.max_in_flight),
            doubt: Notify::new(),
            config,
            refused: AtomicBool::new(false),
            metrics,
        });
        let kept = shared.clone();
        let keeping = async move {
            let mut told = false;
            loop {
                let shared = &kept;
                match connect(&shared.config).await {
                    Ok(connection) => {
                        shared.set(Some(connection.clone()));
                        readiness.up(Part::Redis);
                        tracing::info!("connected to Redis");
                        let error = shared.broken(connection).await;
                        tracing::warn!(%error, "Redis is away; no new sessions until it is back");
                        told = true;
                        shared.set(None);
                        readiness.away(Part::Redis);
                    }
                    Err(error) if !told => {
                        let error = describe(&error);
                        tracing::warn!(%error, "Redis cannot be reached; trying on");
                        told = true;
                    }
                    Err(_) => {}
                }
                sleep(jitter::between(RETRY.0, RETRY.1)).await;
            }
        };
        (Self { shared }, keeping)
    }

    /// Whether Redis answered last time.
    pub(super) fn is_connected(&self) -> bool {
        self.shared.connection().is_some()
    }

    /// The value of a ticket, which is used up by that: one atomic GETDEL that
    /// is never retried, since a lost reply may have consumed the ticket.
    pub(super) async fn take(&self, ticket: &Ticket) -> Result<Option<Vec<u8>>, RedeemError> {
        let mut command = cmd("GETDEL");
        command.arg(self.key(ticket));
        self.run(&command).await.map_err(|failure| match failure {
            Failure::WrongType => RedeemError::Unreadable("its key is not a string"),
            Failure::Away => RedeemError::Unavailable,
        })
    }

    /// Stores a new ticket's value for `ttl`.
    pub(super) async fn put(
        &self,
        ticket: &Ticket,
        value: &str,
        ttl: Duration,
    ) -> Result<(), Unavailable> {
        let milliseconds = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let mut command = cmd("SET");
        command
            .arg(self.key(ticket))
            .arg(value)
            .arg("PX")
            .arg(milliseconds);
        self.run::<()>(&command).await.map_err(|_| Unavailable)
    }

    fn key(&self, ticket: &Ticket) -> String {
        format!("{}{}", self.shared.config.key_prefix, ticket.expose())
    }

    async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Failure> {
        let shared = &self.shared;
        let _permit = shared.permits.try_acquire().map_err(|_| Failure::Away)?;
        let mut connection = shared.connection().ok_or(Failure::Away)?;
        let begun = Instant::now();
        let answer = timeout(shared.config.timeout, command.query_async(&mut connection)).await;
        shared
            .metrics
            .redis_command_seconds
            .observe(begun.elapsed().as_secs_f64());
        match answer {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) if error.code() == Some("WRONGTYPE") => Err(Failure::WrongType),
            Ok(Err(error)) => {
                let error = describe(&error);
                tracing::debug!(error, "a command to Redis failed");
                // Said once: an answer that is a refusal is no outage, and stays.
                if shared.connection().is_some() && !shared.refused.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        error,
                        "Redis refuses a command that tickets need; may this user GETDEL and \
                         SET the keys of tickets.key_prefix?"
                    );
                }
                shared.doubt.notify_one();
                Err(Failure::Away)
            }
            Err(_) => Err(Failure::Away),
        }
    }
}

enum Failure {
    /// No answer, or one that says that Redis cannot serve now.
    Away,
    WrongType,
}

impl Shared {
    fn connection(&self) -> Option<MultiplexedConnection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, connection: Option<MultiplexedConnection>) {
        *self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = connection;
    }

    /// Returns when the connection no longer answers, with the reason.
    async fn broken(&self, mut connection: MultiplexedConnection) -> String {
        let limit = self.config.timeout;
        loop {
            tokio::select! {
                () = sleep(WATCH) => {}
                () = self.doubt.notified() => {}
            }
            match timeout(limit, cmd("PING").query_async::<()>(&mut connection)).await {
                Ok(Ok(())) => {}
                // It is there, and says so: it only may not be asked this.
                Ok(Err(error)) if error.code() == Some("NOPERM") => {}
                Ok(Err(error)) => return describe(&error),
                Err(_) => return format!("no answer within {limit:?}"),
            }
        }
    }
}

async fn connect(config: &Config) -> Result<MultiplexedConnection, RedisError> {
    let mut info = config.url.clone().into_connection_info()?;
    let mut settings = info.redis_settings().clone().set_skip_set_lib_name();
    if let Some(user) = &config.user {
        settings = settings.set_username(user);
    }
    if let Some(password) = &config.password {
        settings = settings.set_password(password.expose());
    }
    info = info.set_redis_settings(settings);
    let settings = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(config.timeout))
        .set_response_timeout(Some(config.timeout));
    let client = match config.url.scheme() {
        "rediss" => Client::build_with_tls(info, certificates(&config.tls)?)?,
        _ => Client::open(info)?,
    };
    let mut connection = client
        .get_multiplexed_async_connection_with_config(&settings)
        .await?;
    match cmd("PING").query_async::<()>(&mut connection).await {
        Err(error) if error.code() != Some("NOPERM") => Err(error),
        _ => Ok(connection),
    }
}

/// Read anew for each connection. The redis crate takes the files' content.
fn certificates(files: &ClientFiles) -> Result<TlsCertificates, RedisError> {
    let read = |which, path| tls::read(which, path);
    let certificates = || -> Result<TlsCertificates, FileError> {
        let client_tls = match &files.identity {
            None => None,
            Some(identity) => Some(ClientTlsConfig {
                client_cert: read(Which::Certificate, &identity.certificate_file)?,
                client_key: read(Which::Key, &identity.key_file)?,
            }),
        };
        let ca_file = files.ca_file.as_deref();
        let root_cert = ca_file.map(|path| read(Which::Ca, path)).transpose()?;
        Ok(TlsCertificates {
            client_tls,
            root_cert,
        })
    };
    certificates().map_err(|error| {
        (
            ErrorKind::InvalidClientConfig,
            "redis.tls",
            error.to_string(),
        )
            .into()
    })
}

/// An error's own words, as far as they hold nothing of ours: of a command that it
/// does not know Redis repeats the arguments, and a ticket is one.
fn describe(error: &RedisError) -> String {
    match error.code() {
        Some(code) => {
            let detail = error.detail().unwrap_or_default();
            let detail = detail.split(", with args").next().unwrap_or_default();
            format!("{code} {detail}")
        }
        None => error.to_string(),
    }
}
