//! What a server says of its cluster comes late: after the encryption, or when other
//! servers join. A gateway that was told of one server goes on when that one dies.

use std::{sync::Mutex, time::Duration};

use futures_util::future::join_all;
use serde_json::Value;

use crate::support::{
    Builder, Client, Gateway, Nats, Redis, eventually,
    grpc::{push, pushed},
    nats::Routes,
    tls::Ca,
};

const DURABLE: &str = "jetstream: enabled\n";

/// Three nodes, each of which clients speak to by TLS.
async fn encrypted(ca: &Ca, config: &str) -> Vec<Nats> {
    let identity = ca.issue();
    let tls = format!(
        "{config}tls {{ cert_file: {:?}, key_file: {:?} }}\n",
        identity.certificate_file, identity.key_file
    );
    Nats::cluster_with(3, &tls).await
}

/// Knows the first of the nodes, by name and by TLS.
fn knows_the_first(builder: Builder, ca: &Ca, nodes: &[Nats]) -> Builder {
    builder
        .set("nats.url", format!("tls://localhost:{}", nodes[0].port()))
        .set("nats.tls.ca_file", ca.file())
}

/// The first of three nodes, a gateway that is connected to it alone, and then the other
/// two.
async fn late(config: &str, redis: &Redis, durable: bool) -> (Vec<Nats>, Gateway) {
    let routes = Routes::of(3);
    let first = routes.start(0, config).await;
    let builder = match durable {
        true => Gateway::durable(&first, redis).set("durable.replicas", "3"),
        false => Gateway::builder(&first, redis),
    };
    let gateway = builder.start_unready().await;
    gateway
        .metric_becomes(r#"usher_nats_connected{connection="interest"}"#, 1.0)
        .await;
    let others = join_all([1, 2].map(|index| routes.start(index, config))).await;
    let nodes: Vec<Nats> = [first].into_iter().chain(others).collect();
    Nats::reach_each_other(&nodes).await;
    gateway.becomes_ready().await;
    (nodes, gateway)
}

/// Waits until a push passes, and until the client has what was pushed.
async fn pushes_work(gateway: &Gateway, client: &mut Client, data: &str) {
    eventually("a push passes", || async {
        let mut caller = gateway.grpc().await;
        let pushed = caller.push_notification(push("42", format!("{data:?}")));
        pushed.await.is_ok()
    })
    .await;
    while client.next_json().await["data"] != data {}
}

/// Live mode: the session is told of a gap, moves, and hears pushes.
async fn live_moves(nodes: &mut [Nats], redis: &Redis, gateway: &Gateway) {
    let mut client = Client::open(gateway, &redis.ticket("42").await).await;
    pushed(&mut gateway.grpc().await, push("42", "1")).await;
    assert_eq!(client.next_data().await, 1);
    nodes[0].kill();
    assert_eq!(client.expect_gap().await["reason"], "bus_lost");
    pushes_work(gateway, &mut client, "moved").await;
    newcomers_come(gateway, redis, &[]).await;
}

/// Durable mode: the session gets what is stored, and joins get what they missed.
async fn durable_moves(nodes: &mut [Nats], redis: &Redis, gateway: &Gateway) {
    let mut client = Client::open(gateway, &redis.ticket("42").await).await;
    pushed(&mut gateway.grpc().await, push("42", "\"before\"")).await;
    assert_eq!(client.next_data().await, "before");
    nodes[0].kill();
    pushes_work(gateway, &mut client, "moved").await;
    newcomers_come(gateway, redis, &["before", "moved"]).await;
}

/// A new session is let in, and is sent all of these.
async fn newcomers_come(gateway: &Gateway, redis: &Redis, owed: &[&str]) {
    let mut newcomer = newcomer(gateway, redis, owed).await;
    let mut caller = gateway.grpc().await;
    pushed(&mut caller, push("42", "\"to all\"")).await;
    while newcomer.next_json().await["data"] != "to all" {}
}

async fn newcomer(gateway: &Gateway, redis: &Redis, owed: &[&str]) -> Client {
    let found = Mutex::new(None);
    eventually("a newcomer is let in", || async {
        let ticket = redis.ticket("42").await;
        let builder = Client::builder(gateway, &ticket);
        let builder = match owed {
            [] => builder,
            _ => builder.since("0"),
        };
        let Ok(client) = builder.try_open().await else {
            return false;
        };
        *found.lock().expect("no panic") = Some(client);
        true
    })
    .await;
    let found = found.into_inner().expect("no panic");
    let mut newcomer: Client = found.expect("let in");
    if !owed.is_empty() {
        assert_eq!(newcomer.welcome()["resume"], "complete");
    }
    let mut seen = Vec::new();
    // A push of unknown outcome may be stored twice.
    while seen.len() < owed.len() {
        let data: Value = newcomer.next_data().await;
        if seen.last() != Some(&data) {
            seen.push(data);
        }
    }
    assert_eq!(seen, owed);
    newcomer
}

#[tokio::test]
async fn a_gateway_learns_of_the_cluster_behind_tls() {
    let (ca, redis) = (Ca::new(), Redis::start().await);
    let mut nodes = encrypted(&ca, "").await;
    let builder = knows_the_first(Gateway::builder(&nodes[0], &redis), &ca, &nodes);
    live_moves(&mut nodes, &redis, &builder.start().await).await;
}

#[tokio::test]
async fn a_durable_gateway_learns_of_the_cluster_behind_tls() {
    let (ca, redis) = (Ca::new(), Redis::start().await);
    let mut nodes = encrypted(&ca, DURABLE).await;
    let builder = Gateway::durable(&nodes[0], &redis).set("durable.replicas", "3");
    let builder = knows_the_first(builder, &ca, &nodes);
    durable_moves(&mut nodes, &redis, &builder.start().await).await;
}

#[tokio::test]
async fn a_gateway_learns_of_servers_that_join_later() {
    let redis = Redis::start().await;
    let (mut nodes, gateway) = late("", &redis, false).await;
    live_moves(&mut nodes, &redis, &gateway).await;
}

#[tokio::test]
async fn a_durable_gateway_learns_of_servers_that_join_later() {
    let redis = Redis::start().await;
    let (mut nodes, gateway) = late(DURABLE, &redis, true).await;
    durable_moves(&mut nodes, &redis, &gateway).await;
}

/// Nobody pushes: what others store reaches the session that was there all the time.
#[tokio::test]
async fn a_living_session_gets_what_is_stored_after_the_first_server() {
    let redis = Redis::start().await;
    let (mut nodes, gateway) = late(DURABLE, &redis, true).await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let publisher = nodes[1].client().await;
    nodes[0].kill();
    stored(&publisher, "1").await;
    while client.next_json().await["data"] != 1 {}
}

/// Nobody pushes: joins get what was stored before, on another server.
#[tokio::test]
async fn joins_work_after_the_first_server() {
    let redis = Redis::start().await;
    let (mut nodes, gateway) = late(DURABLE, &redis, true).await;
    let publisher = nodes[1].client().await;
    nodes[0].kill();
    stored(&publisher, "\"once\"").await;
    newcomer(&gateway, &redis, &["once"]).await;
}

/// Asks until the stream has a leader that stores it; it may be stored twice.
async fn stored(publisher: &async_nats::Client, payload: &'static str) {
    eventually("the stream goes on", || async {
        let asking = publisher.request("usher.user.42", payload.into());
        let answer = tokio::time::timeout(Duration::from_secs(2), asking).await;
        matches!(answer, Ok(Ok(answer)) if answer.payload.starts_with(b"{\"stream\""))
    })
    .await;
}
