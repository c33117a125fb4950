//! Three servers, and three copies of each message.

use std::time::Duration;

use futures_util::future::join_all;

use super::{position, replayed_data, resume, store};
use crate::support::{Client, Gateway, Nats, Redis, eventually};

const SUBJECT: &str = "usher.user.42";

async fn world() -> (Vec<Nats>, Redis, Vec<Gateway>) {
    let (nodes, redis) = tokio::join!(Nats::keeping_cluster(3), Redis::start());
    // A meta leader has to be found before there can be a stream.
    let gateways = nodes.iter().take(2).map(|node| async {
        let gateway = Gateway::durable(node, &redis).set("durable.replicas", "3");
        // What slips past a welcome is what the second look is for.
        gateway.set("nats.settle", "0s").start().await
    });
    let gateways = join_all(gateways).await;
    (nodes, redis, gateways)
}

/// Each joins while messages for it are on their way to all three servers; a follower may
/// lag behind what the stream has acknowledged.
#[tokio::test]
async fn nothing_slips_past_a_join() {
    let (nodes, redis, gateways) = world().await;
    let publishers = join_all(nodes.iter().map(Nats::client)).await;
    for round in 0..40 {
        let user = format!("user-{round}");
        let subject = format!("usher.user.{user}");
        let gateway = &gateways[round % 2];
        store(&publishers[round % 3], &subject, 0).await;
        let first = Client::open(gateway, &redis.ticket(&user).await).await;
        let since = position(&first);
        drop(first);
        for data in 1..=3 {
            store(&publishers[(round + data) % 3], &subject, data).await;
        }
        // At once, through whichever replica answers.
        let (mut client, told) = resume(gateway, &redis, &user, &since).await;
        assert_eq!(told, "complete", "round {round}");
        for publisher in &publishers {
            store(publisher, &subject, 4).await;
        }
        let mut seen = replayed_data(&mut client).await;
        while seen.len() < 6 {
            seen.push(client.next_data().await);
        }
        assert_eq!(seen, [1, 2, 3, 4, 4, 4], "round {round}");
    }
}

/// Fresh sessions get what was stored after their welcome, wherever it was published.
#[tokio::test]
async fn a_second_look_finds_what_no_server_knew_to_send() {
    let (nodes, redis, gateways) = world().await;
    let publishers = join_all(nodes.iter().map(Nats::client)).await;
    let mut clients = Vec::new();
    for round in 0..40 {
        let user = format!("user-{round}");
        let ticket = redis.ticket(&user).await;
        let client = Client::open(&gateways[round % 2], &ticket).await;
        let subject = format!("usher.user.{user}");
        let stored = store(&publishers[round % 3], &subject, round).await;
        assert!(stored > client.welcome()["seq"].as_u64().expect("a sequence"));
        clients.push(client);
    }
    for (round, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.next_data().await, round);
    }
}

/// A server is gone for good: the sessions move, and nothing is missing.
#[tokio::test]
async fn a_server_less_loses_nothing() {
    let (mut nodes, redis) = tokio::join!(Nats::keeping_cluster(3), Redis::start());
    let servers: Vec<String> = nodes.iter().map(Nats::url).collect();
    let gateway = Gateway::durable(&nodes[0], &redis)
        .set("durable.replicas", "3")
        .set("nats.url", servers.join(","));
    let gateway = gateway.start().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let publisher = nodes[2].client().await;
    for data in 0..20 {
        store(&publisher, SUBJECT, data).await;
    }
    nodes[0].kill();
    nodes.remove(0);
    let mut number = 20;
    eventually("the stream goes on", || {
        let (publisher, data) = (publisher.clone(), number.to_string());
        async move {
            let answer = publisher.request(SUBJECT, data.into());
            let answer = tokio::time::timeout(Duration::from_secs(2), answer).await;
            matches!(answer, Ok(Ok(message)) if message.payload.starts_with(b"{\"stream\""))
        }
    })
    .await;
    number += 1;
    for data in number..number + 20 {
        store(&publisher, SUBJECT, data).await;
    }
    let mut seen = Vec::new();
    while seen.last() != Some(&40) {
        let data = client.next_data().await.as_i64().expect("a number");
        // One whose acknowledgement was lost is published twice.
        if seen.last() != Some(&data) {
            seen.push(data);
        }
    }
    assert_eq!(seen, (0..=40).collect::<Vec<i64>>());
}
