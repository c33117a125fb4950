//! A gateway has several connections to NATS, and each can be cut alone. Operators, load
//! balancers and callers see which one works.

use tonic::Code;

use crate::support::{
    Client, Gateway, Nats, Redis, eventually,
    gate::Gate,
    grpc::{push, pushed},
};

const SERVICE: &str = "usher.v1.Notification";

fn connected(connection: &str) -> String {
    format!(r#"usher_nats_connected{{connection="{connection}"}}"#)
}

/// Pushes are known not to be published, and the health of the service says so; the
/// gateway stays in service for its sessions.
async fn pushes_are_unavailable(gateway: &Gateway) {
    gateway.readyz_lists("warnings", "nats_away").await;
    assert_eq!(gateway.readyz().await, 200, "no grace is set");
    eventually("the health of pushes is NOT_SERVING", || async {
        !gateway.serves(SERVICE).await
    })
    .await;
    assert!(gateway.serves("").await, "as /readyz");
    let pushed = gateway
        .grpc()
        .await
        .push_notification(push("42", "0"))
        .await;
    let status = pushed.expect_err("no connection carries it");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(gateway.metric(&connected("interest")).await, 1.0);
    shows(gateway, "push", 0).await;
}

/// The connection's own sample is there, and becomes this.
async fn shows(gateway: &Gateway, connection: &str, value: u8) {
    let sample = format!("{} {value}", connected(connection));
    eventually(&sample, || async {
        gateway.metrics().await.lines().any(|line| line == sample)
    })
    .await;
}

/// Pushes pass, nothing is warned of, and the log, which told of the outage, tells of its
/// end.
async fn all_is_well_again(gateway: &Gateway, lines_before: usize, connections: &[&str]) {
    for connection in connections {
        shows(gateway, connection, 1).await;
    }
    eventually("no finding is left", || async {
        let answer = gateway.ops_get("/readyz").await.json();
        answer["ready"] == true && answer["warnings"].as_array().is_some_and(Vec::is_empty)
    })
    .await;
    eventually("the health of pushes is SERVING", || async {
        gateway.serves(SERVICE).await
    })
    .await;
    eventually("the log has an all-clear", || async {
        let log = gateway.log();
        let mut new = log.lines().skip(lines_before);
        new.any(|line| {
            line.contains(r#""level":"INFO""#) && line.contains("NATS") && line.contains("again")
        })
    })
    .await;
}

#[tokio::test]
async fn pushes_alone_are_cut_off() {
    let (nats, redis) = tokio::join!(Nats::start(), Redis::start());
    let gate = Gate::to(&nats.url()).await;
    let builder = Gateway::builder(&nats, &redis).set("nats.url", gate.url());
    let gateway = builder.start().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    pushed(&mut gateway.grpc().await, push("42", "1")).await;
    assert_eq!(client.next_data().await, 1);
    assert!(gateway.serves(SERVICE).await);
    let lines = gateway.log().lines().count();

    gate.shut();
    pushes_are_unavailable(&gateway).await;
    // What others publish arrives all the time, and nobody is told of a gap.
    nats.publish("usher.user.42", "2").await;
    assert_eq!(client.next_data().await, 2);

    gate.open();
    all_is_well_again(&gateway, lines, &["push"]).await;
    pushed(&mut gateway.grpc().await, push("42", "3")).await;
    assert_eq!(client.next_data().await, 3);
}

/// The same in durable mode, where the stream is read over connections of its own.
#[tokio::test]
async fn pushes_and_the_stream_are_cut_off() {
    let (nats, redis) = tokio::join!(Nats::keeping(), Redis::start());
    let gate = Gate::to(&nats.url()).await;
    let builder = Gateway::durable(&nats, &redis).set("nats.url", gate.url());
    let gateway = builder.start().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    pushed(&mut gateway.grpc().await, push("42", "1")).await;
    assert_eq!(client.next_data().await, 1);
    let lines = gateway.log().lines().count();

    gate.shut();
    pushes_are_unavailable(&gateway).await;
    shows(&gateway, "stream", 0).await;
    let ticket = redis.ticket("42").await;
    Client::builder(&gateway, &ticket)
        .refused()
        .await
        .assert_refused(503, "unavailable");
    let builder = Client::builder(&gateway, &ticket).since("0");
    builder.refused().await.assert_refused(503, "unavailable");
    nats.publish("usher.user.42", "2").await;
    assert_eq!(client.next_data().await, 2);

    gate.open();
    all_is_well_again(&gateway, lines, &["push", "stream"]).await;
    pushed(&mut gateway.grpc().await, push("42", "3")).await;
    assert_eq!(client.next_data().await, 3);
    // The refusals have left the ticket as it was.
    let mut again = Client::builder(&gateway, &ticket).since("0").open().await;
    assert_eq!(again.welcome()["resume"], "complete");
    for data in [1, 2, 3] {
        assert_eq!(again.next_data().await, data);
    }
}

/// A client with a position needs the stream connection; its ticket is still good afterwards.
#[tokio::test]
async fn the_stream_alone_is_cut_off() {
    let (nats, redis) = tokio::join!(Nats::keeping(), Redis::start());
    let gate = Gate::to(&nats.url()).await;
    let builder = Gateway::durable(&nats, &redis).set("nats.url", gate.url());
    let gateway = builder.start().await;
    pushed(&mut gateway.grpc().await, push("42", "1")).await;

    gate.shut_reading();
    shows(&gateway, "stream", 0).await;
    let ticket = redis.ticket("42").await;
    let builder = Client::builder(&gateway, &ticket).since("0");
    builder.refused().await.assert_refused(503, "unavailable");
    Client::open(&gateway, &redis.ticket("43").await).await;

    gate.open();
    shows(&gateway, "stream", 1).await;
    let mut again = Client::builder(&gateway, &ticket).since("0").open().await;
    assert_eq!(again.welcome()["resume"], "complete");
    assert_eq!(again.next_data().await, 1);
}
