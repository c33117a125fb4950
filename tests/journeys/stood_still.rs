//! A gateway that stood still for longer than its timeouts: a machine that was paused or
//! starved. Its clients are not to blame.

use std::time::Duration;

use tokio::time::sleep;

use crate::support::{
    Client, Events, Frame, Gateway, eventually,
    raw_ws::{PONG, TEXT, frame},
    servers,
};

/// Longer than `session.idle_timeout` here. That time has to pass: there is no event to
/// wait for while the gateway stands still.
const STILL: Duration = Duration::from_secs(8);

#[tokio::test]
async fn nobody_is_idle_because_of_it() {
    let (nats, redis) = servers().await;
    let mut gateway = Gateway::builder(&nats, &redis)
        .set("session.ping_interval", "1s")
        .set("session.idle_timeout", "5s")
        .start()
        .await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let mut events = Events::open(&gateway, &redis.ticket("42").await).await;
    let ticket = redis.ticket("43").await;
    let mut silent = Client::builder(&gateway, &ticket).raw().await;

    gateway.pause();
    sleep(STILL).await;
    gateway.resume();

    nats.publish("usher.user.42", "\"still here\"").await;
    assert_eq!(events.next_data().await, "still here");
    // It lives on for longer than the timeout, since it answers pings.
    let (mut pings, mut data) = (0, 0);
    while pings < 7 {
        match client.next_frame().await {
            Frame::Text(text) if text.starts_with("{\"ping\"") => pings += 1,
            Frame::Text(text) if text.contains("still here") => data += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(data, 1);
    // One that answers no pings is closed all the same.
    let (code, reason, _) = silent.expect_close().await;
    assert_eq!((code, &*reason), (4002, "idle"));
    gateway
        .metric_becomes("usher_session_closes_total{reason=\"idle\"}", 1.0)
        .await;
    gateway.metric_becomes("usher_sessions", 2.0).await;
    eventually("the log says so", || async {
        gateway.log().contains("stood still")
    })
    .await;
}

/// What a client has sent in the meantime is read at once, and is no flood.
#[tokio::test]
async fn what_clients_sent_meanwhile_is_no_flood() {
    let (nats, redis) = servers().await;
    let mut gateway = Gateway::start(&nats, &redis).await;
    let ticket = redis.ticket("42").await;
    let mut client = Client::builder(&gateway, &ticket).raw().await;
    client.read().await.expect("the welcome");

    gateway.pause();
    // 12 frames a second: fewer than `session.frames_per_second`.
    client.write(&frame(TEXT, b"{\"ack\":1}").repeat(96)).await;
    sleep(STILL).await;
    gateway.resume();

    nats.publish("usher.user.42", "\"still here\"").await;
    let said = client.read().await.expect("a frame").text();
    assert!(said.contains("still here"), "{said}");
    // A flood is still one.
    client.write(&frame(PONG, b"").repeat(1000)).await;
    let (code, reason, _) = client.expect_close().await;
    assert_eq!((code, &*reason), (1008, "too_many_frames"));
}

/// A client whose kernel took nothing when the gateway stopped has the rest of
/// `session.write_timeout` afterwards.
#[tokio::test]
async fn no_reader_is_slow_because_of_it() {
    const MESSAGES: usize = 200;
    let (nats, redis) = servers().await;
    let mut gateway = Gateway::builder(&nats, &redis)
        .set("session.write_timeout", "15s")
        .set("session.queue_bytes", "64MiB")
        .start()
        .await;
    let ticket = redis.ticket("42").await;
    let builder = Client::builder(&gateway, &ticket).small_buffers();
    let mut client = builder.open().await;
    let payload = format!("\"{}\"", "x".repeat(60_000));
    for _ in 0..MESSAGES {
        nats.publish("usher.user.42", &payload).await;
    }
    let received = "usher_messages_received_total";
    gateway.metric_becomes(received, MESSAGES as f64).await;
    assert!(gateway.metric("usher_queued_bytes").await > 1e6);

    gateway.pause();
    sleep(Duration::from_secs(17)).await;
    gateway.resume();
    // Had the gateway judged by its own absence, it would do so first of all.
    eventually("it runs again", || async {
        gateway.ops_get("/healthz").await.status == 200
    })
    .await;
    gateway.metric_becomes("usher_sessions", 1.0).await;

    for _ in 0..MESSAGES {
        client.next_data().await;
    }
    let slow = "usher_session_closes_total{reason=\"slow_consumer\"}";
    assert_eq!(gateway.metric(slow).await, 0.0);
}
