//! What the journeys are told with: real servers, the real gateway, and
//! clients that see what a browser, a publisher or an operator would see.
//!
//! Everything ends when it is dropped. Waits are for events, each with a bound
//! ([`wait::PATIENCE`]), and a test that never ends all the same ends the run
//! ([`overdue`]). What a test mints as a ticket is looked for in all that
//! the gateway prints or answers, and must not be there ([`secrets`]).

pub(crate) mod client;
pub(crate) mod gate;
pub(crate) mod gateway;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod login;
pub(crate) mod nats;
pub(crate) mod network;
pub(crate) mod overdue;
pub(crate) mod process;
pub(crate) mod raw_nats;
pub(crate) mod raw_ws;
pub(crate) mod redis;
pub(crate) mod redis_cluster;
pub(crate) mod redis_sentinel;
pub(crate) mod secrets;
pub(crate) mod sse;
pub(crate) mod tls;
pub(crate) mod wait;

pub(crate) use self::{
    client::{Client, Frame},
    gateway::{Builder, Gateway},
    http::Response,
    nats::Nats,
    raw_nats::RawNats,
    raw_ws::RawWs,
    redis::Redis,
    redis_cluster::RedisCluster,
    redis_sentinel::Sentinels,
    secrets::secret,
    sse::Events,
    wait::eventually,
};

/// A NATS server, a Redis server and a gateway between them.
pub(crate) async fn world() -> (Nats, Redis, Gateway) {
    let (nats, redis) = servers().await;
    let gateway = Gateway::start(&nats, &redis).await;
    (nats, redis, gateway)
}

/// A NATS server and a Redis server.
pub(crate) async fn servers() -> (Nats, Redis) {
    tokio::join!(Nats::start(), Redis::start())
}
