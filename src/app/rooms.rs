//! The configuration → each room's own part of it.

use crate::{
    bus::{self, Auth},
    config::{Config, Settle},
    grpc, http,
    origin::AllowedOrigins,
    registry, tickets,
};

/// Descriptors kept free of sessions: listeners, servers, files, and the
/// operators who want to look.
const RESERVED_DESCRIPTORS: u64 = 128;

/// Sessions at most: what is configured, or what the file descriptors allow.
pub(super) fn max_sessions(config: &Config, descriptors: u64) -> usize {
    let public = &config.public;
    // Where there are few, sessions get half of them all the same.
    let taken = RESERVED_DESCRIPTORS + u64::from(public.max_pending);
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

/// Where NATS is.
pub(crate) fn bus(config: &Config, name: &str) -> bus::Config {
    let nats = &config.nats;
    let auth = match (&nats.token, &nats.user, &nats.password) {
        (Some(token), ..) => Auth::Token(token.clone()),
        (None, Some(user), Some(password)) => Auth::Password(user.clone(), password.clone()),
        _ => Auth::Anonymous,
    };
    bus::Config {
        servers: nats.url.0.clone(),
        auth,
        name: name.to_owned(),
        prefix: nats.prefix.clone(),
        reply_prefix: nats.reply_prefix.clone(),
    }
}

/// Where Redis is, and how tickets are kept there.
pub(crate) fn tickets(config: &Config) -> tickets::Config {
    let redis = &config.redis;
    tickets::Config {
        url: redis.url.0.clone(),
        user: redis.user.clone(),
        password: redis.password.clone(),
        timeout: redis.timeout,
        max_in_flight: redis.max_in_flight as usize,
        key_prefix: config.tickets.key_prefix.clone(),
        accept_plain: config.tickets.accept_plain,
    }
}

pub(super) fn registry(config: &Config, gateway: &str) -> registry::Config {
    registry::Config {
        gateway: gateway.to_owned(),
        reply_prefix: config.nats.reply_prefix.clone(),
        settle: match config.nats.settle {
            Settle::Auto => None,
            Settle::Fixed(settle) => Some(settle),
        },
        max_sessions_per_user: config.public.max_sessions_per_user as usize,
        queue_messages: config.session.queue_messages as usize,
        queue_bytes: config.session.queue_bytes.0,
        total_queue_bytes: config.session.total_queue_bytes.0,
    }
}

pub(super) fn door(config: &Config, max_sessions: usize) -> http::DoorConfig {
    http::DoorConfig {
        allowed_origins: AllowedOrigins::parse(&config.public.allowed_origins)
            .expect("the configuration checks origins by the same rules"),
        max_sessions,
    }
}

pub(super) fn deadlines(config: &Config) -> http::Deadlines {
    http::Deadlines {
        handshake: config.public.handshake_timeout,
        max_pending: config.public.max_pending as usize,
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
        frames_per_second: session.frames_per_second,
        write_timeout: session.write_timeout,
    }
}

pub(super) fn api(config: &Config) -> grpc::Config {
    grpc::Config {
        tokens: config.grpc.tokens.clone(),
        max_connection_age: Some(config.grpc.max_connection_age).filter(|age| !age.is_zero()),
        ticket_ttl: config.tickets.ttl,
    }
}
