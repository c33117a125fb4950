//! What goes wrong, and for how long.

mod messages;
mod stream;

use std::time::Duration;

use rand::{Rng as _, rngs::StdRng, seq::SliceRandom as _};
use tokio::{sync::watch, time::sleep};

pub(crate) use self::messages::too_large;
use crate::{
    auditor::To,
    client::Order,
    manager::Manager,
    nodes::Servers,
    shared::GATEWAYS,
    world::{Scale, World},
};

/// A link's keepalive gives a silent NATS up after 10 s: these lie on both sides.
const BRIEF: (u64, u64) = (200, 3_000);
const LONG: (u64, u64) = (11_000, 13_000);
/// Long enough for a gateway to find that a client does not read.
const SLOW: (u64, u64) = (3_000, 5_000);
/// Servers choose another leader after 4 to 9 s.
const ELECTION: (u64, u64) = (5_000, 10_000);
/// One of so many clients comes back when a leader steps down.
const COME_BACK: usize = 3;
/// From a copy of the stream until somebody puts it back.
const OLD: (u64, u64) = (500, 6_000);
/// Between the beginnings of two faults, in a short run and in a long one.
const SHORT_RUN: (u64, u64) = (300, 1_500);
const LONG_RUN: (u64, u64) = (500, 4_000);

#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    GatewayKilled(usize),
    GatewayDrained(usize),
    ClientsCut(usize),
    /// One of the NATS servers, by its number, here and below.
    NatsKilled(usize),
    NatsStopped(usize),
    NatsFrozen(usize),
    NatsFrozenForLong(usize),
    /// It goes into lame-duck mode, ends, and begins again.
    NatsRetired(usize),
    /// Two servers have no route to each other.
    RoutesCut([usize; 2]),
    /// Some clients come back at that moment, with positions as new as can be.
    LeaderStepsDown,
    /// The stream's leader is frozen for long enough that another server leads.
    LeaderFrozen,
    /// NATS begins again with an older state of its folder. No gateway sees the stream
    /// before it is beyond its former end where this is true.
    StreamSetBack(bool),
    NatsOutOfReach(usize),
    NatsOutOfReachForLong(usize),
    /// The clients of this user do not read for a while, and have much to read.
    SlowReaders(usize),
    /// The same, with more to read than is kept.
    SlowReadersOfMoreThanIsKept(usize),
    ClientAway(usize),
    /// A user gets more than is kept while its clients are away.
    MoreThanIsKept(usize),
    /// The same of a topic.
    MoreThanIsKeptOfATopic(usize),
    /// A client is away for longer than anything is kept.
    LongerThanIsKept(usize),
    /// NATS stores messages to this user without republishing them. Then a broadcast comes,
    /// and the clients of this user leave with it.
    RepublishLost(usize),
    /// The same with broadcasts that are lost, and a message to this user.
    RepublishOfBroadcastsLost(usize),
    /// The same with messages to a topic that are lost, and a broadcast.
    RepublishOfATopicLost(usize),
    /// This user, everybody, and then a topic gets messages that are too large for a frame.
    TooLarge(usize),
    /// The same while the clients of this user are away.
    TooLargeWhileAway(usize),
}

/// A fault, how long it lasts, and when after its beginning the next one comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planned {
    pub(crate) fault: Fault,
    lasts: Duration,
    pub(crate) next: Duration,
}

/// All faults of such a world once, those that are brief several times, in a random order.
pub(crate) fn deck(rng: &mut StdRng, servers: Servers, scale: &Scale) -> Vec<Planned> {
    let mut node = || rng.random_range(0..servers.count());
    let mut faults = vec![
        Fault::NatsKilled(node()),
        Fault::NatsKilled(node()),
        Fault::NatsStopped(node()),
        Fault::NatsFrozen(node()),
        Fault::NatsFrozenForLong(node()),
    ];
    match servers {
        Servers::One => {
            faults.extend([false, true].map(Fault::StreamSetBack));
        }
        Servers::Three => {
            for _ in 0..if scale.is_long { 2 } else { 1 } {
                faults.extend([Fault::NatsRetired(node()), Fault::LeaderFrozen]);
                faults.extend([Fault::LeaderStepsDown; 2]);
            }
            faults.extend([[0, 1], [0, 2], [1, 2]].map(Fault::RoutesCut));
        }
    }
    faults.extend([
        Fault::NatsOutOfReachForLong(rng.random_range(0..GATEWAYS)),
        Fault::SlowReadersOfMoreThanIsKept(rng.random_range(0..scale.users)),
        Fault::MoreThanIsKept(rng.random_range(0..scale.users)),
        Fault::MoreThanIsKeptOfATopic(rng.random_range(0..scale.topics)),
        Fault::LongerThanIsKept(rng.random_range(0..scale.clients)),
        Fault::RepublishLost(rng.random_range(0..scale.users)),
        Fault::RepublishLost(rng.random_range(0..scale.users)),
        Fault::RepublishOfBroadcastsLost(rng.random_range(0..scale.users)),
        Fault::RepublishOfBroadcastsLost(rng.random_range(0..scale.users)),
        Fault::RepublishOfATopicLost(rng.random_range(0..scale.topics)),
        Fault::RepublishOfATopicLost(rng.random_range(0..scale.topics)),
        Fault::TooLarge(rng.random_range(0..scale.users)),
        Fault::TooLargeWhileAway(rng.random_range(0..scale.users)),
    ]);
    // A short run has each of these once.
    let first = rng.random_range(0..GATEWAYS);
    for gateway in 0..if scale.is_long { GATEWAYS } else { 1 } {
        let [one, two, three] = [0, 1, 2].map(|more| (first + gateway + more) % GATEWAYS);
        faults.extend([
            Fault::GatewayKilled(one),
            Fault::GatewayDrained(two),
            Fault::ClientsCut(three),
            Fault::NatsOutOfReach(one),
            Fault::SlowReaders(rng.random_range(0..scale.users)),
            Fault::ClientAway(rng.random_range(0..scale.clients)),
        ]);
    }
    faults.shuffle(rng);
    let (soonest, latest) = if scale.is_long { LONG_RUN } else { SHORT_RUN };
    let plan = |fault| {
        let (least, most) = match fault {
            Fault::NatsFrozenForLong(_) | Fault::NatsOutOfReachForLong(_) => LONG,
            Fault::StreamSetBack(_) => OLD,
            Fault::LeaderFrozen => ELECTION,
            Fault::SlowReaders(_) | Fault::SlowReadersOfMoreThanIsKept(_) => SLOW,
            _ => BRIEF,
        };
        Planned {
            fault,
            lasts: Duration::from_millis(rng.random_range(least..most)),
            next: Duration::from_millis(rng.random_range(soonest..latest)),
        }
    };
    faults.into_iter().map(plan).collect()
}

impl Fault {
    /// What it is called where it is counted.
    fn name(self) -> String {
        let name = format!("{self:?}");
        name.split('(').next().unwrap_or_default().to_owned()
    }
}

impl Planned {
    /// Begins it, waits, and ends it.
    pub(crate) async fn happens(self, world: &World) {
        let lasts = self.lasts;
        match self.fault {
            Fault::GatewayKilled(gateway) => world.replace(gateway, false, lasts).await,
            Fault::GatewayDrained(gateway) => world.replace(gateway, true, lasts).await,
            Fault::ClientsCut(gateway) => world.proxies[gateway].cut(),
            Fault::NatsKilled(node) => {
                let nats = &mut world.nodes.all.lock().await[node];
                nats.kill();
                sleep(lasts).await;
                nats.restart().await;
            }
            Fault::NatsStopped(node) => {
                let nats = &mut world.nodes.all.lock().await[node];
                nats.stop().await;
                sleep(lasts).await;
                nats.restart().await;
            }
            Fault::NatsFrozen(node) | Fault::NatsFrozenForLong(node) => {
                let nats = &mut world.nodes.all.lock().await[node];
                nats.pause();
                sleep(lasts).await;
                nats.resume();
            }
            Fault::NatsRetired(node) => {
                let nats = &mut world.nodes.all.lock().await[node];
                nats.lame_duck().await;
                sleep(lasts).await;
                nats.restart().await;
            }
            Fault::RoutesCut(between) => world.nodes.cut_routes(between, lasts).await,
            Fault::LeaderFrozen => {
                let mut nodes = world.nodes.all.lock().await;
                let owner = Manager::owner(world.nodes.urls()).await;
                let leader = &mut nodes[owner.leader().await];
                leader.pause();
                sleep(lasts).await;
                leader.resume();
            }
            Fault::LeaderStepsDown => {
                let owner = Manager::owner(world.nodes.urls()).await;
                for client in (0..world.scale.clients).step_by(COME_BACK) {
                    world.order(client, Order::Away(Duration::ZERO));
                }
                let what = match owner.leader_steps_down().await {
                    true => "leaders that stepped down",
                    // There may be none, or none that the owner's server reaches.
                    false => "leaders that could not be reached",
                };
                world.shared.count(what);
            }
            Fault::StreamSetBack(overtaken) => stream::set_back(world, lasts, overtaken).await,
            Fault::NatsOutOfReach(gateway) | Fault::NatsOutOfReachForLong(gateway) => {
                let _one = world.reaches[gateway].lock().await;
                world.networks[gateway].cut();
                sleep(lasts).await;
                world.networks[gateway].mend();
            }
            Fault::SlowReaders(user) => messages::slow(world, user, lasts, messages::UNREAD).await,
            Fault::SlowReadersOfMoreThanIsKept(user) => {
                let more = world.scale.retention.per_channel * 21 / 20;
                messages::slow(world, user, lasts, more).await;
            }
            Fault::ClientAway(client) => world.order(client, Order::Away(lasts)),
            Fault::MoreThanIsKept(user) => more_than_is_kept(world, To::User(user)).await,
            Fault::MoreThanIsKeptOfATopic(topic) => {
                more_than_is_kept(world, To::Topic(topic)).await;
            }
            Fault::LongerThanIsKept(client) => {
                let length = world.scale.retention.age + lasts;
                world.order(client, Order::Away(length));
            }
            Fault::RepublishLost(user) => {
                let user = To::User(user);
                stream::loses_republishes(world, user, (user, To::All), lasts).await;
            }
            Fault::RepublishOfBroadcastsLost(user) => {
                let user = To::User(user);
                stream::loses_republishes(world, user, (To::All, user), lasts).await;
            }
            Fault::RepublishOfATopicLost(topic) => {
                let topic = To::Topic(topic);
                stream::loses_republishes(world, topic, (topic, To::All), lasts).await;
            }
            Fault::TooLarge(user) => too_large(world, user).await,
            Fault::TooLargeWhileAway(user) => {
                let (call, called) = watch::channel(false);
                for client in world.clients_of(To::User(user)) {
                    world.order(client, Order::AwayUntil(called.clone()));
                }
                too_large(world, user).await;
                sleep(lasts).await;
                call.send_replace(true);
            }
        }
        world.shared.count(format!("fault: {}", self.fault.name()));
    }
}

/// More than is kept, while those to whom it is are away.
async fn more_than_is_kept(world: &World, to: To) {
    let (call, called) = watch::channel(false);
    for client in world.clients_of(to) {
        world.order(client, Order::AwayUntil(called.clone()));
    }
    let more = world.scale.retention.per_channel * 5 / 4;
    messages::flood(world, to, 0, more).await;
    call.send_replace(true);
}
