//! Streams over a network and a NATS that fail.

use serde_json::json;

use crate::support::{
    Events, Gateway, eventually,
    network::Network,
    servers,
    tls::{Ca, tunnel},
    world,
};

#[tokio::test]
async fn a_gap_is_told_when_nats_was_away() {
    let (mut nats, redis, gateway) = world().await;
    let mut events = Events::open(&gateway, &redis.ticket("42").await).await;
    nats.kill();
    gateway
        .metric_becomes("usher_nats_connected{connection=\"interest\"}", 0.0)
        .await;
    let ticket = redis.ticket("43").await;
    Events::builder(&gateway, &ticket)
        .refused()
        .await
        .assert_refused(503, "unavailable");
    assert!(redis.exists(&ticket).await);
    nats.restart().await;
    assert_eq!(
        events.next_json().await,
        json!({"gap": {"reason": "bus_lost"}})
    );
    eventually("it is subscribed", || async {
        nats.subscriptions("usher.user.42").await == 1
    })
    .await;
    nats.publish("usher.user.42", "1").await;
    assert_eq!(events.next_data().await, 1);
}

#[tokio::test]
async fn streams_are_encrypted_where_the_listener_is() {
    let (nats, redis) = servers().await;
    let ca = Ca::new();
    let identity = ca.issue();
    let path = |path: &std::path::Path| path.display().to_string();
    let gateway = Gateway::builder(&nats, &redis)
        .set(
            "public.tls.certificate_file",
            path(&identity.certificate_file),
        )
        .set("public.tls.key_file", path(&identity.key_file))
        .set("session.queue_bytes", "32MiB")
        .set("drain.delay", "0s")
        .set("drain.window", "100ms");
    let mut gateway = gateway.start().await;
    let door = tunnel(&gateway.public, ca.client(None)).await;
    let ticket = redis.ticket("42").await;
    let mut events = Events::builder(&gateway, &ticket).at(&door).open().await;
    let large = "x".repeat(700_000);
    for number in 0..10 {
        nats.publish("usher.user.42", &json!([number, large]).to_string())
            .await;
    }
    for number in 0..10 {
        assert_eq!(events.next_data().await, json!([number, large]));
    }
    Events::builder(&gateway, &ticket)
        .at(&door)
        .refused()
        .await
        .assert_refused(401, "ticket_unknown");
    gateway.terminate();
    assert_eq!(events.expect_goodbye().await["reason"], "drain");
    assert!(gateway.wait().await.success());
}

/// The network between a page and its gateway may hold back what it likes: the news
/// that the page has gone arrives late, and a stream that is whole meanwhile goes on.
#[tokio::test]
async fn a_network_that_stalls_loses_nothing() {
    let (nats, redis, gateway) = world().await;
    let network = Network::to(&format!("http://{}", gateway.public)).await;
    let ticket = redis.ticket("42").await;
    let builder = Events::builder(&gateway, &ticket).at(network.address());
    let mut events = builder.open().await;
    network.cut();
    for number in 0..10 {
        nats.publish("usher.user.42", &number.to_string()).await;
    }
    gateway
        .metric_becomes("usher_messages_delivered_total", 10.0)
        .await;
    network.mend();
    for number in 0..10 {
        assert_eq!(events.next_data().await, number);
    }
}
