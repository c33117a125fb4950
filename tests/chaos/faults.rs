//! What goes wrong, and for how long.

use std::time::Duration;

use rand::{Rng as _, rngs::StdRng, seq::SliceRandom as _};
use tokio::time::sleep;

use crate::{
    client::Order,
    shared::GATEWAYS,
    world::{CLIENTS, USERS, World},
};

/// A link's keepalive gives a silent NATS up after 10 s: these lie on both sides.
const BRIEF: (u64, u64) = (500, 4_000);
const LONG: (u64, u64) = (11_000, 14_000);

#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    NatsKilled,
    NatsFrozen,
    NatsFrozenForLong,
    NatsInLameDuckMode,
    NatsOutOfReach(usize),
    NatsOutOfReachForLong(usize),
    RedisKilled,
    RedisFrozen,
    RedisOutOfReach(usize),
    GatewayKilled(usize),
    GatewayDrained(usize),
    SlowReader(usize),
    HalfOpen(usize),
    Vanished(usize),
}

/// A fault, when in its round it begins, and how long it lasts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planned {
    fault: Fault,
    begins: Duration,
    lasts: Duration,
}

/// All faults once, in a random order, so many a round.
pub(crate) fn deck(rng: &mut StdRng) -> Vec<Vec<Planned>> {
    let gateway = rng.random_range(0..GATEWAYS);
    let mut faults = [
        Fault::NatsKilled,
        Fault::NatsFrozen,
        Fault::NatsFrozenForLong,
        Fault::NatsInLameDuckMode,
        Fault::NatsOutOfReach(gateway),
        Fault::NatsOutOfReachForLong(GATEWAYS - 1 - gateway),
        Fault::RedisKilled,
        Fault::RedisFrozen,
        Fault::RedisOutOfReach(gateway),
        Fault::GatewayKilled(gateway),
        Fault::GatewayDrained(GATEWAYS - 1 - gateway),
        Fault::SlowReader(rng.random_range(0..USERS)),
        Fault::HalfOpen(rng.random_range(0..CLIENTS)),
        Fault::Vanished(rng.random_range(0..CLIENTS)),
    ];
    faults.shuffle(rng);
    let plan = |&fault: &Fault, rng: &mut StdRng| {
        let (least, most) = match fault {
            Fault::NatsFrozenForLong | Fault::NatsOutOfReachForLong(_) => LONG,
            _ => BRIEF,
        };
        Planned {
            fault,
            begins: Duration::from_millis(rng.random_range(0..1500)),
            lasts: Duration::from_millis(rng.random_range(least..most)),
        }
    };
    let rounds = faults.chunks(3);
    rounds
        .map(|round| round.iter().map(|fault| plan(fault, rng)).collect())
        .collect()
}

impl Planned {
    /// Begins it, waits, and ends it.
    pub(crate) async fn happens(self, world: &World) {
        sleep(self.begins).await;
        let lasts = self.lasts;
        match self.fault {
            Fault::NatsKilled => {
                let mut nats = world.nats.lock().await;
                nats.kill();
                sleep(lasts).await;
                nats.restart().await;
            }
            Fault::NatsFrozen | Fault::NatsFrozenForLong => {
                let mut nats = world.nats.lock().await;
                nats.pause();
                sleep(lasts).await;
                nats.resume();
            }
            Fault::NatsInLameDuckMode => {
                let mut nats = world.nats.lock().await;
                nats.lame_duck().await;
                nats.restart().await;
            }
            Fault::NatsOutOfReach(gateway) | Fault::NatsOutOfReachForLong(gateway) => {
                let proxy = &world.nats_proxies[gateway];
                proxy.freeze();
                sleep(lasts).await;
                proxy.thaw();
            }
            Fault::RedisKilled => {
                let mut redis = world.redis.lock().await;
                redis.kill();
                sleep(lasts).await;
                redis.restart().await;
            }
            Fault::RedisFrozen => {
                let mut redis = world.redis.lock().await;
                redis.pause();
                sleep(lasts).await;
                redis.resume();
            }
            Fault::RedisOutOfReach(gateway) => {
                let proxy = &world.redis_proxies[gateway];
                proxy.freeze();
                sleep(lasts).await;
                proxy.thaw();
            }
            Fault::GatewayKilled(gateway) => world.replace(gateway, false, lasts).await,
            Fault::GatewayDrained(gateway) => world.replace(gateway, true, lasts).await,
            Fault::SlowReader(user) => {
                let pause = Duration::from_secs(3);
                world.order(
                    user,
                    Order {
                        pause,
                        vanish: false,
                    },
                );
                let _ = world.floods.send(user);
                sleep(pause).await;
            }
            Fault::HalfOpen(client) => {
                // Longer than the gateway waits for a pong.
                let pause = Duration::from_secs(7);
                world.order(
                    client,
                    Order {
                        pause,
                        vanish: false,
                    },
                );
                sleep(pause).await;
            }
            Fault::Vanished(client) => world.order(
                client,
                Order {
                    pause: lasts,
                    vanish: true,
                },
            ),
        }
    }
}
