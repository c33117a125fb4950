//! Three NATS servers that know each other: a welcome counts for all of them.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;

use crate::support::{
    Builder, Client, Gateway, Nats, Redis,
    grpc::{push, pushed},
};

/// What `auto` waits suits servers that have the processor when they need it, and
/// a test's machine may not give it to them.
fn settling(nodes: &[Nats], redis: &Redis) -> Builder {
    Gateway::builder(&nodes[0], redis).set("nats.settle", "300ms")
}

/// The gateway is connected to A; publishers are at B and C.
#[tokio::test]
async fn a_welcome_counts_on_every_server_of_a_cluster() {
    let (nodes, redis) = tokio::join!(Nats::cluster(3), Redis::start());
    let gateway = settling(&nodes, &redis).start().await;
    let publishers = join_all(nodes[1..].iter().map(Nats::client)).await;

    for round in 0..50 {
        let user = format!("user-{round}");
        let subject = format!("usher.user.{user}");
        let ticket = redis.ticket(&user).await;
        let mut client = Client::open(&gateway, &ticket).await;

        // At once, with the welcome just read.
        let requests = publishers
            .iter()
            .enumerate()
            .map(|(node, publisher)| publisher.request(subject.clone(), format!("{node}").into()));
        for (node, answer) in join_all(requests).await.into_iter().enumerate() {
            let answer =
                answer.unwrap_or_else(|error| panic!("round {round}, node {node}: {error}"));
            let receipt: Value = serde_json::from_slice(&answer.payload).expect("JSON");
            assert_eq!(receipt["sessions"], 1, "round {round}");
        }
        let mut seen = [client.next_data().await, client.next_data().await];
        seen.sort_by_key(Value::to_string);
        assert_eq!(seen, [0, 1], "round {round}: one from each");
    }
}

/// The same where each welcome is followed by plain publishes, and the next
/// session of the same user joins as the last one leaves.
#[tokio::test]
async fn a_user_who_comes_back_at_once_is_reached_from_everywhere() {
    let (nodes, redis) = tokio::join!(Nats::cluster(3), Redis::start());
    let gateway = settling(&nodes, &redis).start().await;
    let publishers = join_all(nodes[1..].iter().map(Nats::client)).await;
    let mut session = Client::open(&gateway, &redis.ticket("42").await).await;
    for round in 0..50 {
        let ticket = redis.ticket("42").await;
        let (_, next) = tokio::join!(session.close(1000), Client::open(&gateway, &ticket));
        session = next;
        for publisher in &publishers {
            publisher
                .publish("usher.user.42", round.to_string().into())
                .await
                .expect("published");
            publisher.flush().await.expect("flushed");
        }
        for _ in &publishers {
            assert_eq!(session.next_data().await, round);
        }
    }
}

/// A gateway that loses its server goes to another that it knows of.
#[tokio::test]
async fn a_gateway_moves_to_another_server() {
    let (mut nodes, redis) = tokio::join!(Nats::cluster(3), Redis::start());
    let servers: Vec<String> = nodes[..2].iter().map(Nats::url).collect();
    let builder = Gateway::builder(&nodes[0], &redis).set("nats.url", servers.join(","));
    let gateway = builder.start().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let publisher = nodes[2].client().await;
    let mut held_by = 2;
    for (index, node) in nodes[..2].iter().enumerate() {
        if node.subscriptions("usher.user.42").await > 0 {
            held_by = index;
        }
    }
    nodes[held_by].kill();
    assert_eq!(client.expect_gap().await["reason"], "bus_lost");
    publisher
        .publish("usher.user.42", "1".into())
        .await
        .expect("published");
    assert_eq!(client.next_data().await, 1);
}

/// A server that retires says so beforehand: pushes move before it goes, and
/// whoever may have missed something when it went is told.
#[tokio::test]
async fn no_push_fails_while_a_server_retires() {
    let (mut nodes, redis) = tokio::join!(Nats::cluster(3), Redis::start());
    let gateway = settling(&nodes, &redis).start().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let mut caller = gateway.grpc().await;
    nodes[0].retire();
    let mut pushed_last = 0;
    let told = loop {
        pushed_last += 1;
        pushed(&mut caller, push("42", pushed_last.to_string())).await;
        let frame = client.next_json().await;
        if frame["gap"].is_object() {
            break frame;
        }
        // Until the connection is closed nothing is missed.
        assert_eq!(frame["data"], pushed_last);
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(told["gap"]["reason"], "bus_lost");
    nodes[1].publish("usher.user.42", "\"after\"").await;
    while client.next_data().await != "after" {}
}
