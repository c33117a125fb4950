//! The servers, gateways, clients and publishers of a run.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    client::{Client, Order},
    proxy::Proxy,
    publisher,
    shared::{GATEWAYS, Shared},
    support::{
        Gateway, Nats, Redis, gateway,
        wait::{PATIENCE, eventually},
    },
};

/// Each has two clients; client N is user N modulo this, so the first clients
/// are one a user.
pub(crate) const USERS: usize = 20;
pub(crate) const CLIENTS: usize = 2 * USERS;

pub(crate) struct World {
    pub(crate) shared: Arc<Shared>,
    pub(crate) nats: Mutex<Nats>,
    pub(crate) redis: Mutex<Redis>,
    pub(crate) nats_proxies: Vec<Proxy>,
    pub(crate) redis_proxies: Vec<Proxy>,
    /// Whom to send more than anybody keeps.
    pub(crate) floods: mpsc::UnboundedSender<usize>,
    gateways: Vec<Mutex<Gateway>>,
    orders: Vec<mpsc::UnboundedSender<Order>>,
    /// Everybody who lives here; they go with it.
    _tasks: JoinSet<()>,
}

impl World {
    /// One in which all is well. The client `swallows.0` loses each message with
    /// the number `swallows.1`.
    pub(crate) async fn start(seed: u64, swallows: Option<(usize, usize)>) -> Self {
        let nats =
            Nats::start_with("lame_duck_grace_period: \"1s\"\nlame_duck_duration: \"30s\"\n");
        let (nats, redis) = tokio::join!(nats, Redis::start());
        let shared = Arc::<Shared>::default();
        let (floods, flooded) = mpsc::unbounded_channel();
        let mut world = Self {
            shared: shared.clone(),
            nats_proxies: Vec::new(),
            redis_proxies: Vec::new(),
            floods,
            gateways: Vec::new(),
            orders: Vec::new(),
            _tasks: JoinSet::new(),
            nats: Mutex::new(nats),
            redis: Mutex::new(redis),
        };
        let nats = port(&world.nats.get_mut().url());
        let redis = world.redis.get_mut().url();
        for index in 0..GATEWAYS {
            world.nats_proxies.push(Proxy::to(nats).await);
            world.redis_proxies.push(Proxy::to(port(&redis)).await);
            let gateway = world.gateway(index).await;
            world.gateways.push(Mutex::new(gateway));
        }
        for index in 0..CLIENTS {
            let (orders, given) = mpsc::unbounded_channel();
            world.orders.push(orders);
            let client = Client {
                shared: shared.clone(),
                redis: redis.clone(),
                user: index % USERS,
                raw: index % 5 == 4,
                orders: given,
                swallow: swallows.filter(|s| s.0 == index).map(|s| s.1),
            };
            world._tasks.spawn(client.live());
        }
        let over_nats = publisher::over_nats(shared.clone(), nats, USERS, seed, flooded);
        world._tasks.spawn(over_nats);
        world
            ._tasks
            .spawn(publisher::over_grpc(shared, USERS, seed));
        world
    }

    /// A gateway that reaches its servers over its proxies, with bounds that a
    /// minute is long enough for.
    async fn gateway(&self, index: usize) -> Gateway {
        let gateway = gateway::Builder::new()
            .set(
                "nats.url",
                format!("nats://{}", self.nats_proxies[index].address),
            )
            .set(
                "redis.url",
                format!("redis://{}", self.redis_proxies[index].address),
            )
            .set("redis.timeout", "2s")
            .set("session.ping_interval", "1s")
            .set("session.idle_timeout", "4s")
            .set("session.queue_messages", "128")
            .set("session.queue_bytes", "256KiB")
            .set("session.write_timeout", "5s")
            .set("drain.delay", "500ms")
            .set("drain.window", "2s")
            .start_unready()
            .await;
        self.shared.is_at(index, &gateway.public, &gateway.grpc);
        gateway
    }

    /// Ends a gateway, in good order or without a word, and starts another.
    pub(crate) async fn replace(&self, index: usize, drain: bool, pause: Duration) {
        let mut gateway = self.gateways[index].lock().await;
        match drain {
            true => gateway.terminate(),
            false => gateway.kill(),
        }
        let status = gateway.wait().await;
        if drain && status.code() != Some(0) {
            let complaint = format!("a drained gateway ended with {status}");
            self.shared.auditor().complain(complaint);
        }
        self.look_at_log(&gateway);
        sleep(pause).await;
        *gateway = self.gateway(index).await;
    }

    fn look_at_log(&self, gateway: &Gateway) {
        let log = gateway.log();
        if let Some(line) = log.lines().find(|line| line.contains("panicked")) {
            self.shared.auditor().complain(line.to_owned());
        }
    }

    pub(crate) fn order(&self, client: usize, order: Order) {
        // A client that stays away was complained of already.
        let _ = self.orders[client].send(order);
    }

    /// With nothing wrong any more: everybody comes back, and nobody has missed
    /// anything without being told. Returns what the auditor has to say.
    pub(crate) async fn audit(&self) -> Vec<String> {
        for gateway in &self.gateways {
            let gateway = gateway.lock().await;
            gateway.becomes_ready().await;
            gateway
                .metric_becomes("usher_nats_connected{connection=\"interest\"}", 1.0)
                .await;
            self.look_at_log(&gateway);
        }
        let back = || std::future::ready(self.shared.all_open(CLIENTS));
        eventually("every client is back", back).await;
        let until = self.shared.auditor().now();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let missing = self.shared.auditor().missing(&until);
            let mut complaints = self.shared.auditor().complaints();
            if !complaints.is_empty() || missing.is_empty() || Instant::now() > deadline {
                let silent = |(session, stream, number)| {
                    format!("session {session} was not told that it missed {number} of {stream:?}")
                };
                complaints.extend(missing.into_iter().map(silent));
                return complaints;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The port of `scheme://host:port`.
fn port(url: &str) -> u16 {
    let port = url.rsplit(':').next().and_then(|port| port.parse().ok());
    port.expect("a port")
}
