//! The servers, gateways, clients and publishers of a run.

use std::{sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
    time::sleep,
};

use crate::{
    auditor::{Id, Retention, Verdict},
    client::{Client, Order, Swallow},
    proxy::Proxy,
    publisher::Publisher,
    shared::{GATEWAYS, MAX_FRAME_KIB, Phase, Shared},
    support::{
        Gateway, Nats, Redis, eventually, gateway, nats::Role, network::Network, wait::patiently,
    },
};

/// Those that publish all the time; one more publishes what faults ask for.
const PUBLISHERS: usize = 6;

/// How large a run is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) users: usize,
    /// Client N is user N modulo `users`.
    pub(crate) clients: usize,
    /// Messages a second.
    pub(crate) rate: usize,
    pub(crate) retention: Retention,
}

pub(crate) struct World {
    pub(crate) shared: Arc<Shared>,
    pub(crate) scale: Scale,
    pub(crate) nats: Mutex<Nats>,
    /// Between clients and each gateway.
    pub(crate) proxies: Vec<Proxy>,
    /// Between each gateway and NATS.
    pub(crate) networks: Vec<Network>,
    /// Whoever cuts one of these holds its lock.
    pub(crate) reaches: Vec<Mutex<()>>,
    pub(crate) extra: Publisher,
    gateways: Vec<Mutex<Gateway>>,
    redis: Redis,
    orders: Vec<mpsc::UnboundedSender<Order>>,
    clients: Mutex<JoinSet<()>>,
    publishers: Mutex<JoinSet<()>>,
}

impl World {
    /// One in which all is well. The client `swallows.0` loses on purpose what
    /// `swallows.1` says.
    pub(crate) async fn start(scale: Scale, seed: u64, swallows: Option<(usize, Swallow)>) -> Self {
        let (nats, redis) = tokio::join!(Nats::keeping(), Redis::start());
        let shared = Arc::new(Shared::new(scale.retention, scale.clients));
        let mut world = Self {
            extra: publisher(&shared, &nats, PUBLISHERS).await,
            shared: shared.clone(),
            scale,
            proxies: Vec::new(),
            networks: Vec::new(),
            reaches: (0..GATEWAYS).map(|_| Mutex::default()).collect(),
            gateways: Vec::new(),
            orders: Vec::new(),
            clients: Mutex::default(),
            publishers: Mutex::default(),
            nats: Mutex::new(nats),
            redis,
        };
        let nats = world.nats.get_mut().url();
        for index in 0..GATEWAYS {
            world.proxies.push(Proxy::new().await);
            world.networks.push(Network::to(&nats).await);
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
                user: index % scale.users,
                events: index % 4 == 3,
                orders: given,
                swallows: swallows.filter(|s| s.0 == index).map(|s| s.1),
                tracker: Default::default(),
            };
            clients.spawn(client.live());
        }
        for index in 0..PUBLISHERS {
            let publisher = publisher(&shared, world.nats.get_mut(), index).await;
            let publishing = publisher.publish(scale.users, scale.rate / PUBLISHERS, seed);
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
        let nats = self.networks[index].address();
        let gateway = gateway::Builder::new()
            .set("nats.url", format!("nats://{nats}"))
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

    /// What a gateway had to say that it should not have.
    fn look_at(&self, gateway: &Gateway) {
        for line in gateway.log().lines() {
            if line.contains("panicked") || line.contains("\"ERROR\"") {
                self.shared.count("errors in a gateway's log");
                if line.contains("panicked") || line.contains("not in the stream") {
                    self.shared.complain(line.to_owned());
                }
            }
        }
    }

    /// One message to each user, and one to all, which it returns.
    pub(crate) async fn publish_to_all(&self) -> Id {
        for user in 0..self.scale.users {
            self.extra.send(Some(user), 0).await;
        }
        self.extra.send(None, 0).await
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

    /// What JetStream has on disk. NATS stops for it.
    pub(crate) async fn copy_of_store(&self) -> TempDir {
        let mut nats = self.nats.lock().await;
        nats.stop().await;
        let copy = nats.copy_of_store();
        nats.restart().await;
        copy
    }

    /// NATS begins again with such a copy, which has everything up to `last`.
    pub(crate) async fn put_back(&self, copy: &TempDir, last: u64) {
        let mut nats = self.nats.lock().await;
        nats.stop().await;
        nats.put_back(copy);
        let now = self.shared.now();
        self.shared.auditor().is_set_back(last, now);
        nats.restart().await;
    }

    pub(crate) fn clients_of(&self, user: usize) -> impl Iterator<Item = usize> {
        (user..self.scale.clients).step_by(self.scale.users)
    }

    pub(crate) fn order(&self, client: usize, order: Order) {
        // A client that stays away was complained of already.
        let _ = self.orders[client].send(order);
    }

    /// With nothing wrong any more: what is under way is stored, every client comes back
    /// once more, and has everything. Returns what the auditor has to say.
    pub(crate) async fn audit(&self) -> Audit {
        self.shared.phase.send_replace(Phase::Settling);
        let mut publishers = self.publishers.lock().await;
        while let Some(ended) = patiently("all is stored", publishers.join_next()).await {
            ended.expect("a publisher's task");
        }
        for gateway in &self.gateways {
            let gateway = gateway.lock().await;
            gateway.becomes_ready().await;
            gateway
                .metric_becomes("usher_nats_connected{connection=\"interest\"}", 1.0)
                .await;
        }
        self.shared.phase.send_replace(Phase::Closing);
        let mut clients = self.clients.lock().await;
        while let Some(ended) = patiently("all have everything", clients.join_next()).await {
            ended.expect("a client's task");
        }
        let mut caught_up = [0.0; 4];
        for gateway in &self.gateways {
            let gateway = gateway.lock().await;
            self.look_at(&gateway);
            for (count, reason) in caught_up.iter_mut().zip(CATCH_UPS) {
                let metric = format!("usher_catch_ups_total{{reason=\"{reason}\"}}");
                *count += gateway.metric(&metric).await;
            }
        }
        for (count, reason) in caught_up.iter().zip(CATCH_UPS) {
            let what = format!("caught up by the last gateways: {reason}");
            self.shared.count_more(what, *count as usize);
        }
        let auditor = self.shared.auditor();
        let mut audit = Audit {
            stored: auditor.stored(),
            unknown: auditor.unknown(),
            complaints: self.shared.complaints(),
            total: Verdict::default(),
        };
        for index in 0..self.scale.clients {
            let heard = self.shared.heard(index);
            let verdict = auditor.judge(index % self.scale.users, &heard);
            let complaints = verdict.complaints.iter();
            let complaints = complaints.map(|complaint| format!("client {index}: {complaint}"));
            audit.complaints.extend(complaints);
            audit.total.add(&verdict);
        }
        audit
    }
}

const CATCH_UPS: [&str; 4] = ["resumed", "lost", "hole", "slow"];

async fn publisher(shared: &Arc<Shared>, nats: &Nats, index: usize) -> Publisher {
    Publisher {
        shared: shared.clone(),
        nats: nats.client().await,
        index,
        next: Default::default(),
    }
}

/// What has come of a run.
pub(crate) struct Audit {
    pub(crate) stored: usize,
    pub(crate) unknown: usize,
    pub(crate) complaints: Vec<String>,
    pub(crate) total: Verdict,
}

impl Audit {
    /// For people.
    pub(crate) fn summary(&self, shared: &Shared) -> String {
        let Verdict {
            accepted,
            duplicates,
            lost,
            false_completes,
            forgiven,
            false_gaps,
            begun,
            complete,
            gap,
            gap_frames,
            too_large,
            crossed,
            ..
        } = self.total;
        format!(
            "stored {} (unknown {}), deliveries {accepted}, faults {}; resumes: {begun} none, \
             {complete} complete, {gap} gap; gap frames {gap_frames}; too large \
             {too_large}; messages that a gap told of {forgiven}; late beside the other channel \
             {crossed}; duplicates {duplicates}; false gaps {false_gaps}; false completes \
             {false_completes}; lost {lost}\n{}",
            self.stored,
            self.unknown,
            shared.counted("fault: "),
            shared.counts(),
        )
    }
}
