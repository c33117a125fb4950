//! What a value must be besides its type, and what several must be together.

mod jwt;
mod together;

use std::time::Duration;

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

pub(super) use self::together::together;

use crate::{
    client_address::{NetworkError, TrustedProxies},
    origin::AllowedOrigins,
    secret::Secret,
    tokens,
};

use super::{
    types::Compression,
    units::Size,
    value::{Complaint, quoted},
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

pub(super) fn compression(compression: &Compression) -> Verdict {
    must(
        *compression == Compression::Off,
        "must be \"off\": this build's WebSocket library has no permessage-deflate; let the proxy \
         in front compress, or send less",
    )
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

/// A message of the largest size has to find room.
pub(super) fn replay_bytes(bytes: &Size) -> Verdict {
    must(bytes.0 >= 12 << 20, r#"must be "12MiB" or more"#)
}

/// A filter of `tracing_subscriber`, in which a word without `=` is a level: one that is
/// misspelt would be taken for a module's name, and silence the log.
pub(super) fn log_filter(filter: &str) -> Verdict {
    let is_level = |word: &str| word.parse::<LevelFilter>().is_ok();
    let words = filter.split(',').map(str::trim);
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    let good = |word: &&str| word.contains('=') || is_level(word);
    let known = filter.contains('[') || !words.is_empty() && words.iter().all(good);
    must(
        known && EnvFilter::try_new(filter).is_ok(),
        "must be a level (error, warn, info, debug, trace or off), or several with modules, such \
         as \"info,usher::bus=debug\"",
    )
}

pub(super) fn ticket_ttl(ttl: &Duration) -> Verdict {
    let good = Duration::from_secs(1)..=Duration::from_secs(300);
    must(good.contains(ttl), r#"must be from "1s" to "300s""#)
}
