//! Three NATS servers that know each other: a welcome counts for all of them.

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

/// A server that retires says so beforehand, and is left before it goes: no push
/// fails, no message is missing or comes twice, and no session is told anything.
#[tokio::test]
async fn nobody_notices_that_a_server_retires() {
    let (mut nodes, redis) = tokio::join!(Nats::cluster(3), Redis::start());
    let gateway = settling(&nodes, &redis).start().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let mut caller = gateway.grpc().await;
    let publisher = nodes[1].client().await;
    nodes[0].retire();
    let mut number = 0;
    let mut rounds_after = 0;
    // Until some time after the server has closed what it had.
    while rounds_after < 10 {
        for _ in 0..20 {
            number += 1;
            let payload = number.to_string();
            publisher
                .publish("usher.user.42", payload.into())
                .await
                .expect("published");
        }
        publisher.flush().await.expect("flushed");
        number += 1;
        // By another way, which may be the faster one.
        let last = pushed(&mut caller, push("42", number.to_string()));
        let (_, seen) = tokio::join!(last, async {
            let mut seen = Vec::new();
            while seen.len() < 21 {
                seen.push(client.next_data().await.as_u64().expect("a number"));
            }
            seen
        });
        let (pushed, published): (Vec<u64>, Vec<u64>) = seen.iter().partition(|n| **n == number);
        assert_eq!(pushed, [number], "{seen:?}");
        assert_eq!(published, (number - 20..number).collect::<Vec<_>>());
        // A newcomer in the midst of it is welcomed, and subscribed to.
        let user = format!("newcomer-{number}");
        let mut newcomer = Client::open(&gateway, &redis.ticket(&user).await).await;
        nodes[2].publish(&format!("usher.user.{user}"), "1").await;
        assert_eq!(newcomer.next_data().await, 1);
        let moved = gateway.log().contains("moved to another server of NATS");
        rounds_after += u32::from(moved);
    }
    assert_eq!(
        gateway
            .metric("usher_nats_connected{connection=\"interest\"}")
            .await,
        1.0
    );
    assert!(!gateway.log().contains("is lost"), "{}", gateway.log());
}
