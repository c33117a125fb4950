//! A gateway whose instructions are counted.

use std::{net::SocketAddr, pin::Pin, sync::Arc, thread, time::Duration};

use deadpool_redis::redis;
use tokio::{runtime::Runtime, sync::Notify, time::sleep};
use usher::{
    app::{App, Mode},
    config::Config,
};

use super::clients::{Client, Clients};
use crate::{
    Outcome,
    parts::{BROADCAST, subjects, users},
    payload::Numbers,
    publisher::Publisher,
    servers::mint,
};

/// Part of the name of the function inside which callgrind counts.
pub(super) const COUNTED: &str = "counted_by_callgrind";
/// Sessions, each of its own user.
const SESSIONS: usize = 50;
/// Messages to each user; broadcasts.
const MESSAGES: usize = 8;
/// Between the servers' answer and counting, for what is on its way through them.
const SETTLE: Duration = Duration::from_millis(500);
/// In durable mode the gateway looks a second time at each session that joined.
const SECOND_LOOK: Duration = Duration::from_secs(3);
/// What a welcome, the answer to the `connect` of a Centrifuge client and a message have.
const WELCOME: &[u8] = b"\"welcome\"";
const CONNECTED: &[u8] = b"\"connect\":{";
const MESSAGE: &[u8] = b"\"run\":";

/// What is counted.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Scene {
    Unicast,
    Broadcast,
    Admission,
    Durable,
    Centrifuge,
}

impl Scene {
    pub(super) const ALL: [Self; 5] = [
        Self::Unicast,
        Self::Broadcast,
        Self::Admission,
        Self::Durable,
        Self::Centrifuge,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unicast => "unicast",
            Self::Broadcast => "broadcast, a session",
            Self::Admission => "admission",
            Self::Durable => "unicast in durable mode",
            Self::Centrifuge => "unicast over Centrifuge",
        }
    }

    pub(super) fn is_durable(self) -> bool {
        self == Self::Durable
    }

    /// What the first frame of its sessions has.
    fn welcome(self) -> &'static [u8] {
        match self {
            Self::Centrifuge => CONNECTED,
            _ => WELCOME,
        }
    }

    /// How often the operation is done while it is counted.
    pub(super) fn operations(self) -> u64 {
        match self {
            Self::Admission => SESSIONS as u64,
            _ => (SESSIONS * MESSAGES) as u64,
        }
    }
}

/// What the process does: the arguments are the scene's name, and where NATS and Redis are.
pub(crate) fn be(mut arguments: impl Iterator<Item = String>) -> Outcome<()> {
    let mut argument = || arguments.next().ok_or("SCENE NATS REDIS");
    let name = argument()?;
    let scene = Scene::ALL.into_iter().find(|scene| scene.name() == name);
    let scene = scene.ok_or("no such scene")?;
    let nats: SocketAddr = argument()?.parse()?;
    let redis = argument()?;
    // All in one thread, as it can be repeated.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let gateway = runtime.block_on(start(scene, nats, &redis))?;
    let client = redis::Client::open(format!("redis://{redis}"))?;
    let mut redis = client.get_connection()?;
    let mut come = |name: &str| -> Outcome<Clients> {
        let tickets = mint(&mut redis, &users(name, SESSIONS))?;
        let clients = tickets.iter().map(|ticket| match scene {
            Scene::Centrifuge => Client::send_connect(gateway, ticket),
            _ => Client::send(gateway, ticket),
        });
        Ok(Clients::new(clients.collect::<Result<_, _>>()?))
    };

    // Everything is done once before, so that what is counted does nothing for the first time.
    let mut clients = come("user-first")?;
    let welcome = runtime.block_on(clients.take(scene.welcome(), 1))?;
    if scene == Scene::Admission {
        let clients = come("user-again")?;
        thread::sleep(SETTLE);
        return counted(&runtime, &clients, &welcome);
    }
    if scene.is_durable() {
        runtime.block_on(async { sleep(SECOND_LOOK).await });
        runtime.block_on(clients.take(b"", 0))?;
    }
    let mut publisher = Publisher::connect(nats)?;
    let mut publish = |run: u64| -> Outcome<()> {
        publish(&mut publisher, scene, run)?;
        thread::sleep(SETTLE);
        Ok(())
    };
    publish(1)?;
    let bytes = runtime.block_on(clients.take(MESSAGE, MESSAGES))?;
    publish(2)?;
    counted(&runtime, &clients, &bytes)
}

fn counted(runtime: &Runtime, clients: &Clients, bytes: &[usize]) -> Outcome<()> {
    let mut outcome = Ok(());
    counted_by_callgrind(
        runtime,
        Box::pin(async { outcome = clients.wait(bytes).await }),
    );
    outcome
}

/// Callgrind counts what happens inside.
#[inline(never)]
fn counted_by_callgrind(runtime: &Runtime, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
    runtime.block_on(future);
}

/// Starts a gateway on this runtime; returns where clients connect.
async fn start(scene: Scene, nats: SocketAddr, redis: &str) -> Outcome<SocketAddr> {
    let any = "127.0.0.1:0".to_owned();
    let variables = [
        ("USHER_PUBLIC__LISTEN", any.clone()),
        ("USHER_GRPC__LISTEN", any.clone()),
        ("USHER_OPS__LISTEN", any),
        ("USHER_NATS__URL", format!("nats://{nats}")),
        ("USHER_REDIS__URL", format!("redis://{redis}")),
        // Under callgrind everything takes fifty times as long.
        ("USHER_PUBLIC__HANDSHAKE_TIMEOUT", "60s".to_owned()),
        ("USHER_REDIS__TIMEOUT", "60s".to_owned()),
        ("USHER_DURABLE__ENABLED", scene.is_durable().to_string()),
        ("USHER_DURABLE__STORAGE", "memory".to_owned()),
        ("USHER_CENTRIFUGE__ENABLED", "true".to_owned()),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value));
    let config = Config::load(None, variables)?;
    let app = App::bind(config, Mode::default(), 20_000).await?;
    let mut started = app.started()?;
    tokio::spawn(async {
        let never = std::future::pending();
        if let Err(error) = app.run(never, Arc::new(Notify::new())).await {
            eprintln!("the gateway ended: {error}");
            std::process::exit(1);
        }
    });
    started.ready().await;
    Ok(started.public)
}

/// Publishes the messages of a run, and returns when the server has taken them.
fn publish(publisher: &mut Publisher, scene: Scene, run: u64) -> Outcome<()> {
    let subjects = match scene {
        Scene::Broadcast => vec![BROADCAST.to_owned()],
        _ => subjects(&users("user-first", SESSIONS)),
    };
    for seq in 0..MESSAGES as u64 {
        for subject in &subjects {
            let at = Duration::ZERO;
            publisher.publish(subject, Numbers { run, seq, at })?;
        }
    }
    Ok(publisher.confirm()?)
}
