//! What `usher check` says of Redis, server by server.

use std::{net::IpAddr, time::Duration};

use deadpool_redis::redis::{Cmd, FromRedisValue as _, Value, cmd};
use tokio::{net::TcpStream, net::lookup_host, time::timeout};

use super::{
    config::{Address, Config, Servers},
    fault::Fault,
    finder::{primary_of, slots_of},
    inspect::{self, Mode, Report},
    link::{Link, Peer, connect},
};
use crate::finding::{Finding, Verdict};

/// Reaches each server that the configuration names or that those name, and says what it
/// is and what it forbids. Changes nothing but keys of its own, which end by themselves.
pub async fn check(config: &Config) -> Vec<Finding> {
    let mut findings = match &config.servers {
        Servers::Single(address) => server(config, address, "").await,
        Servers::Sentinel(sentinels, master) => sentinel(config, sentinels, master).await,
        Servers::Cluster(seeds) => cluster(config, seeds).await,
    };
    for finding in &mut findings {
        finding.text.insert_str(0, "Redis: ");
    }
    findings
}

async fn sentinel(config: &Config, sentinels: &[Address], master: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut primary = None;
    for address in sentinels {
        match primary_of(config, address, master).await {
            Ok((named, _)) => {
                let text = format!("Sentinel {address}: {master:?} is {named}");
                findings.push(Finding::new(Verdict::Good, text));
                primary.get_or_insert(named);
            }
            Err(fault) => {
                let text = format!("Sentinel {}", at_length(fault, address, config).await);
                findings.push(Finding::new(Verdict::Warning, text));
            }
        }
    }
    let Some(primary) = primary else {
        // None of them helps.
        for finding in &mut findings {
            finding.verdict = Verdict::Bad;
        }
        return findings;
    };
    findings.extend(server(config, &primary, ", the primary that the Sentinels name").await);
    findings
}

async fn cluster(config: &Config, seeds: &[Address]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut ranges = Vec::new();
    for seed in seeds {
        match slots_of(config, seed).await {
            Ok(found) if ranges.is_empty() => ranges = found,
            Ok(_) => {}
            Err(fault) => {
                let text = at_length(fault, seed, config).await;
                findings.push(Finding::new(Verdict::Warning, text));
            }
        }
    }
    if ranges.is_empty() {
        for finding in &mut findings {
            finding.verdict = Verdict::Bad;
        }
        if findings.is_empty() {
            let text = "the Cluster has no slots yet";
            findings.push(Finding::new(Verdict::Bad, text));
        }
        return findings;
    }
    let mut primaries: Vec<_> = ranges.iter().map(|range| range.address.clone()).collect();
    primaries.sort_by_key(ToString::to_string);
    primaries.dedup();
    for primary in primaries {
        let own = ranges.iter().filter(|range| range.address == primary);
        let slots: u32 = own.map(super::slots::Range::slots).sum();
        findings.extend(server(config, &primary, &format!(", {slots} slots")).await);
    }
    let slots: u32 = ranges.iter().map(super::slots::Range::slots).sum();
    if slots < super::slots::SLOTS.into() {
        let text = format!(
            "the Cluster serves only {slots} of its {} slots",
            super::slots::SLOTS
        );
        findings.push(Finding::new(Verdict::Bad, text));
    }
    findings
}

/// A server that holds tickets.
async fn server(config: &Config, address: &Address, more: &str) -> Vec<Finding> {
    let asked = async {
        let mut link = connect(config, address, Peer::Server).await?;
        let report = inspect::ask(config, address, &mut link).await?;
        report.check(config, address)?;
        Ok((link, report))
    };
    let (mut link, report) = match asked.await {
        Ok(found) => found,
        Err(fault) => {
            let text = at_length(fault, address, config).await;
            return vec![Finding::new(Verdict::Bad, text)];
        }
    };
    let name = name(&mut link, &report, config.timeout).await;
    let mode = match report.mode {
        Some(Mode::Cluster) => "node of a Cluster",
        _ => "standalone",
    };
    let text = format!("{address}: {name}, {mode}{more}");
    let mut findings = vec![Finding::new(Verdict::Good, text)];
    if let Some(why) = report.set_refused() {
        let text = format!(
            "{address}: SET is refused, so gRPC's IssueTicket issues nothing; sessions do not \
             need it: {why}"
        );
        findings.push(Finding::new(Verdict::Warning, text));
    }
    for (command, right, without) in rights(&config.servers) {
        let refused = ask(&mut link, &command, config.timeout).await;
        if refused.is_some_and(|answer| answer.is_err_and(|error| inspect::refuses(&error))) {
            let text = format!("{address}: {right} is missing in the ACL of redis.user: {without}");
            findings.push(Finding::new(Verdict::Warning, text));
        }
    }
    findings
}

/// What else is asked of a server: the command, what an ACL calls it, and what happens
/// without it.
fn rights(servers: &Servers) -> Vec<(Cmd, &'static str, &'static str)> {
    let logged = "an idle connection is not examined before its use, and Redis logs each refusal";
    let mut rights = vec![
        (cmd("UNWATCH"), "+unwatch", logged),
        (cmd("PING"), "+ping", logged),
    ];
    if let Servers::Cluster(_) = servers {
        let moving = "while a slot moves, its tickets open nothing";
        rights.push((cmd("ASKING"), "+asking", moving));
    }
    rights
}

/// Its name and version, as far as it tells them.
async fn name(link: &mut Link, report: &Report, limit: Duration) -> String {
    let mut info = cmd("INFO");
    info.arg("server");
    let info = match ask(link, &info, limit).await {
        Some(Ok(info)) => String::from_redis_value(info).unwrap_or_default(),
        // It may be there for tickets only.
        _ => String::new(),
    };
    let field = |name: &str| {
        let mut lines = info.lines();
        lines.find_map(|line| {
            line.strip_prefix(name)?
                .strip_prefix(':')
                .map(str::to_owned)
        })
    };
    if let Some(version) = field("valkey_version") {
        return format!("valkey-server {version}");
    }
    let server = report.server.as_deref().unwrap_or("redis");
    match field("redis_version").or(report.version.clone()) {
        Some(version) => format!("{server}-server {version}"),
        None => "redis-server of unknown version".to_owned(),
    }
}

async fn ask(
    link: &mut Link,
    command: &Cmd,
    limit: Duration,
) -> Option<Result<Value, deadpool_redis::redis::RedisError>> {
    let asked = link.connection.send_packed_command(command);
    let answer = timeout(limit, asked).await.ok()?;
    Some(answer.and_then(Value::extract_error))
}

/// A fault with the addresses of a name, each tried by itself.
async fn at_length(fault: Fault, address: &Address, config: &Config) -> String {
    let mut text = fault.to_string();
    if address.host.parse::<IpAddr>().is_ok() {
        return text;
    }
    let Ok(found) = lookup_host((address.host.as_str(), address.port)).await else {
        return text;
    };
    for one in found.take(16) {
        let reached = match timeout(config.timeout, TcpStream::connect(one)).await {
            Ok(Ok(_)) => "takes connections".to_owned(),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                "refused".to_owned()
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        text.push_str(&format!("; tried {one}: {reached}"));
    }
    text
}
