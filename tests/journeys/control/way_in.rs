//! Sessions on their way in end with the others.

use serde_json::json;

use super::{gateways, held::Held};
use crate::support::{
    Client, Gateway, Nats, Redis, eventually,
    grpc::{disconnect, presence},
    servers,
    wait::patiently,
};

/// NATS delivers to it already, and it waits for its welcome.
#[tokio::test]
async fn one_that_joins_ends_without_a_welcome() {
    let (nats, redis) = servers().await;
    let gateways = gateways(2, (&nats, &redis), &[("nats.settle", "3s")]).await;
    joins(&nats, &redis, &gateways, "usher.user.42").await;
}

/// In durable mode it is to resume: what it missed is left to its next session.
#[tokio::test]
async fn one_that_resumes_keeps_its_position() {
    let (nats, redis) = tokio::join!(Nats::keeping(), Redis::start());
    let settings = [
        ("nats.settle", "3s"),
        ("durable.enabled", "true"),
        ("durable.max_bytes", "64MiB"),
    ];
    let gateways = gateways(2, (&nats, &redis), &settings).await;
    joins(&nats, &redis, &gateways, "usher.live.user.42").await;
}

async fn joins(nats: &Nats, redis: &Redis, gateways: &[Gateway], subject: &str) {
    for (reconnect, code) in [(false, 4100), (true, 4004)] {
        let ticket = redis.ticket("42").await;
        let builder = Client::builder(&gateways[0], &ticket).since("0");
        let opening = tokio::spawn(builder.raw());
        eventually("NATS delivers to it", || async {
            nats.subscriptions(subject).await == 1
        })
        .await;
        let mut grpc = gateways[1].grpc().await;
        let found = presence(&mut grpc, &["42"]).await.expect("an answer");
        assert!(found.users.is_empty(), "not online yet: {found:?}");
        nats.publish("usher.user.42", "\"not for it\"").await;
        let ended = disconnect(&mut grpc, "42", reconnect, "out").await;
        let ended = ended.expect("an answer");
        assert_eq!((ended.sessions, ended.complete), (1, true));
        let mut client = patiently("an upgrade", opening).await.expect("no panic");
        let (closed, _, texts) = client.expect_close().await;
        assert_eq!(closed, code, "{texts:?}");
        let [goodbye] = &texts[..] else {
            panic!("not a goodbye alone: {texts:?}")
        };
        let goodbye: serde_json::Value = serde_json::from_str(goodbye).expect("JSON");
        assert_eq!(goodbye["goodbye"]["message"], "out");
        eventually("nothing is left of it", || async {
            nats.subscriptions(subject).await == 0
        })
        .await;
    }
}

/// Its ticket is being redeemed: nobody knows yet whose session it will be.
#[tokio::test]
async fn one_whose_ticket_is_being_redeemed_ends_too() {
    let (nats, redis) = servers().await;
    let held = Held::before(&redis.address()).await;
    let url = format!("redis://{}", held.address());
    let gateway = Gateway::builder(&nats, &redis)
        .set("redis.url", url)
        .set("redis.timeout", "20s");
    let gateway = gateway.start().await;
    let mut grpc = gateway.grpc().await;
    for (reconnect, code) in [(false, 4100), (true, 4004)] {
        let ticket = redis.ticket("42").await;
        held.hold(&ticket);
        let opening = tokio::spawn(Client::builder(&gateway, &ticket).raw());
        held.holds().await;
        let ended = disconnect(&mut grpc, "42", reconnect, "").await;
        assert_eq!(ended.expect("an answer").sessions, 0, "it is nobody's yet");
        held.release();
        let mut client = patiently("an upgrade", opening).await.expect("no panic");
        let (closed, _, texts) = client.expect_close().await;
        assert_eq!(closed, code, "{texts:?}");
        assert_eq!(texts.len(), 1, "{texts:?}");
        assert!(texts[0].contains("goodbye"), "{texts:?}");
        // A later session stays.
        let mut later = Client::open(&gateway, &redis.ticket("42").await).await;
        nats.publish("usher.user.42", "1").await;
        assert_eq!(
            later.next_event().await,
            json!({"event": "message", "data": 1})
        );
        later.close(1000).await;
    }
}
