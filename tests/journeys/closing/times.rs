//! Sessions that end by the clock, and the pings that keep them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::raw_session;
use crate::support::{
    Client, Gateway,
    raw_ws::{PING, PONG, frame},
    servers, world,
};

fn in_seconds(seconds: u64) -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    now.as_secs() + seconds
}

#[tokio::test]
async fn a_session_ends_when_its_ticket_says() {
    let (nats, redis, gateway) = world().await;
    let end = in_seconds(3);
    let ticket = redis
        .ticket_json(json!({"user_id": "42", "expires_at": end}))
        .await;
    let mut client = Client::open(&gateway, &ticket).await;
    nats.publish("usher.user.42", "1").await;
    assert_eq!(client.next_data().await, 1);
    assert_eq!(client.expect_goodbye().await["reason"], "session_expired");
    assert_eq!(
        client.expect_close().await,
        (4001, "session_expired".to_owned())
    );
    assert!(in_seconds(0) >= end, "not before its time");
}

#[tokio::test]
async fn no_session_lives_longer_than_it_may() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("session.max_lifetime", "1s");
    let gateway = builder.start().await;
    let start = Instant::now();
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    assert_eq!(client.expect_goodbye().await["reason"], "session_expired");
    assert!(
        start.elapsed() >= Duration::from_millis(900),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(
        client.expect_close().await,
        (4001, "session_expired".to_owned())
    );
}

#[tokio::test]
async fn silence_is_4002() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("session.ping_interval", "500ms");
    let gateway = builder.set("session.idle_timeout", "4s").start().await;
    // This one reads, and answers no ping.
    let mut silent = raw_session(&gateway, &redis).await;
    // This one has nothing to say either, but its WebSocket answers.
    let mut alive = Client::open(&gateway, &redis.ticket("43").await).await;
    assert_eq!(alive.welcome()["ping"], 0.5);
    let start = Instant::now();
    let listening = tokio::spawn(async move {
        while start.elapsed() < Duration::from_secs(7) {
            alive.next_frame().await;
        }
        alive
    });
    let (code, reason, texts) = silent.expect_close().await;
    assert_eq!((code, &*reason), (4002, "idle"));
    assert!(
        texts.iter().any(|text| text.starts_with("{\"ping\":")),
        "{texts:?}"
    );
    assert!(
        start.elapsed() >= Duration::from_millis(3500),
        "{:?}",
        start.elapsed()
    );

    let mut alive = listening
        .await
        .expect("a session whose client answers goes on");
    nats.publish("usher.user.43", "1").await;
    assert_eq!(alive.next_data().await, 1);
}

/// A protocol ping comes every interval, whatever else was sent; the frame that
/// scripts can see comes only when nothing else did.
#[tokio::test]
async fn pings_come_in_both_forms() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("session.ping_interval", "1s");
    let gateway = builder.start().await;
    let mut busy = raw_session(&gateway, &redis).await;
    let other = redis.ticket("quiet").await;
    let mut quiet = Client::builder(&gateway, &other).raw().await;
    let publisher = nats.client().await;
    let over = tokio::spawn(async move {
        loop {
            publisher
                .publish("usher.user.42", "1".into())
                .await
                .expect("published");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut pings = 0;
    while pings < 4 {
        let ping = busy.read().await.expect("the session goes on");
        match ping.opcode() {
            PING => {
                pings += 1;
                busy.write(&frame(PONG, &ping.payload)).await;
            }
            _ => assert!(!ping.text().starts_with("{\"ping\":"), "{}", ping.text()),
        }
    }
    over.abort();
    let (mut pings, mut frames) = (0, 0);
    while pings < 3 || frames < 3 {
        let frame = quiet.read().await.expect("the session goes on");
        match frame.opcode() {
            PING => pings += 1,
            _ => frames += usize::from(frame.text().starts_with("{\"ping\":")),
        }
    }
}

/// The answer to a ping waits behind all that was written before it.
#[tokio::test]
async fn who_reads_slowly_but_reads_is_not_idle() {
    const MESSAGES: usize = 32;
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("session.ping_interval", "1s")
        .set("session.idle_timeout", "2s")
        .set("session.queue_bytes", "64MiB")
        .start()
        .await;
    let ticket = redis.ticket("42").await;
    let client = Client::builder(&gateway, &ticket).small_buffers();
    let mut client = client.open().await;
    let message = format!("\"{}\"", "x".repeat(256 * 1024));
    for _ in 0..MESSAGES {
        nats.publish("usher.user.42", &message).await;
    }
    for _ in 0..MESSAGES {
        client.next_data().await;
        sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(
        gateway
            .metric("usher_sessions{transport=\"websocket\"}")
            .await,
        1.0
    );
}
