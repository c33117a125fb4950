//! What each module needs of the configuration.

mod nats;
mod tokens;

use std::{path::PathBuf, time::Duration};

pub(super) use self::nats::auth as nats_auth;
pub(crate) use self::{nats::bus, tokens::tokens};
use crate::{
    api, bus,
    client_address::TrustedProxies,
    config::{Config, OtlpUrl, RedisKind, Settle},
    durable, http,
    origin::AllowedOrigins,
    presence, registry,
    telemetry::{self, Tracer},
    tickets,
    tls::{Acceptor, ClientFiles, FileError, Identity, Reloads, ServerFiles, Which},
};

/// Descriptors kept free of sessions: listeners, servers, files, and the
/// operators who want to look.
const RESERVED_DESCRIPTORS: u64 = 128;

/// Connections to the push API at most: what is configured, or an eighth of the file
/// descriptors, so that they never take those of sessions.
pub(super) fn max_grpc_connections(config: &Config, descriptors: u64) -> usize {
    let wanted = config.grpc.max_connections as usize;
    let possible = usize::try_from(descriptors / 8)
        .unwrap_or(usize::MAX)
        .max(1);
    if wanted > possible {
        tracing::warn!(
            max_connections = possible,
            wanted,
            descriptors,
            "grpc.max_connections is lowered to an eighth of the limit of open files; raise that \
             limit, or write a lower number"
        );
    }
    wanted.min(possible)
}

/// Sessions at most: what is configured, or what the file descriptors allow.
pub(super) fn max_sessions(config: &Config, descriptors: u64) -> usize {
    let public = &config.public;
    // Where there are few, sessions get half of them all the same.
    let grpc = u64::from(config.grpc.max_connections).min(descriptors / 8);
    let taken = RESERVED_DESCRIPTORS + u64::from(public.max_pending) + grpc;
    let taken = taken.min(descriptors / 2);
    let possible = descriptors.saturating_sub(taken).max(1);
    let wanted = match public.max_sessions {
        0 => possible,
        wanted => u64::from(wanted),
    };
    if wanted > possible {
        tracing::warn!(
            max_sessions = wanted,
            descriptors,
            "public.max_sessions is more than the limit of open files allows"
        );
    }
    // More than a semaphore counts is more than a machine holds.
    usize::try_from(wanted)
        .unwrap_or(usize::MAX)
        .min(tokio::sync::Semaphore::MAX_PERMITS)
}

/// What a key names is not what it should be: the key, its value and the mend.
#[derive(Debug, thiserror::Error)]
#[error("{key} = {path:?} {complaint}")]
pub struct SettingError {
    key: String,
    path: PathBuf,
    complaint: String,
}

impl SettingError {
    /// `section` is where the keys of these files are.
    pub(super) fn of(section: &str, error: FileError) -> Self {
        let key = match (error.which, section) {
            (Which::Certificate, _) => "certificate_file",
            (Which::Key, _) => "key_file",
            (Which::Ca, "grpc.tls") => "client_ca_file",
            (Which::Ca, _) => "ca_file",
        };
        Self {
            key: format!("{section}.{key}"),
            path: error.path,
            complaint: error.complaint,
        }
    }
}

/// How the listeners are encrypted, those that are.
#[derive(Debug)]
pub(crate) struct ListenersTls {
    pub(super) public: Option<(Acceptor, Reloads)>,
    pub(super) grpc: Option<(Acceptor, Reloads)>,
}

/// Reads the listeners' certificates.
pub(crate) fn listeners_tls(config: &Config) -> Result<ListenersTls, SettingError> {
    let load = |section, identity: Option<Identity>, client_ca_file, protocols| {
        let files = identity.map(|identity| ServerFiles {
            identity,
            client_ca_file,
            protocols,
        });
        let loaded = files.map(ServerFiles::load).transpose();
        loaded.map_err(|error| SettingError::of(section, error))
    };
    let (public, grpc) = (&config.public_tls, &config.grpc_tls);
    Ok(ListenersTls {
        public: load(
            "public.tls",
            identity(&public.certificate_file, &public.key_file),
            None,
            &[b"http/1.1"],
        )?,
        grpc: load(
            "grpc.tls",
            identity(&grpc.certificate_file, &grpc.key_file),
            grpc.client_ca_file.clone(),
            // JSON comes by both.
            &[b"h2", b"http/1.1"],
        )?,
    })
}

/// Checks the files that are read again at each connection, so that a wrong path
/// shows at the start.
pub(crate) fn check_client_files(config: &Config) -> Result<(), SettingError> {
    let check = |section, files: ClientFiles| {
        let loaded = files.config().map(drop);
        loaded.map_err(|error| SettingError::of(section, error))
    };
    check("nats.tls", nats_tls(config))?;
    check("redis.tls", redis_tls(config))?;
    nats_auth(config).check().map_err(|error| SettingError {
        key: format!("nats.{}", error.key),
        path: error.path,
        complaint: error.complaint,
    })
}

fn nats_tls(config: &Config) -> ClientFiles {
    let files = &config.nats_tls;
    let identity = identity(&files.certificate_file, &files.key_file);
    ClientFiles::new(files.ca_file.clone(), identity)
}

fn redis_tls(config: &Config) -> ClientFiles {
    let files = &config.redis_tls;
    let identity = identity(&files.certificate_file, &files.key_file);
    ClientFiles::new(files.ca_file.clone(), identity)
}

fn identity(certificate_file: &Option<PathBuf>, key_file: &Option<PathBuf>) -> Option<Identity> {
    Some(Identity {
        certificate_file: certificate_file.clone()?,
        key_file: key_file.clone()?,
    })
}

/// How sessions catch up from the stream.
pub(super) fn durable(config: &Config) -> durable::Config {
    durable::Config {
        max_replay: config.durable.max_replay.into(),
        audit: config.durable.audit,
        drain_window: config.drain.window,
        max_frame: config.session.max_outgoing_frame.0,
    }
}

/// The bounds of clients' calls.
fn calls(config: &Config) -> bus::CallsConfig {
    bus::CallsConfig {
        timeout: config.calls.timeout,
        max_in_flight: config.calls.max_in_flight as usize,
        max_total: config.calls.max_total as usize,
        echoes: false,
    }
}

fn settle(config: &Config) -> Option<Duration> {
    match config.nats.settle {
        Settle::Auto => None,
        Settle::Fixed(settle) => Some(settle),
    }
}

/// Where Redis is, and how tickets are kept there; `None` if there is no Redis.
pub(crate) fn tickets(config: &Config) -> Option<tickets::Config> {
    let (redis, sentinel) = (&config.redis, &config.redis_sentinel);
    let url = redis.url.as_ref()?;
    let addresses = url.hosts.iter().map(|(host, port)| tickets::Address {
        host: host.clone(),
        port: *port,
    });
    let servers = match &url.kind {
        RedisKind::Single => {
            let mut addresses = addresses;
            let address = addresses.next().expect("a URL has a host");
            tickets::Servers::Single(address)
        }
        RedisKind::Sentinel { master } => {
            tickets::Servers::Sentinel(addresses.collect(), master.clone())
        }
        RedisKind::Cluster => tickets::Servers::Cluster(addresses.collect()),
    };
    Some(tickets::Config {
        servers,
        database: url.database,
        tls: url.tls.then(|| redis_tls(config)),
        login: tickets::Login {
            user: redis.user.clone().or_else(|| url.user.clone()),
            password: redis.password.clone().or_else(|| url.password.clone()),
        },
        sentinel_login: tickets::Login {
            user: sentinel.user.clone(),
            password: sentinel.password.clone(),
        },
        pool_size: redis.pool_size as usize,
        timeout: redis.timeout,
        max_in_flight: redis.max_in_flight as usize,
        key_prefix: config.tickets.key_prefix.clone(),
        accept_plain: config.tickets.accept_plain,
        mints: tokens::are_judged(config),
    })
}

pub(super) fn registry(config: &Config, gateway: &str, tracer: &Tracer) -> registry::Config {
    registry::Config {
        gateway: gateway.to_owned(),
        reply_prefix: config.nats.reply_prefix.clone(),
        settle: settle(config),
        max_sessions_per_user: config.public.max_sessions_per_user as usize,
        queue_messages: config.session.queue_messages as usize,
        queue_bytes: config.session.queue_bytes.0,
        total_queue_bytes: config.session.total_queue_bytes.0,
        drain_window: config.drain.window,
        max_topics_per_session: config.topics.max_per_session as usize,
        max_topics: config.topics.max as usize,
        max_frame: config.session.max_outgoing_frame.0,
        tracer: tracer.clone(),
    }
}

/// Where traces go; `None` if there are none.
pub(super) fn telemetry(config: &Config, gateway: &str) -> Option<telemetry::Config> {
    let OtlpUrl(endpoint) = config.telemetry.otlp_endpoint.clone()?;
    Some(telemetry::Config {
        endpoint,
        sample_ratio: config.telemetry.sample_ratio.0,
        gateway: gateway.to_owned(),
    })
}

/// How services are told who comes and goes.
pub(super) fn presence(config: &Config, gateway: &str) -> presence::Config {
    presence::Config {
        gateway: gateway.to_owned(),
        offline_delay: config.presence.offline_delay,
    }
}

pub(super) fn admissions(
    config: &Config,
    max_sessions: usize,
    tracer: &Tracer,
) -> http::AdmissionsConfig {
    http::AdmissionsConfig {
        allowed_origins: AllowedOrigins::parse(&config.public.allowed_origins)
            .expect("the configuration checks origins by the same rules"),
        max_sessions,
        trusted_proxies: TrustedProxies::parse(&config.public.trusted_proxies)
            .expect("the configuration checks networks by the same rules"),
        refusals_per_second: config.public.refusals_per_second_per_ip,
        max_pending_per_address: config.public.max_pending_per_ip as usize,
        tracer: tracer.clone(),
    }
}

/// Of the operators' listener, which whoever is at the public one must not fill.
pub(super) const OPS_BOUNDS: http::Bounds = http::Bounds {
    handshake: Duration::from_secs(5),
    max_pending: 256,
    max_header_bytes: 16 * 1024,
    max_headers: 64,
};

pub(super) fn bounds(config: &Config) -> http::Bounds {
    http::Bounds {
        handshake: config.public.handshake_timeout,
        max_pending: config.public.max_pending as usize,
        max_header_bytes: config.public.max_header_bytes.0,
        max_headers: config.public.max_headers as usize,
    }
}

pub(super) fn sessions(config: &Config, gateway: &str) -> http::SessionConfig {
    let session = &config.session;
    http::SessionConfig {
        gateway: gateway.to_owned(),
        ping_interval: session.ping_interval,
        idle_timeout: session.idle_timeout,
        max_lifetime: Some(session.max_lifetime).filter(|most| !most.is_zero()),
        max_frame: session.max_frame.0,
        max_outgoing_frame: session.max_outgoing_frame.0,
        frames_per_second: session.frames_per_second,
        max_topics: config.topics.max_per_session,
        write_timeout: session.write_timeout,
    }
}

pub(super) fn api(config: &Config, max_connections: usize) -> api::Config {
    api::Config {
        tokens: config.grpc.tokens.clone().into(),
        max_connection_age: Some(config.grpc.max_connection_age).filter(|age| !age.is_zero()),
        max_message: config.grpc.max_message.0,
        max_connections,
        max_in_flight_bytes: config.grpc.max_in_flight_bytes.0,
    }
}
