//! What a value must be besides its type, and what several must be together.

use std::time::Duration;

use url::Url;

use crate::secret::Secret;

use super::{
    keys::Config,
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
    let bad = |origin: &&String| *origin != "*" && !is_origin(origin);
    match origins.iter().find(bad) {
        None => Ok(()),
        Some(origin) => Err(format!(
            "{} is not an origin; write scheme, host, a port where it is not the usual one, \
             and nothing behind, such as \"https://app.example.com\" or \"https://*.example.com\"",
            quoted(origin)
        )),
    }
}

/// `scheme://host[:port]`; the host may begin with `*.`, for all hosts below it.
fn is_origin(text: &str) -> bool {
    let Some((scheme @ ("http" | "https"), place)) = text.split_once("://") else {
        return false;
    };
    let place = place.strip_prefix("*.").unwrap_or(place);
    // Without these, all that the parser finds is a host and a port.
    let other = |c: char| "/\\?#@*".contains(c) || c.is_whitespace() || c.is_control();
    !place.contains(other)
        && !place.ends_with(':')
        && Url::parse(&format!("{scheme}://{place}")).is_ok()
}

pub(super) fn tokens(tokens: &[Secret]) -> Verdict {
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

pub(super) fn ticket_ttl(ttl: &Duration) -> Verdict {
    let good = Duration::from_secs(1)..=Duration::from_secs(300);
    must(good.contains(ttl), r#"must be from "1s" to "300s""#)
}

/// Checks what several keys must be together; an error names the one to mend.
pub(super) fn together(config: &Config) -> Result<(), (&'static str, Complaint)> {
    let Config {
        grpc,
        nats,
        redis,
        session,
        ..
    } = config;
    let open = grpc.tokens.is_empty() && !grpc.allow_anonymous;
    if open && !grpc.listen.ip().to_canonical().is_loopback() {
        let complaint = "whoever reaches it could push to any user; set grpc.tokens, \
                         or grpc.allow_anonymous = true if something else guards it";
        return Err(("grpc.listen", complaint.to_owned()));
    }
    match (&nats.user, &nats.password, &nats.token) {
        (Some(_), _, Some(_)) => {
            return Err((
                "nats.token",
                "nats.user is set too; keep one of the two".to_owned(),
            ));
        }
        (Some(_), None, _) => {
            let complaint = "has no password; set nats.password, or leave nats.user out";
            return Err(("nats.user", complaint.to_owned()));
        }
        (None, Some(_), _) => {
            let complaint = "belongs to no user; set nats.user, or leave nats.password out";
            return Err(("nats.password", complaint.to_owned()));
        }
        _ => {}
    }
    if redis.user.is_some() && redis.password.is_none() && redis.url.0.password().is_none() {
        let complaint = "has no password; set redis.password, or leave redis.user out";
        return Err(("redis.user", complaint.to_owned()));
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
