//! The servers around a gateway, and gateways: real ones, on free ports.

use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use deadpool_redis::redis;
use serde_json::Value;
use tempfile::TempDir;

use crate::{Outcome, process::Process};

/// A server or a gateway has to be there within this.
const PATIENCE: Duration = Duration::from_secs(10);

/// NATS and Redis.
pub(crate) struct Servers {
    pub(crate) nats: SocketAddr,
    /// Where NATS says what it holds.
    pub(crate) monitor: SocketAddr,
    pub(crate) nats_process: Process,
    pub(crate) redis: SocketAddr,
    pub(crate) redis_process: Process,
    _folder: TempDir,
}

/// A NATS of its own, with JetStream.
pub(crate) struct JetStream {
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
    _folder: TempDir,
}

impl JetStream {
    pub(crate) fn start() -> Outcome<Self> {
        let folder = TempDir::new()?;
        let (process, address, _) = start_nats(&find("nats-server")?, folder.path(), true)?;
        Ok(Self {
            address,
            process,
            _folder: folder,
        })
    }
}

/// Where `name` is: where `tests/servers.sh` has put one that is new enough, or
/// on PATH.
pub(crate) fn find(name: &str) -> Outcome<PathBuf> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join(".servers/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    [ours]
        .into_iter()
        .chain(env::split_paths(&path))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .ok_or_else(|| format!("there is no {name}: run tests/servers.sh once").into())
}

/// Writes one ticket for each user; returns them in that order.
pub(crate) fn mint(redis: &mut redis::Connection, users: &[String]) -> Outcome<Vec<String>> {
    let tickets: Vec<String> = users
        .iter()
        .map(|_| format!("{:032x}", rand::random::<u128>()))
        .collect();
    let pairs: Vec<_> = tickets.iter().zip(users).collect();
    for pairs in pairs.chunks(1000) {
        let mut pipe = redis::pipe();
        for (ticket, user) in pairs {
            pipe.cmd("SET")
                .arg(format!("ticket:{ticket}"))
                .arg(user)
                .arg("EX")
                .arg(300)
                .ignore();
        }
        pipe.query::<()>(redis)?;
    }
    Ok(tickets)
}

impl Servers {
    pub(crate) fn start() -> Outcome<Self> {
        let folder = TempDir::new()?;
        let (nats_process, nats, monitor) =
            start_nats(&find("nats-server")?, folder.path(), false)?;
        let (redis_process, redis) = start_redis(&find("redis-server")?, folder.path())?;
        Ok(Self {
            nats,
            monitor,
            nats_process,
            redis,
            redis_process,
            _folder: folder,
        })
    }

    /// A connection of our own to Redis.
    pub(crate) fn redis(&self) -> Outcome<redis::Connection> {
        Ok(redis::Client::open(format!("redis://{}", self.redis))?.get_connection()?)
    }

    /// Writes one ticket for each user, or for each JSON value of a ticket; returns them in
    /// that order.
    pub(crate) fn tickets(&self, users: &[String]) -> Outcome<Vec<String>> {
        mint(&mut self.redis()?, users)
    }

    /// Writes one ticket for each user, with what `grant` returns for it besides; returns them
    /// in that order.
    pub(crate) fn granting(
        &self,
        users: &[String],
        grant: impl Fn(usize) -> Value,
    ) -> Outcome<Vec<String>> {
        let value = |(index, user): (usize, &String)| {
            let mut value = grant(index);
            value["user_id"] = user.as_str().into();
            value.to_string()
        };
        let values: Vec<_> = users.iter().enumerate().map(value).collect();
        self.tickets(&values)
    }

    /// The same, with topics that the sessions follow from the beginning.
    pub(crate) fn following(
        &self,
        users: &[String],
        topics: impl Fn(usize) -> Vec<String>,
    ) -> Outcome<Vec<String>> {
        self.granting(users, |index| serde_json::json!({"topics": topics(index)}))
    }

    /// How often Redis was asked each command.
    pub(crate) fn calls(&self) -> Outcome<Vec<(String, u64)>> {
        let text: String = redis::cmd("INFO")
            .arg("commandstats")
            .query(&mut self.redis()?)?;
        let call = |line: &str| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            let calls = rest.split(',').next()?.parse().ok()?;
            Some((name.to_owned(), calls))
        };
        Ok(text.lines().filter_map(call).collect())
    }

    /// A gateway with the default configuration, but for addresses.
    pub(crate) fn gateway(&self) -> Outcome<Gateway> {
        self.gateway_with(&[])
    }

    /// One in durable mode.
    pub(crate) fn durable_gateway(&self, nats: &JetStream, storage: &str) -> Outcome<Gateway> {
        self.gateway_with(&[
            ("USHER_NATS__URL", format!("nats://{}", nats.address)),
            ("USHER_DURABLE__ENABLED", "true".to_owned()),
            ("USHER_DURABLE__STORAGE", storage.to_owned()),
        ])
    }

    /// One with the default configuration, but for addresses and these variables.
    pub(crate) fn gateway_with(&self, variables: &[(&str, String)]) -> Outcome<Gateway> {
        let folder = TempDir::new()?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_usher"));
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("USHER_") {
                command.env_remove(name);
            }
        }
        command
            .arg("serve")
            .current_dir(folder.path())
            .env("USHER_PUBLIC__LISTEN", "127.0.0.1:0")
            .env("USHER_GRPC__LISTEN", "127.0.0.1:0")
            .env("USHER_OPS__LISTEN", "127.0.0.1:0")
            .env("USHER_NATS__URL", format!("nats://{}", self.nats))
            .env("USHER_REDIS__URL", format!("redis://{}", self.redis))
            .env("USHER_LOG__FORMAT", "json")
            .envs(variables.iter().cloned());
        let mut process = Process::start(&command)?;
        let (public, grpc, ops) = until("a gateway listens", || {
            if process.has_ended() {
                return Err(format!("the gateway ended:\n{}", process.said()).into());
            }
            let said = process.said();
            let address = |listener| listening(&said, listener);
            let both = address("public").zip(address("grpc"));
            Ok(both
                .zip(address("ops"))
                .map(|((public, grpc), ops)| (public, grpc, ops)))
        })?;
        until("a gateway is ready", || Ok(ready(public).then_some(())))?;
        Ok(Gateway {
            public,
            grpc,
            ops,
            process,
            _folder: folder,
        })
    }
}

/// A running gateway.
pub(crate) struct Gateway {
    pub(crate) public: SocketAddr,
    pub(crate) grpc: SocketAddr,
    pub(crate) ops: SocketAddr,
    pub(crate) process: Process,
    _folder: TempDir,
}

impl Gateway {
    /// Another gateway than ours, which has one listener.
    pub(crate) fn of(address: SocketAddr, process: Process, folder: TempDir) -> Self {
        Self {
            public: address,
            grpc: address,
            ops: address,
            process,
            _folder: folder,
        }
    }

    /// The sum of the series whose lines begin so.
    pub(crate) fn metric(&self, begins: &str) -> Outcome<f64> {
        let mut stream = TcpStream::connect(self.ops)?;
        let ask = format!(
            "GET /metrics HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
            self.ops
        );
        stream.write_all(ask.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let lines = answer.lines().filter(|line| line.starts_with(begins));
        let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        Ok(values.sum())
    }
}

/// Returns where it listens for clients and for monitoring, too.
fn start_nats(
    program: &Path,
    folder: &Path,
    jetstream: bool,
) -> Outcome<(Process, SocketAddr, SocketAddr)> {
    let mut command = Command::new(program);
    command
        .args([
            "-a",
            "127.0.0.1",
            "-p",
            "-1",
            "-m",
            "-1",
            "--ports_file_dir",
        ])
        .arg(folder);
    if jetstream {
        command.arg("-js").arg("-sd").arg(folder);
    }
    let mut process = Process::start(&command)?;
    let file = folder.join(format!("nats-server_{}.ports", process.pid()));
    let (address, monitor) = until("nats-server listens", || {
        if process.has_ended() {
            return Err(format!("nats-server ended:\n{}", process.said()).into());
        }
        let ports = fs::read(&file)
            .ok()
            .and_then(|text| serde_json::from_slice::<Value>(&text).ok());
        let at = |kind: &str| {
            let url = ports.as_ref()?[kind][0].as_str()?;
            url.rsplit_once("//")?.1.parse().ok()
        };
        Ok(at("nats").zip(at("monitoring")))
    })?;
    Ok((process, address, monitor))
}

/// Redis cannot choose a port by itself, and somebody else may take a free one
/// before it does: hence several tries.
fn start_redis(program: &Path, folder: &Path) -> Outcome<(Process, SocketAddr)> {
    for _ in 0..5 {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = Command::new(program);
        command
            .args([
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--port",
            ])
            .arg(address.port().to_string())
            .arg("--dir")
            .arg(folder);
        let mut process = Process::start(&command)?;
        let answers = until("redis-server listens", || {
            let there = TcpStream::connect(address).is_ok();
            Ok(if process.has_ended() {
                Some(false)
            } else {
                there.then_some(true)
            })
        })?;
        if answers {
            return Ok((process, address));
        }
    }
    Err("redis-server found no port in five tries".into())
}

/// An address that stays free while nobody listens there: below those from which the
/// kernel takes the near ends of connections.
pub(crate) fn lasting_address() -> Outcome<SocketAddr> {
    let ports = (0..100).map(|_| rand::random_range(20_000..30_000));
    let addresses = ports.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let free = |address: &SocketAddr| TcpListener::bind(address).is_ok();
    let found = { addresses }.find(free);
    found.ok_or_else(|| "no free port in a hundred tries".into())
}

pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Outcome<Option<T>>) -> Outcome<T> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(found) = look()? {
            return Ok(found);
        }
        sleep(Duration::from_millis(5));
    }
    Err(format!("waited {} s in vain until {what}", PATIENCE.as_secs()).into())
}

fn listening(log: &str, listener: &str) -> Option<SocketAddr> {
    let line = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut found =
        line.filter(|line| line["message"] == "listening" && line["listener"] == listener);
    found.next()?["address"].as_str()?.parse().ok()
}

pub(crate) fn ready(public: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(public)?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}
