//! What a value must be besides its type, and what several must be together.

use std::{path::PathBuf, time::Duration};

use url::Url;

use crate::{
    client_address::{NetworkError, TrustedProxies},
    origin::AllowedOrigins,
    secret::Secret,
    tokens,
};

use super::{
    keys::{Config, Nats, TicketsJwt},
    redis_url::RedisKind,
    units::Size,
    value::{Complaint, Value, quoted},
};

type Verdict = Result<(), Complaint>;

/// `Ok` where the value is `good`.
fn must(good: bool, complaint: &str) -> Verdict {
    if good {
        Ok(())
    } else {
        Err(complaint.to_owned())
    }
}

pub(super) fn above_zero<T: Default + PartialEq>(value: &T) -> Verdict {
    must(*value != T::default(), "must be more than 0")
}

pub(super) fn pool_size(size: &u32) -> Verdict {
    must((1..=1024).contains(size), "must be from 1 to 1024")
}

pub(super) fn not_empty(text: &str) -> Verdict {
    must(!text.is_empty(), "must not be empty")
}

pub(super) fn path_prefix(prefix: &str) -> Verdict {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    // Clients resolve `.` and `..` before they ask, so that neither would match.
    let segment =
        |segment: &str| !["", ".", ".."].contains(&segment) && segment.bytes().all(allowed);
    let good = match prefix.strip_prefix('/') {
        Some(path) => path.split('/').all(segment),
        None => prefix.is_empty(),
    };
    must(
        good,
        "must be empty, or a path of letters, digits and -._~ such as \"/usher\", \
         with no / at its end",
    )
}

pub(super) fn origins(origins: &[String]) -> Verdict {
    if origins.len() > 1 && origins.iter().any(|origin| origin == "*") {
        return Err(r#""*" allows every origin; write it alone, or leave it out"#.to_owned());
    }
    let bad = |origin: &&String| AllowedOrigins::parse(&[origin]).is_err();
    match origins.iter().find(bad) {
        None => Ok(()),
        Some(origin) => Err(format!(
            "{} is not an origin; write scheme, host, a port where it is not the usual one, \
             and nothing behind, such as \"https://app.example.com\" or \"https://*.example.com\"",
            quoted(origin)
        )),
    }
}

pub(super) fn networks(networks: &[String]) -> Verdict {
    let bad = |network: &&String| TrustedProxies::parse(&[network]).is_err();
    match networks.iter().find(bad) {
        None => Ok(()),
        Some(network) => Err(format!("{} {NetworkError}", quoted(network))),
    }
}

pub(super) fn header_bytes(size: &Size) -> Verdict {
    let good = 8 * 1024..=1024 * 1024;
    must(good.contains(&size.0), r#"must be from "8KiB" to "1MiB""#)
}

pub(super) fn headers(count: &u32) -> Verdict {
    must((16..=1000).contains(count), "must be from 16 to 1000")
}

pub(super) fn grpc_tokens(tokens: &[Secret]) -> Verdict {
    for (index, token) in tokens.iter().enumerate() {
        let which = format!("token {} of {}", index + 1, tokens.len());
        if token.expose().chars().count() < 16 {
            return Err(format!(
                "{which} has fewer than 16 characters; `openssl rand -hex 32` prints a good one"
            ));
        }
        if !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "{which} has a character that no header can carry; \
                 write letters, digits and ASCII punctuation only"
            ));
        }
    }
    Ok(())
}

pub(super) fn grpc_message(size: &Size) -> Verdict {
    // NATS takes at most 64 MiB.
    let good = 1024..=64 * 1024 * 1024;
    must(good.contains(&size.0), r#"must be from "1KiB" to "64MiB""#)
}

pub(super) fn hmac_secret(secret: &Option<Secret>) -> Verdict {
    let long = secret.as_ref().is_none_or(|s| s.expose().len() >= 32);
    must(
        long,
        "has fewer than 32 bytes; `openssl rand -hex 32` prints a good one",
    )
}

pub(super) fn jwks_max_age(age: &Duration) -> Verdict {
    must(*age >= Duration::from_secs(2), r#"must be "2s" or more"#)
}

pub(super) fn leeway(leeway: &Duration) -> Verdict {
    must(
        *leeway <= Duration::from_secs(300) && leeway.subsec_nanos() == 0,
        r#"must be whole seconds, at most "300s""#,
    )
}

pub(super) fn algorithms(algorithms: &[String]) -> Verdict {
    let unknown = |name: &&String| tokens::is_symmetric(name).is_none();
    match algorithms.iter().find(unknown) {
        None => Ok(()),
        Some(name) => Err(format!(
            "{} is no algorithm of tokens that is supported; write HS256, RS256, ES256 or EdDSA",
            quoted(name)
        )),
    }
}

pub(super) fn subject_prefix(prefix: &str) -> Verdict {
    let token = |token: &str| !token.is_empty() && is_literal(token);
    let reserved = prefix.starts_with('$') || prefix.split('.').next() == Some("_INBOX");
    must(
        prefix.split('.').all(token) && !reserved,
        "must be words with dots between, such as \"usher\" or \"acme.usher\": no *, > or space, \
         no empty word, and neither $ nor _INBOX at its beginning, which are NATS's own",
    )
}

pub(super) fn reply_prefix(prefix: &str) -> Verdict {
    must(
        !prefix.is_empty() && is_literal(prefix),
        r#"must be how reply subjects begin, such as "_INBOX.", with no *, > or space"#,
    )
}

/// No wildcard of NATS's, and nothing that ends a subject.
fn is_literal(subject: &str) -> bool {
    !subject.contains(|c: char| "*>".contains(c) || c.is_whitespace() || c.is_control())
}

pub(super) fn stream_name(name: &str) -> Verdict {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let good = (1..=200).contains(&name.len()) && name.bytes().all(allowed);
    must(
        good,
        r#"must be 1–200 letters, digits, - and _, such as "USHER""#,
    )
}

pub(super) fn max_age(age: &Duration) -> Verdict {
    must(
        age.is_zero() || *age >= Duration::from_secs(1),
        r#"must be "1s" or more, or "0s" for no such limit"#,
    )
}

pub(super) fn replicas(count: &u32) -> Verdict {
    must([1, 3, 5].contains(count), "must be 1, 3 or 5")
}

pub(super) fn duplicate_window(window: &Duration) -> Verdict {
    must(
        *window >= Duration::from_millis(100),
        r#"must be "100ms" or more"#,
    )
}

pub(super) fn ticket_ttl(ttl: &Duration) -> Verdict {
    let good = Duration::from_secs(1)..=Duration::from_secs(300);
    must(good.contains(ttl), r#"must be from "1s" to "300s""#)
}

/// Two keys that are set both, or neither.
fn pair(
    one: (&'static str, &Option<PathBuf>),
    other: (&'static str, &Option<PathBuf>),
) -> Result<(), (&'static str, Complaint)> {
    for ((key, value), (missing, its)) in [(one, other), (other, one)] {
        if value.is_some() && its.is_none() {
            let complaint = format!("stands alone; set {missing} too, or leave {key} out");
            return Err((key, complaint));
        }
    }
    Ok(())
}

fn jwt_together(jwt: &TicketsJwt) -> Result<(), (&'static str, Complaint)> {
    const SECRET: &str = "tickets.jwt.secret";
    const FILE: &str = "tickets.jwt.public_key_file";
    const URL: &str = "tickets.jwt.jwks_url";
    let given: Vec<_> = [
        (SECRET, jwt.secret.is_some()),
        (FILE, jwt.public_key_file.is_some()),
        (URL, jwt.jwks_url.is_some()),
    ]
    .into_iter()
    .filter_map(|(key, given)| given.then_some(key))
    .collect();
    let source = match given[..] {
        [] => {
            let useless = [
                ("tickets.jwt.issuer", jwt.issuer.is_some()),
                ("tickets.jwt.audience", jwt.audience.is_some()),
                ("tickets.jwt.algorithms", !jwt.algorithms.is_empty()),
            ];
            return match useless.into_iter().find(|(_, given)| *given) {
                None => Ok(()),
                Some((key, _)) => {
                    let complaint = format!("goes with a key; set {SECRET}, {FILE} or {URL} too");
                    Err((key, complaint))
                }
            };
        }
        [source] => source,
        [one, other, ..] => return Err((other, format!("{one} is set too; keep one of the two"))),
    };
    if source == URL {
        let missing = [
            ("tickets.jwt.issuer", jwt.issuer.is_none()),
            ("tickets.jwt.audience", jwt.audience.is_none()),
        ];
        if let Some((key, _)) = missing.into_iter().find(|(_, missing)| *missing) {
            let complaint = format!(
                "needs tickets.jwt.issuer and tickets.jwt.audience, or tokens for others would do; \
                 set {key}"
            );
            return Err((URL, complaint));
        }
    }
    let wrong = |name: &&String| tokens::is_symmetric(name) != Some(source == SECRET);
    if let Some(name) = jwt.algorithms.iter().find(wrong) {
        let complaint = format!(
            "{} does not go with {source}; write one that does, or leave it out",
            quoted(name)
        );
        return Err(("tickets.jwt.algorithms", complaint));
    }
    Ok(())
}

fn redis_together(config: &Config) -> Result<(), (&'static str, Complaint)> {
    let (redis, sentinel, tls) = (&config.redis, &config.redis_sentinel, &config.redis_tls);
    let files = [
        ("redis.tls.ca_file", tls.ca_file.is_some()),
        ("redis.tls.certificate_file", tls.certificate_file.is_some()),
    ];
    let file = files.into_iter().find(|(_, given)| *given);
    if let (Some((key, _)), false) = (file, redis.url.tls) {
        let complaint = "is for TLS, and redis.url asks for none; write rediss://HOST:PORT there";
        return Err((key, complaint.to_owned()));
    }
    if redis.user.is_some() && redis.password.is_none() && redis.url.password.is_none() {
        let complaint = "has no password; set redis.password, or leave redis.user out";
        return Err(("redis.user", complaint.to_owned()));
    }
    if sentinel.user.is_some() && sentinel.password.is_none() {
        let complaint =
            "has no password; set redis.sentinel.password, or leave redis.sentinel.user out";
        return Err(("redis.sentinel.user", complaint.to_owned()));
    }
    if sentinel.password.is_some() && !matches!(redis.url.kind, RedisKind::Sentinel { .. }) {
        let complaint = "is for Sentinels, and redis.url names none; write \
                         redis-sentinel://HOST:PORT,HOST:PORT/0?master=NAME there, or leave it out";
        return Err(("redis.sentinel.password", complaint.to_owned()));
    }
    Ok(())
}

/// Checks what several keys must be together; an error names the one to mend.
pub(super) fn together(config: &Config) -> Result<(), (&'static str, Complaint)> {
    let Config {
        public,
        public_tls,
        grpc,
        grpc_tls,
        nats,
        nats_tls,
        redis_tls,
        tickets_jwt,
        session,
        ..
    } = config;
    if public.max_pending_per_ip > public.max_pending {
        let complaint = format!(
            "must be at most public.max_pending ({}), of which it is a part; lower it, or \
             write 0 for no limit",
            public.max_pending
        );
        return Err(("public.max_pending_per_ip", complaint));
    }
    pair(
        ("public.tls.certificate_file", &public_tls.certificate_file),
        ("public.tls.key_file", &public_tls.key_file),
    )?;
    pair(
        ("grpc.tls.certificate_file", &grpc_tls.certificate_file),
        ("grpc.tls.key_file", &grpc_tls.key_file),
    )?;
    for (certificate, key) in [
        (
            ("nats.tls.certificate_file", &nats_tls.certificate_file),
            ("nats.tls.key_file", &nats_tls.key_file),
        ),
        (
            ("redis.tls.certificate_file", &redis_tls.certificate_file),
            ("redis.tls.key_file", &redis_tls.key_file),
        ),
    ] {
        pair(certificate, key)?;
    }
    redis_together(config)?;
    one_login(nats)?;
    if grpc_tls.client_ca_file.is_some() && grpc_tls.certificate_file.is_none() {
        let complaint = "needs TLS; set grpc.tls.certificate_file and grpc.tls.key_file too";
        return Err(("grpc.tls.client_ca_file", complaint.to_owned()));
    }
    if grpc.max_in_flight_bytes.0 < grpc.max_message.0 {
        let message = grpc.max_message.show().toml;
        let complaint = format!(
            "must be at least grpc.max_message ({message}), or no message of that size gets \
             through; raise it, or lower grpc.max_message"
        );
        return Err(("grpc.max_in_flight_bytes", complaint));
    }
    jwt_together(tickets_jwt)?;
    let known = !grpc.tokens.is_empty() || grpc_tls.client_ca_file.is_some();
    let open = !known && !grpc.allow_anonymous;
    if open && !grpc.listen.ip().to_canonical().is_loopback() {
        let complaint = "whoever reaches it could push to any user; set grpc.tokens \
                         or grpc.tls.client_ca_file, or grpc.allow_anonymous = true if something else guards it";
        return Err(("grpc.listen", complaint.to_owned()));
    }
    if session.idle_timeout <= session.ping_interval {
        let ping = session.ping_interval.show().toml;
        let enough = session.ping_interval.saturating_mul(2).show().toml;
        let complaint = format!(
            "must be longer than session.ping_interval ({ping}), \
             or quiet sessions are closed; write for example {enough}"
        );
        return Err(("session.idle_timeout", complaint));
    }
    Ok(())
}

/// There is one way to log in to NATS, the same for all servers.
fn one_login(nats: &Nats) -> Result<(), (&'static str, Complaint)> {
    let ways = [
        ("nats.credentials_file", nats.credentials_file.is_some()),
        ("nats.nkey_seed_file", nats.nkey_seed_file.is_some()),
        ("nats.token", nats.token.is_some()),
        ("nats.user", nats.user.is_some()),
    ];
    let mut given = ways.into_iter().filter(|(_, given)| *given);
    if let (Some((key, _)), Some((other, _))) = (given.next(), given.next()) {
        return Err((key, format!("{other} is set too; keep one of the two")));
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
