//! What several values must be together.

use std::path::PathBuf;

use url::Url;

use super::jwt::jwt_together;
use crate::config::{
    keys::{Config, Nats},
    redis_url::RedisKind,
    value::{Complaint, Value as _},
};

/// The key to mend, and what is wrong with it.
type Fault = (&'static str, Complaint);

/// Two keys that are set both, or neither.
fn pair(
    one: (&'static str, &Option<PathBuf>),
    other: (&'static str, &Option<PathBuf>),
) -> Result<(), Fault> {
    for ((key, value), (missing, its)) in [(one, other), (other, one)] {
        if value.is_some() && its.is_none() {
            let complaint = format!("stands alone; set {missing} too, or leave {key} out");
            return Err((key, complaint));
        }
    }
    Ok(())
}

fn redis_together(config: &Config) -> Result<(), Fault> {
    let (redis, sentinel, tls) = (&config.redis, &config.redis_sentinel, &config.redis_tls);
    let url = redis.url.as_ref();
    if url.is_none() && !config.tickets_jwt.connect {
        let complaint = "is empty, and tickets are kept in Redis; write redis://HOST:PORT, or set \
                         tickets.jwt.connect = true where tokens alone open sessions";
        return Err(("redis.url", complaint.to_owned()));
    }
    let files = [
        ("redis.tls.ca_file", tls.ca_file.is_some()),
        ("redis.tls.certificate_file", tls.certificate_file.is_some()),
    ];
    let file = files.into_iter().find(|(_, given)| *given);
    if let (Some((key, _)), false) = (file, url.is_some_and(|url| url.tls)) {
        let complaint = "is for TLS, and redis.url asks for none; write rediss://HOST:PORT there";
        return Err((key, complaint.to_owned()));
    }
    let in_url = url.is_some_and(|url| url.password.is_some());
    if redis.user.is_some() && redis.password.is_none() && !in_url {
        let complaint = "has no password; set redis.password, or leave redis.user out";
        return Err(("redis.user", complaint.to_owned()));
    }
    if sentinel.user.is_some() && sentinel.password.is_none() {
        let complaint =
            "has no password; set redis.sentinel.password, or leave redis.sentinel.user out";
        return Err(("redis.sentinel.user", complaint.to_owned()));
    }
    let sentinels = url.is_some_and(|url| matches!(url.kind, RedisKind::Sentinel { .. }));
    if sentinel.password.is_some() && !sentinels {
        let complaint = "is for Sentinels, and redis.url names none; write \
                         redis-sentinel://HOST:PORT,HOST:PORT/0?master=NAME there, or leave it out";
        return Err(("redis.sentinel.password", complaint.to_owned()));
    }
    Ok(())
}

/// Checks what several keys must be together; returns a fault of each check that fails.
pub(in crate::config) fn together(config: &Config) -> Vec<Fault> {
    let Config {
        public_tls,
        grpc_tls,
        nats_tls,
        redis_tls,
        ..
    } = config;
    let checks = [
        pending(config),
        pair(
            ("public.tls.certificate_file", &public_tls.certificate_file),
            ("public.tls.key_file", &public_tls.key_file),
        ),
        pair(
            ("grpc.tls.certificate_file", &grpc_tls.certificate_file),
            ("grpc.tls.key_file", &grpc_tls.key_file),
        ),
        pair(
            ("nats.tls.certificate_file", &nats_tls.certificate_file),
            ("nats.tls.key_file", &nats_tls.key_file),
        ),
        pair(
            ("redis.tls.certificate_file", &redis_tls.certificate_file),
            ("redis.tls.key_file", &redis_tls.key_file),
        )
        .and_then(|()| redis_together(config)),
        one_login(&config.nats),
        client_ca(config),
        in_flight(config),
        jwt_together(&config.tickets_jwt, &config.tickets_jwt_tls),
        guarded(config),
        offline(config),
        idle(config),
    ];
    checks.into_iter().filter_map(Result::err).collect()
}

fn pending(Config { public, .. }: &Config) -> Result<(), Fault> {
    if public.max_pending_per_ip <= public.max_pending {
        return Ok(());
    }
    let complaint = format!(
        "must be at most public.max_pending ({}), of which it is a part; lower it, or write 0 \
         for no limit",
        public.max_pending
    );
    Err(("public.max_pending_per_ip", complaint))
}

fn client_ca(Config { grpc_tls, .. }: &Config) -> Result<(), Fault> {
    if grpc_tls.client_ca_file.is_none() || grpc_tls.certificate_file.is_some() {
        return Ok(());
    }
    let complaint = "needs TLS; set grpc.tls.certificate_file and grpc.tls.key_file too";
    Err(("grpc.tls.client_ca_file", complaint.to_owned()))
}

fn in_flight(Config { grpc, .. }: &Config) -> Result<(), Fault> {
    if grpc.max_in_flight_bytes.0 >= grpc.max_message.0 {
        return Ok(());
    }
    let message = grpc.max_message.show().toml;
    let complaint = format!(
        "must be at least grpc.max_message ({message}), or no message of that size gets through; \
         raise it, or lower grpc.max_message"
    );
    Err(("grpc.max_in_flight_bytes", complaint))
}

/// A listener off loopback needs something by which it knows its callers.
fn guarded(Config { grpc, grpc_tls, .. }: &Config) -> Result<(), Fault> {
    let known = !grpc.tokens.is_empty() || grpc_tls.client_ca_file.is_some();
    let loopback = grpc.listen.ip().to_canonical().is_loopback();
    if known || grpc.allow_anonymous || loopback {
        return Ok(());
    }
    let complaint = "whoever reaches it could push to any user; set grpc.tokens \
                     or grpc.tls.client_ca_file, or grpc.allow_anonymous = true if something else guards it";
    Err(("grpc.listen", complaint.to_owned()))
}

fn offline(config: &Config) -> Result<(), Fault> {
    if !config.offline.events || config.durable.enabled {
        return Ok(());
    }
    let complaint = "needs a stream that keeps messages; set durable.enabled = true, or leave \
                     offline.events out";
    Err(("offline.events", complaint.to_owned()))
}

fn idle(Config { session, .. }: &Config) -> Result<(), Fault> {
    if session.idle_timeout > session.ping_interval {
        return Ok(());
    }
    let ping = session.ping_interval.show().toml;
    let enough = session.ping_interval.saturating_mul(2).show().toml;
    let complaint = format!(
        "must be longer than session.ping_interval ({ping}), \
         or quiet sessions are closed; write for example {enough}"
    );
    Err(("session.idle_timeout", complaint))
}

/// There is one way to log in to NATS, the same for all servers.
fn one_login(nats: &Nats) -> Result<(), Fault> {
    let ways = [
        ("nats.credentials_file", nats.credentials_file.is_some()),
        ("nats.nkey_seed_file", nats.nkey_seed_file.is_some()),
        ("nats.token", nats.token.is_some()),
        ("nats.user", nats.user.is_some()),
    ];
    let mut given = ways.into_iter().filter(|(_, given)| *given);
    let first = given.next();
    if let (Some((key, _)), Some((other, _))) = (first, given.next()) {
        return Err((key, format!("{other} is set too; keep one of the two")));
    }
    let in_url = nats.url.0.iter().any(|url| !url.username().is_empty());
    if let (Some((key, _)), true) = (first, in_url) {
        let complaint = "nats.url has credentials too; keep one of the two";
        return Err((key, complaint.to_owned()));
    }
    match (&nats.user, &nats.password) {
        (Some(_), None) => {
            let complaint = "has no password; set nats.password, or leave nats.user out";
            return Err(("nats.user", complaint.to_owned()));
        }
        (None, Some(_)) => {
            let complaint = "belongs to no user; set nats.user, or leave nats.password out";
            return Err(("nats.password", complaint.to_owned()));
        }
        _ => {}
    }
    let logins = |url: &Url| (url.username().to_owned(), url.password().map(str::to_owned));
    let mut logins = nats
        .url
        .0
        .iter()
        .map(logins)
        .filter(|(user, _)| !user.is_empty());
    if let Some(first) = logins.next()
        && logins.any(|other| other != first)
    {
        let complaint = "has different credentials in it; give all servers the same, or set \
                         nats.user and nats.password";
        return Err(("nats.url", complaint.to_owned()));
    }
    Ok(())
}
