//! What `usher check` says about NATS.

use std::io;

use crate::{
    bus::{
        Config, DialError, Seen, Server,
        stream::{self, Checked, ConsumerError, Difference, Leftover, Mend, Odd, StreamError},
    },
    finding::{Finding, Verdict},
};

/// What was seen, and what to do about it.
pub(super) fn findings(config: &Config, seen: Seen) -> Vec<Finding> {
    let durable = config.stream.is_some();
    let manages = config.stream.as_ref().is_some_and(|stream| stream.manage);
    let unreached = match seen.servers.is_empty() {
        false => Verdict::Warning,
        true => Verdict::Bad,
    };
    let servers = seen.servers.iter().map(|server| of_server(server, durable));
    let mut findings: Vec<_> = servers.collect();
    for (address, error) in &seen.failed {
        let text = format!("NATS at {address}: {}", explained(error));
        findings.push(Finding::new(unreached, text));
    }
    for text in &seen.forbidden {
        let text = format!(
            "NATS: {text}; the gateway needs that right, see examples/nats-permissions.conf"
        );
        findings.push(Finding::new(Verdict::Bad, text));
    }
    for text in &seen.service_forbidden {
        let text = format!(
            "NATS: {text}; without that right services can't call this gateway by NATS's service \
             API, and all else works; see examples/nats-permissions.conf"
        );
        findings.push(Finding::new(Verdict::Warning, text));
    }
    for text in &seen.calls_forbidden {
        let text = format!(
            "NATS: {text}; without that right clients' calls are answered `unavailable`, and all \
             else works; see examples/nats-permissions.conf"
        );
        findings.push(Finding::new(Verdict::Warning, text));
    }
    for text in &seen.topics_forbidden {
        let text = format!(
            "NATS: {text}; without that right no session follows a topic, and all else works; see \
             examples/nats-permissions.conf"
        );
        findings.push(Finding::new(Verdict::Warning, text));
    }
    if let Some(error) = seen.leftovers_forbidden {
        let text = format!(
            "NATS: {error}; without that right `usher check` cannot tell whether a stream is left \
             over, and all else works"
        );
        findings.push(Finding::new(Verdict::Warning, text));
    }
    if let Some(silent) = seen.silent {
        let text = format!("NATS: no answer to a PING within {} s", silent.as_secs());
        findings.push(Finding::new(Verdict::Bad, text));
    }
    let mut has_stream = false;
    if let (Some(stream), Some(checked)) = (&config.stream, seen.stream) {
        has_stream = checked.is_ok();
        let serves = checked.as_ref().is_ok_and(Checked::serves);
        findings.extend(
            seen.leftover
                .map(|leftover| of_leftover(&leftover, stream, serves)),
        );
        findings.extend(of_stream(stream, checked));
    }
    if let Some(storing) = of_storing(&seen.storing) {
        findings.push(storing);
    }
    match seen.consumer {
        Some(Ok(())) => {
            let text = "consumer usher-offline: as it should be, for offline.events";
            findings.push(Finding::new(Verdict::Good, text));
        }
        Some(Err(ConsumerError::Missing(_))) if manages => {
            let text = "consumer usher-offline: absent; `usher serve` creates it";
            findings.push(Finding::new(Verdict::Detail, text));
        }
        // Sessions work all the same.
        Some(Err(error)) => findings.push(Finding::new(Verdict::Warning, error)),
        None => {}
    }
    match seen.odd {
        None if has_stream => {
            let text = "the stream has too many subjects to look for those that are nobody's";
            findings.push(Finding::new(Verdict::Detail, text));
        }
        Some(Odd { count, named }) if count > 0 => findings.push(of_odd(count, &named)),
        _ => {}
    }
    findings
}

fn of_odd(count: usize, named: &[(String, String)]) -> Finding {
    let named = named
        .iter()
        .map(|(subject, meant)| format!("{subject} (meant: {meant}?)"));
    let named: Vec<_> = named.collect();
    let text = format!(
        "{count} of the stream's subjects stand for no user, so nobody gets their messages: {}; \
             a publisher writes a user's id as a token, see `usher subject`",
        named.join(", ")
    );
    Finding::new(Verdict::Warning, text)
}

fn of_server(server: &Server, durable: bool) -> Finding {
    let Server {
        address,
        name,
        version,
        ..
    } = server;
    let cluster = match &server.cluster {
        Some(name) => format!(", cluster {name}"),
        None => String::new(),
    };
    let shown = format!("NATS at {address}: nats-server {version} ({name}{cluster})");
    if server.too_old {
        let text = format!("{shown} is too old; Usher needs 2.14.2 or later: upgrade it");
        return Finding::new(Verdict::Bad, text);
    }
    if durable && server.dies_of_one_byte {
        let text = format!(
            "{shown} ends, and starts again, when anyone with the right to publish to the stream \
             sends a header block of one byte; 2.15.2 does so too, so watch for a later version"
        );
        return Finding::new(Verdict::Warning, text);
    }
    Finding::new(Verdict::Good, shown)
}

/// What happened, and what to do.
fn explained(error: &DialError) -> String {
    let io = |error: &io::Error| match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "connection refused; is nats-server running there, and is nats.url right?".to_owned()
        }
        // The server has answered there, and not by the protocol.
        io::ErrorKind::Other => error.to_string(),
        _ => format!("{error}; is nats.url right?"),
    };
    match error {
        DialError::Io(error) => io(error),
        DialError::TimedOut => {
            format!("{error}; is there a nats-server behind that address, or a firewall before it?")
        }
        DialError::Refused(text) if text.to_ascii_lowercase().contains("authorization") => format!(
            "wrong password, or none: it says '{text}'; check nats.user and nats.password, or \
             nats.token, nats.credentials_file, nats.nkey_seed_file"
        ),
        other => other.to_string(),
    }
}

/// A stream that nothing reads any more. It may keep the one that is needed from being made.
fn of_leftover(leftover: &Leftover, stream: &stream::Config, serves: bool) -> Finding {
    let (Leftover { name, takes }, ours) = (leftover, &stream.name);
    if serves || takes.is_empty() {
        let text = format!(
            "stream {name}: left over from a version before 0.2.0; {ours} keeps broadcasts too. \
             Remove it once no gateway of that version runs: nats stream rm {name}"
        );
        return Finding::new(Verdict::Warning, text);
    }
    let text = format!(
        "stream {name}: left over from a version before 0.2.0, and it captures {}, so JetStream \
         lets no other stream have that. Once no gateway of that version runs, remove it: nats \
         stream rm {name}",
        takes.join(", ")
    );
    Finding::new(Verdict::Bad, text)
}

/// In live mode somebody may want what is published stored, but no gateway reads it.
fn of_storing(streams: &[String]) -> Option<Finding> {
    let names = streams.join(", ");
    let text = format!(
        "stream {names}: stores what is published to users, and durable mode is off, so no gateway \
         reads it; a publisher that sends a request is answered by the stream too. If durable mode \
         has left it: nats stream rm {names}"
    );
    (!streams.is_empty()).then(|| Finding::new(Verdict::Warning, text))
}

fn of_stream(stream: &stream::Config, seen: Result<Checked, StreamError>) -> Vec<Finding> {
    let name = &stream.name;
    let bad = |text: String| vec![Finding::new(Verdict::Bad, text)];
    match seen {
        Ok(one) => {
            // What keeps more than is asked for does no harm.
            let is_less = |one: &Difference| one.mend != Mend::KeepsLess;
            let verdict = match one.serves() {
                true if one.left.iter().any(is_less) => Verdict::Warning,
                true => Verdict::Good,
                false => Verdict::Bad,
            };
            let created = if one.created { "created, " } else { "" };
            let text = format!("stream {name}: {created}{}", one.holds);
            let mut findings = vec![Finding::new(verdict, text)];
            for difference in &one.mended {
                let text = format!("mended: {} is {} now", difference.field, difference.wanted);
                findings.push(Finding::new(Verdict::Detail, text));
            }
            for difference in &one.left {
                findings.push(Finding::new(Verdict::Detail, difference));
            }
            findings
        }
        Err(StreamError::NotThere(_)) if stream.manage => vec![Finding::new(
            Verdict::Detail,
            format!(
                "stream {name}: absent; `usher serve` creates it, and so does \
                 `usher check --apply`"
            ),
        )],
        Err(StreamError::NotThere(_)) => bad(format!(
            "stream {name}: absent, or it allows no direct get, and durable.manage_stream is \
             off; `usher check --apply` creates and mends it"
        )),
        Err(error) => bad(format!("stream {name}: {error}")),
    }
}
