//! How a stream of events ends: with a `goodbye` where a WebSocket would have one, and
//! for the same reasons.

use std::collections::HashSet;

use serde_json::json;

use crate::{
    closing::all_arrived,
    support::{Client, Events, Gateway, Nats, eventually, servers, world},
};

const SLOW: &str = r#"usher_session_closes_total{reason="slow_consumer"}"#;

/// More than the kernel and the queue take.
async fn flood(nats: &Nats) {
    let publisher = nats.client().await;
    for number in 0..300 {
        let payload = json!([number, "x".repeat(64 << 10)]).to_string();
        let published = publisher.publish("usher.user.42", payload.into()).await;
        published.expect("published");
    }
    publisher.flush().await.expect("flushed");
}

#[tokio::test]
async fn a_drain_says_goodbye_with_a_hint() {
    let (nats, redis) = servers().await;
    let mut gateway = Gateway::builder(&nats, &redis)
        .set("drain.delay", "0s")
        .set("drain.window", "1s")
        .start()
        .await;
    let mut streams = Vec::new();
    for user in 0..10 {
        let ticket = redis.ticket(&user.to_string()).await;
        streams.push(Events::open(&gateway, &ticket).await);
    }
    for _ in 0..20 {
        nats.publish("usher.broadcast", "1").await;
    }
    gateway
        .metric_becomes("usher_messages_received_total", 20.0)
        .await;
    gateway.terminate();
    let mut hints = HashSet::new();
    for events in &mut streams {
        for _ in 0..20 {
            assert_eq!(events.next_data().await, 1, "what was there is flushed");
        }
        let goodbye = events.expect_goodbye().await;
        assert_eq!(goodbye["reason"], "drain");
        hints.insert(goodbye["reconnect_after_ms"].as_u64().expect("a hint"));
    }
    assert!(hints.len() > 1, "each session has its own hint");
    assert_eq!(gateway.wait().await.code(), Some(0));
}

#[tokio::test]
async fn a_session_too_many_replaces_the_oldest_of_whichever_kind() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis).set("public.max_sessions_per_user", "2");
    let gateway = gateway.start().await;
    let mut oldest = Events::open(&gateway, &redis.ticket("42").await).await;
    let mut second = Client::open(&gateway, &redis.ticket("42").await).await;
    let mut third = Events::open(&gateway, &redis.ticket("42").await).await;
    assert_eq!(oldest.expect_goodbye().await, json!({"reason": "replaced"}));
    let _fourth = Events::open(&gateway, &redis.ticket("42").await).await;
    assert_eq!(second.expect_close().await, (4101, "replaced".to_owned()));
    nats.publish("usher.user.42", "1").await;
    assert_eq!(third.next_data().await, 1);
}

#[tokio::test]
async fn a_session_ends_when_its_ticket_says() {
    let (_nats, redis, gateway) = world().await;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    let ticket = json!({"user_id": "42", "expires_at": now.as_secs() + 2});
    let ticket = redis.ticket_json(ticket).await;
    let mut events = Events::open(&gateway, &ticket).await;
    let goodbye = events.expect_goodbye().await;
    assert_eq!(goodbye, json!({"reason": "session_expired"}));
    gateway.metric_becomes("usher_sessions", 0.0).await;
}

#[tokio::test]
async fn no_session_lives_longer_than_it_may() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis).set("session.max_lifetime", "1s");
    let gateway = gateway.start().await;
    let mut events = Events::open(&gateway, &redis.ticket("42").await).await;
    assert_eq!(events.expect_goodbye().await["reason"], "session_expired");
}

/// It is cut, and what it is given is whole up to there.
#[tokio::test]
async fn a_slow_reader_is_cut_and_its_backlog_given_up() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis).set("session.write_timeout", "1s");
    let gateway = gateway.start().await;
    let ticket = redis.ticket("42").await;
    let mut slow = Events::builder(&gateway, &ticket)
        .small_buffers()
        .open()
        .await;
    let mut quick = Events::open(&gateway, &redis.ticket("43").await).await;
    flood(&nats).await;
    nats.publish("usher.user.43", "1").await;
    assert_eq!(
        quick.next_data().await,
        1,
        "the others are not kept waiting"
    );
    gateway.metric_becomes(SLOW, 1.0).await;
    gateway.metric_becomes("usher_queued_bytes", 0.0).await;
    assert_eq!(nats.subscriptions("usher.user.42").await, 0);

    let seen = slow.rest().await;
    assert!(seen.len() < 300, "{}", seen.len());
    for (number, frame) in seen.iter().enumerate() {
        assert_eq!(frame["data"][0], number, "none is lost in between");
    }
}

#[tokio::test]
async fn the_largest_backlog_goes_first_of_whichever_kind() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("session.queue_messages", "100000")
        .set("session.queue_bytes", "64MiB")
        .set("session.total_queue_bytes", "8MiB")
        .start()
        .await;
    let mut socket = Client::open(&gateway, &redis.ticket("43").await).await;
    let ticket = redis.ticket("42").await;
    let _slow = Events::builder(&gateway, &ticket)
        .small_buffers()
        .open()
        .await;
    flood(&nats).await;
    gateway.metric_becomes(SLOW, 1.0).await;
    nats.publish("usher.user.43", "1").await;
    assert_eq!(socket.next_data().await, 1);
    gateway.metric_becomes("usher_queued_bytes", 0.0).await;
}

#[tokio::test]
async fn a_stuck_reader_does_not_hold_up_a_drain() {
    let (nats, redis) = servers().await;
    let mut gateway = Gateway::builder(&nats, &redis)
        .set("drain.delay", "0s")
        .set("drain.window", "500ms")
        .set("session.queue_bytes", "64MiB")
        .set("session.queue_messages", "100000")
        .set("session.write_timeout", "1s")
        .start()
        .await;
    let ticket = redis.ticket("42").await;
    let _stuck = Events::builder(&gateway, &ticket)
        .small_buffers()
        .open()
        .await;
    flood(&nats).await;
    all_arrived(&nats, &gateway, 300.0).await;
    gateway.terminate();
    assert_eq!(gateway.wait().await.code(), Some(0));
}

/// No pong tells of such a client; its kernel has to take what it is sent.
#[tokio::test]
async fn a_client_that_takes_nothing_is_given_up_by_the_kernel() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("session.ping_interval", "500ms")
        .set("session.idle_timeout", "2s")
        .set("session.write_timeout", "10m")
        .set("session.queue_bytes", "64MiB")
        .set("session.queue_messages", "100000")
        .start()
        .await;
    let ticket = redis.ticket("42").await;
    let _gone = Events::builder(&gateway, &ticket)
        .small_buffers()
        .open()
        .await;
    flood(&nats).await;
    gateway
        .metric_becomes(
            r#"usher_session_closes_total{reason="connection_lost"}"#,
            1.0,
        )
        .await;
    eventually("nothing is held", || async {
        nats.subscriptions("usher.user.42").await == 0
    })
    .await;
    gateway.metric_becomes("usher_queued_bytes", 0.0).await;
}
