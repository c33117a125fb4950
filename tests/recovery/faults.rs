//! What goes wrong, and for how long.

use std::time::Duration;

use futures_util::future::join_all;
use rand::{Rng as _, rngs::StdRng, seq::SliceRandom as _};
use serde_json::Value;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    client::Order,
    manager::{Manager, republish},
    shared::GATEWAYS,
    support::eventually,
    world::{Scale, World},
};

/// A link's keepalive gives a silent NATS up after 10 s: these lie on both sides.
const BRIEF: (u64, u64) = (200, 3_000);
const LONG: (u64, u64) = (11_000, 13_000);
/// Long enough for a gateway to find that a client does not read.
const SLOW: (u64, u64) = (3_000, 5_000);
/// A large message, and so many of them as the kernel does not keep for a client that
/// does not read.
const LARGE: (usize, usize) = (24 * 1024, 350);
const TOO_LARGE: usize = 96 * 1024;
/// Messages to one user that are stored and not republished; others' come on top.
const LOST: usize = 3;
/// For so long a client may take to read a broadcast.
const READ: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    GatewayKilled(usize),
    GatewayDrained(usize),
    ClientsCut(usize),
    NatsKilled,
    NatsStopped,
    NatsFrozen,
    NatsFrozenForLong,
    NatsOutOfReach(usize),
    NatsOutOfReachForLong(usize),
    /// The clients of this user do not read for a while, and have much to read.
    SlowReaders(usize),
    /// The same, with more to read than is kept.
    SlowReadersOfMoreThanIsKept(usize),
    ClientAway(usize),
    /// A user gets more than is kept while its clients are away.
    MoreThanIsKept(usize),
    /// A client is away for longer than anything is kept.
    LongerThanIsKept(usize),
    /// NATS stores messages without republishing them. Then a broadcast comes, and the
    /// clients of this user leave with it.
    RepublishLost(usize),
    /// This user, and then everybody, gets messages that are too large for a frame.
    TooLarge(usize),
}

/// A fault, how long it lasts, and when after its beginning the next one comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planned {
    pub(crate) fault: Fault,
    lasts: Duration,
    pub(crate) next: Duration,
}

/// All faults once, those that are brief several times, in a random order.
pub(crate) fn deck(rng: &mut StdRng, scale: &Scale) -> Vec<Planned> {
    let mut faults = vec![
        Fault::NatsKilled,
        Fault::NatsKilled,
        Fault::NatsStopped,
        Fault::NatsFrozen,
        Fault::NatsFrozenForLong,
        Fault::NatsOutOfReachForLong(rng.random_range(0..GATEWAYS)),
        Fault::SlowReadersOfMoreThanIsKept(rng.random_range(0..scale.users)),
        Fault::MoreThanIsKept(rng.random_range(0..scale.users)),
        Fault::LongerThanIsKept(rng.random_range(0..scale.clients)),
        Fault::RepublishLost(rng.random_range(0..scale.users)),
        Fault::RepublishLost(rng.random_range(0..scale.users)),
        Fault::TooLarge(rng.random_range(0..scale.users)),
    ];
    for gateway in 0..GATEWAYS {
        faults.extend([
            Fault::GatewayKilled(gateway),
            Fault::GatewayDrained(gateway),
            Fault::ClientsCut(gateway),
            Fault::NatsOutOfReach(gateway),
            Fault::SlowReaders(rng.random_range(0..scale.users)),
            Fault::ClientAway(rng.random_range(0..scale.clients)),
        ]);
    }
    faults.shuffle(rng);
    let plan = |fault| {
        let (least, most) = match fault {
            Fault::NatsFrozenForLong | Fault::NatsOutOfReachForLong(_) => LONG,
            Fault::SlowReaders(_) | Fault::SlowReadersOfMoreThanIsKept(_) => SLOW,
            _ => BRIEF,
        };
        Planned {
            fault,
            lasts: Duration::from_millis(rng.random_range(least..most)),
            next: Duration::from_millis(rng.random_range(500..4_000)),
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
            Fault::NatsKilled => {
                let mut nats = world.nats.lock().await;
                nats.kill();
                sleep(lasts).await;
                nats.restart().await;
            }
            Fault::NatsStopped => {
                let mut nats = world.nats.lock().await;
                nats.stop().await;
                sleep(lasts).await;
                nats.restart().await;
            }
            Fault::NatsFrozen | Fault::NatsFrozenForLong => {
                let mut nats = world.nats.lock().await;
                nats.pause();
                sleep(lasts).await;
                nats.resume();
            }
            Fault::NatsOutOfReach(gateway) | Fault::NatsOutOfReachForLong(gateway) => {
                let _one = world.reaches[gateway].lock().await;
                world.networks[gateway].cut();
                sleep(lasts).await;
                world.networks[gateway].mend();
            }
            Fault::SlowReaders(user) => slow(world, user, lasts, LARGE.1).await,
            Fault::SlowReadersOfMoreThanIsKept(user) => {
                let more = world.scale.retention.per_channel * 21 / 20;
                slow(world, user, lasts, more).await;
            }
            Fault::ClientAway(client) => world.order(client, Order::Away(lasts)),
            Fault::MoreThanIsKept(user) => {
                let (call, called) = watch::channel(false);
                for client in world.clients_of(user) {
                    world.order(client, Order::AwayUntil(called.clone()));
                }
                let more = world.scale.retention.per_channel * 5 / 4;
                flood(world, user, 0, more).await;
                call.send_replace(true);
            }
            Fault::LongerThanIsKept(client) => {
                let length = world.scale.retention.age + lasts;
                world.order(client, Order::Away(length));
            }
            Fault::RepublishLost(user) => loses_republishes(world, user, lasts).await,
            Fault::TooLarge(user) => too_large(world, user).await,
        }
        world.shared.count(format!("fault: {}", self.fault.name()));
    }
}

/// Nothing but the stream shows what was lost: not the broadcast, and not the position with
/// which the clients come back.
async fn loses_republishes(world: &World, user: usize, lasts: Duration) {
    // NATS answers meanwhile.
    let nats = world.nats.lock().await;
    let manager = Manager::new(&nats).await;
    manager.set_republish(Value::Null).await;
    for _ in 0..LOST {
        world.extra.send(Some(user), 0).await;
    }
    manager.set_republish(republish()).await;
    let broadcast = world.extra.send(None, 0).await;
    let has_it = || {
        let mut clients = world.clients_of(user);
        std::future::ready(clients.all(|client| world.shared.has_read(client, broadcast)))
    };
    // Some may have no session now, and come back for it.
    let _ = timeout(READ, eventually("they have the broadcast", has_it)).await;
    for client in world.clients_of(user) {
        world.order(client, Order::Away(lasts));
    }
}

/// Among others, so that each `gap` has a message before it and one after it.
pub(crate) async fn too_large(world: &World, user: usize) {
    for to in [Some(user), None] {
        world.extra.send(to, 0).await;
        for _ in 0..2 {
            world.extra.send(to, TOO_LARGE).await;
        }
        world.extra.send(to, 0).await;
    }
}

async fn slow(world: &World, user: usize, lasts: Duration, messages: usize) {
    for client in world.clients_of(user) {
        world.order(client, Order::Pause(lasts));
    }
    flood(world, user, LARGE.0, messages).await;
}

/// One after the other they would take too long, and all at once too much.
async fn flood(world: &World, user: usize, padding: usize, messages: usize) {
    let mut left = messages;
    while left > 0 {
        let now = left.min(100);
        drop(join_all((0..now).map(|_| world.extra.send(Some(user), padding))).await);
        left -= now;
    }
}
