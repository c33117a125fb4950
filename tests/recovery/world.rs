//! The servers, gateways, clients and publishers of a run.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    sync::{Mutex, mpsc},
    task::{JoinSet, block_in_place},
    time::sleep,
};

use crate::{
    auditor::{Id, Retention, SetBack, To},
    client::{Client, Order, Swallow},
    nodes::{Nodes, Servers, publishing},
    proxy::Proxy,
    publisher::Publisher,
    shared::{GATEWAYS, MAX_FRAME_KIB, Shared, since_1970},
    support::{Gateway, Nats, Redis, eventually, gateway, nats::Role, network::Network},
    who::{Transport, Who},
};

/// Those that publish all the time; one more publishes what faults ask for.
const PUBLISHERS: usize = 6;

/// So much of a line of a gateway's log.
const SHOWN: usize = 60;

/// How large a run is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) users: usize,
    pub(crate) topics: usize,
    /// Who client N is, says [`Who::new`].
    pub(crate) clients: usize,
    /// Messages a second.
    pub(crate) rate: usize,
    pub(crate) retention: Retention,
    /// The run takes minutes.
    pub(crate) is_long: bool,
}

impl Scale {
    pub(crate) fn who(&self, client: usize) -> Who {
        Who::new(client, self.users, self.topics)
    }

    /// Those of these transports.
    pub(crate) fn clients_over(&self, transports: &[Transport]) -> impl Iterator<Item = usize> {
        let over = |client: &usize| transports.contains(&self.who(*client).transport);
        (0..self.clients).filter(over)
    }
}

pub(crate) struct World {
    pub(crate) shared: Arc<Shared>,
    pub(crate) scale: Scale,
    pub(crate) nodes: Nodes,
    /// Between clients and each gateway.
    pub(crate) proxies: Vec<Proxy>,
    /// Between each gateway and NATS.
    pub(crate) networks: Vec<Network>,
    /// Whoever cuts one of these holds its lock.
    pub(crate) reaches: Vec<Mutex<()>>,
    pub(crate) extra: Arc<Publisher>,
    pub(crate) gateways: Vec<Mutex<Gateway>>,
    /// Each returns its number.
    pub(crate) clients: Mutex<JoinSet<usize>>,
    pub(crate) publishers: Mutex<JoinSet<()>>,
    publishing: Vec<Arc<Publisher>>,
    redis: Redis,
    orders: Vec<mpsc::UnboundedSender<Order>>,
}

impl World {
    /// One in which all is well. The client `swallows.0` loses on purpose what
    /// `swallows.1` says.
    pub(crate) async fn start(
        servers: Servers,
        scale: Scale,
        seed: u64,
        swallows: Option<(usize, Swallow)>,
    ) -> Self {
        let (nodes, redis) = tokio::join!(Nodes::start(servers), Redis::start());
        let shared = Arc::new(Shared::new(scale.retention, scale.clients));
        let urls = nodes.urls();
        let publishing = (0..PUBLISHERS).map(|index| publisher(&shared, urls, index));
        let mut world = Self {
            publishing: join_all(publishing).await,
            extra: publisher(&shared, urls, PUBLISHERS).await,
            shared: shared.clone(),
            scale,
            proxies: Vec::new(),
            networks: Vec::new(),
            reaches: (0..GATEWAYS).map(|_| Mutex::default()).collect(),
            gateways: Vec::new(),
            orders: Vec::new(),
            clients: Mutex::default(),
            publishers: Mutex::default(),
            nodes,
            redis,
        };
        for index in 0..GATEWAYS {
            world.proxies.push(Proxy::new().await);
            let urls = world.nodes.urls();
            let network = Network::to(&urls[index % urls.len()]).await;
            world.networks.push(network);
            let gateway = world.gateway(index).await;
            gateway.becomes_ready().await;
            world.gateways.push(Mutex::new(gateway));
        }
        let redis = world.redis.client().await;
        let addresses = world.proxies.iter().map(|proxy| proxy.address.clone());
        let addresses: Vec<_> = addresses.collect();
        let clients = world.clients.get_mut();
        for index in 0..scale.clients {
            let (orders, given) = mpsc::unbounded_channel();
            world.orders.push(orders);
            let client = Client {
                shared: shared.clone(),
                redis: redis.clone(),
                addresses: addresses.clone(),
                index,
                who: scale.who(index),
                orders: given,
                swallows: swallows.filter(|s| s.0 == index).map(|s| s.1),
                tracker: Default::default(),
                offsets: Default::default(),
                follows: !scale.who(index).changes,
            };
            clients.spawn(async move {
                client.live().await;
                index
            });
        }
        for publisher in &world.publishing {
            let publisher = publisher.clone();
            let to = (scale.users, scale.topics);
            let publishing = publisher.publish(to, scale.rate / PUBLISHERS, seed);
            world.publishers.get_mut().spawn(publishing);
        }
        world
    }

    /// A gateway that reaches NATS over its network, with bounds that a minute is long
    /// enough for.
    async fn gateway(&self, index: usize) -> Gateway {
        let Retention {
            age,
            per_channel,
            replay,
        } = self.scale.retention;
        let (user, password) = Role::Gateway.login();
        // Its own server over its network; the others' addresses come from there too.
        let mut urls = self.nodes.urls().to_vec();
        let own = index % urls.len();
        urls[own] = format!("nats://{}", self.networks[index].address());
        urls.rotate_left(own);
        let replicas = urls.len().to_string();
        let gateway = gateway::Builder::new()
            .set("nats.url", urls.join(","))
            .set("durable.replicas", replicas)
            .set("nats.user", user)
            .set("nats.password", password)
            .set("redis.url", self.redis.url())
            .set("durable.enabled", "true")
            .set("durable.max_age", format!("{}s", age.as_secs()))
            .set("durable.duplicate_window", format!("{}s", age.as_secs()))
            .set("durable.max_messages_per_channel", per_channel.to_string())
            .set("durable.max_replay", replay.to_string())
            .set("durable.audit", "5s")
            .set("session.ping_interval", "1s")
            .set("session.idle_timeout", "8s")
            .set("session.queue_messages", "64")
            .set("session.queue_bytes", "128KiB")
            .set("session.max_outgoing_frame", format!("{MAX_FRAME_KIB}KiB"))
            .set("drain.delay", "300ms")
            .set("drain.window", "1s")
            .set("centrifuge.enabled", "true")
            .start_unready()
            .await;
        self.proxies[index].leads_to(&gateway.public);
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
            self.shared.complain(complaint);
        }
        self.look_at(&gateway);
        sleep(pause).await;
        *gateway = self.gateway(index).await;
    }

    /// What a gateway had to say that it should not have. Nobody sets a cluster's stream back.
    pub(crate) fn look_at(&self, gateway: &Gateway) {
        let is_cluster = self.nodes.urls().len() > 1;
        for line in gateway.log().lines() {
            let said: Value = serde_json::from_str(line).unwrap_or_default();
            let message = said["message"].as_str().unwrap_or(line);
            let set_back = message.starts_with("the stream is not the one");
            if line.contains("panicked") || is_cluster && set_back {
                self.shared.complain(line.to_owned());
            }
            if set_back || said["level"] == "ERROR" || line.contains("panicked") {
                let message: String = message.chars().take(SHOWN).collect();
                self.shared.count(format!("a gateway said: {message}"));
            }
        }
    }

    /// One message to each user, one to each topic, and one to all, which it returns.
    pub(crate) async fn publish_to_all(&self) -> Id {
        let users = (0..self.scale.users).map(To::User);
        for to in users.chain((0..self.scale.topics).map(To::Topic)) {
            self.extra.send(to, 0).await;
        }
        self.extra.send(To::All, 0).await
    }

    /// The same so many times; all clients have a session, and read it.
    pub(crate) async fn all_read(&self, times: usize) {
        for _ in 0..times {
            let last = self.publish_to_all().await;
            let has_it = |client| self.shared.has_read(client, last);
            let all = || std::future::ready((0..self.scale.clients).all(has_it));
            eventually("all clients have read it", all).await;
        }
    }

    /// An older state to which the stream can be set back. NATS stops for it; whoever calls
    /// holds its lock.
    pub(crate) async fn copy_of_store(&self, nats: &mut Nats) -> Copy {
        let _shut = self.shared.gate.write().await;
        // NATS reads what each connection sent before, so these are the stream's last.
        for publisher in self.publishing.iter().chain([&self.extra]) {
            publisher.send_alone(To::All, 0).await;
        }
        let last = self.shared.auditor().last();
        nats.stop().await;
        let folder = block_in_place(|| nats.copy_of_store());
        nats.restart().await;
        Copy { folder, last }
    }

    /// NATS begins again with an older state. Returns the last sequence before.
    pub(crate) async fn put_back(&self, nats: &mut Nats, copy: &Copy) -> u64 {
        let _shut = self.shared.gate.write().await;
        nats.stop().await;
        block_in_place(|| nats.put_back(&copy.folder));
        let (to, at, time) = (copy.last, self.shared.now(), since_1970());
        let set_back = SetBack { to, at, time };
        let former = self.shared.auditor().last();
        block_in_place(|| self.shared.auditor().is_set_back(set_back));
        nats.restart().await;
        former
    }

    /// Those whose messages these are.
    pub(crate) fn clients_of(&self, to: To) -> impl Iterator<Item = usize> {
        let is_of = move |client: &usize| {
            let channels = self.scale.who(*client).channels;
            channels.number(to).is_some()
        };
        (0..self.scale.clients).filter(is_of)
    }

    pub(crate) fn order(&self, client: usize, order: Order) {
        // A client that stays away was complained of already.
        let _ = self.orders[client].send(order);
    }
}

/// What JetStream had on disk.
pub(crate) struct Copy {
    folder: TempDir,
    /// The last sequence.
    last: u64,
}

async fn publisher(shared: &Arc<Shared>, urls: &[String], index: usize) -> Arc<Publisher> {
    // Each begins with another server.
    let mut urls = urls.to_vec();
    let first = index % urls.len();
    urls.rotate_left(first);
    Arc::new(Publisher {
        shared: shared.clone(),
        nats: publishing(&urls).await,
        index,
        next: Default::default(),
    })
}
