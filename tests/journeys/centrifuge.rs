//! The Centrifuge protocol: its SDKs, unchanged (`tests/centrifuge`), and clients that break
//! its rules.

mod calls;
mod chromium;
mod cuts;
mod endings;
mod go;
mod hostile;
mod java;
mod many;
mod recovery;
mod sdks;
mod tokens;
mod topics;
mod wire;

use std::{
    path::Path,
    process::{ChildStdin, Command},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    browser::{has_package, node, remember_tickets},
    support::{
        Builder, Gateway, Nats, Redis, eventually,
        process::{self, Process},
    },
};

/// Which SDK, and what it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    JsJson,
    JsProtobuf,
    PythonJson,
    /// Keeps its first ticket.
    PythonProtobuf,
    /// Keep their first ticket, and are there where `make centrifuge-go` has built them.
    GoJson,
    GoProtobuf,
    /// Speaks Protobuf alone, keeps its first ticket, and is there where `make centrifuge-java`
    /// has built it.
    Java,
    /// The SDK for JavaScript in a page.
    ChromiumJson,
    ChromiumProtobuf,
}

impl Kind {
    const ALL: [Self; 4] = [
        Self::JsJson,
        Self::JsProtobuf,
        Self::PythonJson,
        Self::PythonProtobuf,
    ];
    /// Those that can come again by a ticket.
    const RETURNING: [Self; 3] = [Self::JsJson, Self::JsProtobuf, Self::PythonJson];

    fn is_protobuf(self) -> bool {
        matches!(
            self,
            Self::JsProtobuf
                | Self::PythonProtobuf
                | Self::GoProtobuf
                | Self::Java
                | Self::ChromiumProtobuf
        )
    }

    /// It keeps the ticket that it had first.
    fn keeps_its_ticket(self) -> bool {
        matches!(
            self,
            Self::PythonProtobuf | Self::GoJson | Self::GoProtobuf | Self::Java
        )
    }
}

const SECRET: &str = "a secret of at least thirty-two bytes";

/// What a gateway needs that lets clients connect by a JWT, with grants in it.
const TOKENS: [(&str, &str); 6] = [
    ("tickets.jwt.secret", SECRET),
    ("tickets.jwt.connect", "true"),
    ("tickets.jwt.topics_claim", "topics"),
    ("tickets.jwt.may_follow_claim", "may_follow"),
    ("tickets.jwt.may_follow_prefix_claim", "may_follow_prefix"),
    ("tickets.jwt.calls_claim", "calls"),
];

/// What a client needs that signs itself JWTs which live for so many seconds.
fn signing(life: u64, mut more: Value) -> Value {
    more["secret"] = SECRET.into();
    more["life"] = life.into();
    more
}

/// A program made of an SDK.
struct Sdk {
    process: Process,
    /// One with a browser ends, and leaves nothing behind, when this ends.
    input: Option<ChildStdin>,
}

impl Sdk {
    fn start(kind: Kind, gateway: &Gateway, user: &str) -> Self {
        Self::with(kind, gateway, user, &gateway.public, json!({}))
    }

    /// One that can come again: by a fresh ticket, or by a JWT where it keeps its first
    /// ticket. The gateway has [`TOKENS`].
    fn returning(kind: Kind, gateway: &Gateway, user: &str, address: &str, more: Value) -> Self {
        let more = match kind.keeps_its_ticket() {
            true => signing(600, more),
            false => more,
        };
        Self::with(kind, gateway, user, address, more)
    }

    /// One that connects there, has its tickets of this gateway, and more options.
    fn with(kind: Kind, gateway: &Gateway, user: &str, address: &str, mut more: Value) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        more["url"] = format!("ws://{address}/connection/websocket").into();
        more["tickets"] = format!("http://{}/v1/tickets", gateway.grpc).into();
        more["user"] = user.into();
        more["protobuf"] = kind.is_protobuf().into();
        let scripts = root.join("tests/centrifuge");
        let mut command = match kind {
            Kind::JsJson | Kind::JsProtobuf => {
                has_package("centrifuge");
                let mut command = Command::new(process::server("node"));
                command.arg(scripts.join("client.mjs"));
                command
            }
            Kind::PythonJson | Kind::PythonProtobuf => {
                let clients = root.join(".servers/python");
                assert!(
                    clients.join("centrifuge").exists(),
                    "there is no centrifuge-python yet: run \"make test\" once"
                );
                let mut command = Command::new("python3");
                command
                    .arg(scripts.join("client.py"))
                    .env("PYTHONPATH", clients)
                    .env("PYTHONDONTWRITEBYTECODE", "1");
                command
            }
            Kind::GoJson | Kind::GoProtobuf => {
                let client = std::env::var("USHER_CENTRIFUGE_GO");
                Command::new(client.expect("make centrifuge-go says where its client is"))
            }
            Kind::ChromiumJson | Kind::ChromiumProtobuf => {
                has_package("centrifuge");
                has_package("playwright-core");
                more["chromium"] = process::server("chromium").display().to_string().into();
                // A page of that origin.
                more["page"] = format!("http://{address}/healthz").into();
                let mut command = node("centrifuge.mjs");
                command.arg(more.to_string());
                let (process, input) = Process::told(command);
                return Self {
                    process,
                    input: Some(input),
                };
            }
            Kind::Java => {
                let classes = std::env::var("USHER_CENTRIFUGE_JAVA");
                let classes = classes.expect("make centrifuge-java says where its classes are");
                let mut command = Command::new("java");
                command.args(["-Xmx512m", "-cp", &classes, "App"]);
                command
            }
        };
        command.arg(more.to_string());
        Self {
            process: Process::spawn(command),
            input: None,
        }
    }

    /// All that it has printed of what happened.
    fn seen(&self) -> Vec<Value> {
        let output = self.process.output();
        let whole = output.rfind('\n').map_or("", |end| &output[..end]);
        let lines = whole.lines();
        lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// What happened of this kind.
    fn all(&self, on: &str) -> Vec<Value> {
        let mut seen = self.seen();
        seen.retain(|one| one["on"] == on);
        seen
    }

    /// Waits until that has happened so often; returns the last.
    async fn sees(&self, on: &str, count: usize) -> Value {
        self.sees_such(&format!("{count} {on}"), count, |one| one["on"] == on)
            .await
    }

    async fn sees_such(&self, what: &str, count: usize, is_it: impl Fn(&Value) -> bool) -> Value {
        let such = || self.seen().into_iter().filter(&is_it).nth(count - 1);
        eventually(&format!("{what}, not only:\n{}", self.end()), || {
            std::future::ready(such().is_some())
        })
        .await;
        such().expect("it was there")
    }

    fn end(&self) -> String {
        let output = self.process.output();
        output.lines().rev().take(5).collect::<Vec<_>>().join("\n")
    }

    /// Channel, data and tags of its publications.
    fn publications(&self) -> Vec<(String, Value, Value)> {
        let publications = self.all("publication").into_iter();
        let parts = publications.map(|mut one| {
            let channel = one["channel"].as_str().expect("a channel").to_owned();
            (channel, one["data"].take(), one["tags"].take())
        });
        parts.collect()
    }
}

impl Drop for Sdk {
    fn drop(&mut self) {
        if self.input.take().is_some() {
            let begun = Instant::now();
            while self.process.try_wait().is_none() && begun.elapsed() < Duration::from_secs(10) {
                thread::sleep(Duration::from_millis(10));
            }
        }
        self.process.kill();
        remember_tickets(&self.process);
        if std::thread::panicking() {
            eprintln!("--- an SDK printed:\n{}---", self.process.output());
        }
    }
}

/// A gateway to be that speaks the protocol.
fn speaking(gateway: Builder) -> Builder {
    gateway.set("centrifuge.enabled", "true")
}

/// The same, with [`TOKENS`].
fn with_tokens(gateway: Builder) -> Builder {
    TOKENS
        .into_iter()
        .fold(speaking(gateway), |gateway, (key, value)| {
            gateway.set(key, value)
        })
}

/// A NATS that keeps messages, Redis, and a gateway of durable mode that speaks the protocol.
async fn durable(settings: &[(&str, &str)]) -> (Nats, Redis, Gateway) {
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let gateway = again(&nats, &redis, settings).await;
    (nats, redis, gateway)
}

/// Another such gateway.
async fn again(nats: &Nats, redis: &Redis, settings: &[(&str, &str)]) -> Gateway {
    let mut gateway = speaking(Gateway::durable(nats, redis));
    for (key, value) in settings {
        gateway = gateway.set(key, *value);
    }
    gateway.start().await
}
