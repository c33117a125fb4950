//! `usher check`: whether NATS is there, lets this gateway do what it must, and has the stream.

use std::{io, time::Duration};

use tokio::time::timeout;

use super::{
    Config, Health, Servers, Subjects, client,
    health::is_too_old,
    interest::{DialError, Dialer, Info, Link, Received, Window},
    servers::address,
    stream::{self, Checked, Reach, StreamError},
};
use crate::{
    finding::{Finding, Verdict},
    metrics::Metrics,
    readiness::{Part, Readiness},
};

/// NATS answers within this.
const ANSWER: Duration = Duration::from_secs(4);
/// With a stream that republishes, nats-server up to this version ends at a message whose
/// header block has one byte.
const DIES_OF_ONE_BYTE: &str = "2.15.1";

/// Looks at everything that this configuration needs of NATS; with `apply` makes the stream
/// what the configuration says, also where it keeps less then.
pub async fn check(config: &Config, apply: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let servers = Servers::new(&config.servers);
    let dialer = Dialer::new(config.clone(), servers.clone());
    let mut reached = None;
    let mut failed = Vec::new();
    for server in &config.servers {
        if let Some(link) = dialer.reach(server, &mut failed).await {
            findings.push(found(config, &address(server), link.info()));
            reached = reached.or(Some(link));
        }
    }
    let unreached = match reached {
        Some(_) => Verdict::Warning,
        None => Verdict::Bad,
    };
    for (address, error) in failed {
        let text = format!("NATS at {address}: {}", explained(&error));
        findings.push(Finding::new(unreached, text));
    }
    let Some(link) = reached else { return findings };
    let subjects = config.subjects();
    findings.extend(permissions(config, link, &subjects).await);
    if let Some(stream) = &config.stream {
        let seen = look(config, servers, subjects, stream, apply).await;
        findings.extend(of_stream(stream, seen));
    }
    findings
}

fn found(config: &Config, address: &str, info: &Info) -> Finding {
    let Info {
        version,
        server_name,
        ..
    } = info;
    let cluster = match &info.cluster {
        Some(name) => format!(", cluster {name}"),
        None => String::new(),
    };
    let server = format!("NATS at {address}: nats-server {version} ({server_name}{cluster})");
    if is_too_old(version) {
        let text = format!("{server} is too old; Usher needs 2.14.2 or later: upgrade it");
        return Finding::new(Verdict::Bad, text);
    }
    if config.stream.is_some() && version == DIES_OF_ONE_BYTE {
        let text = format!(
            "{server} ends, and starts again, when anyone with the right to publish to the stream \
             sends a header block of one byte; upgrade it as soon as there is a later version"
        );
        return Finding::new(Verdict::Warning, text);
    }
    Finding::new(Verdict::Good, server)
}

/// What happened, and what to do.
fn explained(error: &DialError) -> String {
    let io = |error: &io::Error| match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "connection refused; is nats-server running there, and is nats.url right?".to_owned()
        }
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

/// Does once what the gateway does all the time, to see what NATS forbids.
async fn permissions(config: &Config, mut link: Link, subjects: &Subjects) -> Vec<Finding> {
    let inbox = format!("{}check.*", config.reply_prefix);
    let heard = [subjects.echo(), subjects.heard_broadcast(), inbox];
    for (sid, subject) in (1..).zip(&heard) {
        link.subscribe(sid, subject);
    }
    // A stream stores nothing that it is told to expect elsewhere.
    let headers = [
        ("Usher-Probe", "1"),
        ("Nats-Expected-Stream", "usher-check"),
    ];
    for subject in [subjects.probe(), subjects.echo()] {
        link.publish(&subject, None, &headers, &[]);
    }
    link.ping(Window::default());
    let mut findings = Vec::new();
    let asking = async {
        loop {
            match link.next().await {
                Ok(Received::Error(text)) => {
                    let text = format!(
                        "NATS: {text}; the gateway needs that right, see \
                         examples/nats-permissions.conf"
                    );
                    findings.push(Finding::new(Verdict::Bad, text));
                }
                Ok(Received::Pong(_)) | Err(_) => return,
                Ok(_) => {}
            }
        }
    };
    if timeout(ANSWER, asking).await.is_err() {
        let text = format!("NATS: no answer to a PING within {} s", ANSWER.as_secs());
        findings.push(Finding::new(Verdict::Bad, text));
    }
    findings
}

async fn look(
    config: &Config,
    servers: Servers,
    subjects: Subjects,
    stream: &stream::Config,
    apply: bool,
) -> Result<Checked, StreamError> {
    let (metrics, readiness) = (Metrics::new().into(), Readiness::new(Duration::ZERO));
    let health = Health::new("push", Part::Push, false, metrics, readiness);
    let (client, task) = client::start(config, servers, subjects, health)
        .await
        .map_err(|error| StreamError::Odd(error.to_string()))?;
    let reach = match apply {
        true => Reach::All,
        false => Reach::Nothing,
    };
    let looking = async {
        client.ready().await;
        stream::see_to(&client, stream, reach).await
    };
    tokio::select! {
        seen = timeout(ANSWER, looking) => seen.unwrap_or(Err(StreamError::Away)),
        () = task => Err(StreamError::Away),
    }
}

fn of_stream(stream: &stream::Config, seen: Result<Checked, StreamError>) -> Vec<Finding> {
    let name = &stream.name;
    let bad = |text: String| vec![Finding::new(Verdict::Bad, text)];
    match seen {
        Ok(one) => {
            let verdict = match one.serves() {
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
