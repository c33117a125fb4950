//! What a server says of itself at connect, and whether it does what tickets need.

use std::collections::HashMap;

use deadpool_redis::redis::{
    ErrorKind, FromRedisValue as _, RedisError, ServerErrorKind, Value, pipe,
};
use tokio::time::timeout;

use super::{
    config::{Address, Config, Servers},
    fault::{Fault, describe},
    link::Link,
    node::is_redirect,
};

/// What runs on a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// A server by itself, or one that Sentinels watch.
    Standalone,
    /// A node of a Cluster.
    Cluster,
    Sentinel,
}

/// What a server answered.
#[derive(Debug)]
pub(super) struct Report {
    /// What HELLO says, which no access control forbids. `None`: it lacks HELLO.
    pub(super) mode: Option<Mode>,
    pub(super) is_replica: bool,
    /// Its kind, `redis` or `valkey`, and version.
    pub(super) server: Option<String>,
    pub(super) version: Option<String>,
    set: Result<(), RedisError>,
    getdel: Result<(), RedisError>,
}

/// Asks all in one write: who it is, and SET and GETDEL of a key of our own, which no
/// ticket has and which ends by itself.
pub(super) async fn ask(
    config: &Config,
    address: &Address,
    link: &mut Link,
) -> Result<Report, Fault> {
    let key = config.own_key(rand::random());
    let mut pipeline = pipe();
    pipeline.cmd("HELLO");
    pipeline.cmd("SET").arg(&key).arg("-").arg("PX").arg(1000);
    pipeline.cmd("GETDEL").arg(&key);
    let asked = link.connection.send_packed_commands(&pipeline, 0, 3);
    let limit = config.timeout;
    let answers = match timeout(limit, asked).await {
        Ok(answers) => answers.map_err(|error| Fault::read(address, &error, limit))?,
        Err(_) => return Err(Fault::silent(address, limit)),
    };
    let mut answers = answers.into_iter().map(Value::extract_error);
    let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
    let hello = next().ok();
    let hello = hello.and_then(|hello| HashMap::<String, Value>::from_redis_value(hello).ok());
    let mut hello = hello.unwrap_or_default();
    let mut text = |name| match hello.remove(name) {
        Some(Value::BulkString(bytes)) => String::from_utf8(bytes).ok(),
        Some(Value::SimpleString(text)) => Some(text),
        _ => None,
    };
    Ok(Report {
        mode: text("mode").map(|mode| match &*mode {
            "cluster" => Mode::Cluster,
            "sentinel" => Mode::Sentinel,
            _ => Mode::Standalone,
        }),
        is_replica: text("role").is_some_and(|role| role != "master"),
        server: text("server"),
        version: text("version"),
        set: next().map(drop),
        getdel: next().map(drop),
    })
}

impl Report {
    /// Checks whether tickets work there.
    pub(super) fn check(&self, config: &Config, address: &Address) -> Result<(), Fault> {
        let unusable = |what: &str| Err(Fault::unusable(address, what));
        match (&config.servers, self.mode) {
            (Servers::Single(_) | Servers::Sentinel(..), Some(Mode::Cluster)) => {
                return unusable(
                    "it is a node of a Cluster, and answers for some tickets only; write \
                     redis-cluster://HOST:PORT in redis.url",
                );
            }
            (_, Some(Mode::Sentinel)) => {
                return unusable(
                    "it is a Sentinel, which holds no tickets; write \
                     redis-sentinel://HOST:PORT/0?master=NAME in redis.url",
                );
            }
            (Servers::Cluster(_), Some(Mode::Standalone)) => {
                return unusable(
                    "it is no node of a Cluster; write redis://HOST:PORT in redis.url",
                );
            }
            _ => {}
        }
        if self.is_replica {
            return Err(Fault::new(
                address,
                "it is a replica, which takes no writes; name the primary",
            ));
        }
        match &self.getdel {
            Err(error) if refuses(error) => {
                let what = "GETDEL is refused, and without it no ticket opens a session";
                return unusable(&format!("{what}: {}", self.why(error)));
            }
            Err(error) if !is_redirect(error) => return Err(Fault::new(address, describe(error))),
            _ => {}
        }
        match self.set_refused() {
            Some(why) if config.mints => {
                let what = "SET is refused, and without it POST /tickets gives no ticket";
                unusable(&format!("{what}: {why}"))
            }
            _ => Ok(()),
        }
    }

    /// Why SET is refused, if it is.
    pub(super) fn set_refused(&self) -> Option<String> {
        let error = self.set.as_ref().err().filter(|error| refuses(error));
        error.map(|error| self.why(error))
    }

    fn why(&self, error: &RedisError) -> String {
        let mend = if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) {
            "allow it to redis.user, with the keys of tickets.key_prefix"
        } else {
            "Redis has it from 6.2 on, where it is not renamed or taken away"
        };
        format!("{}; {mend}", describe(error))
    }
}

/// Whether the server refuses the command itself: it lacks it, or forbids it or its key.
pub(super) fn refuses(error: &RedisError) -> bool {
    let unknown = || {
        let detail = error.detail().unwrap_or_default();
        detail.to_ascii_lowercase().contains("unknown command")
    };
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::NoPerm) => true,
        ErrorKind::Server(ServerErrorKind::ResponseError) => unknown(),
        _ => false,
    }
}
