//! Sessions that do not read: the bounds of their backlog.

use serde_json::json;

use super::all_arrived;
use crate::{
    calls::service::{Service, header},
    support::{
        Client, Frame, Gateway, Nats, eventually, grpc::disconnect, login::in_seconds,
        raw_ws::TEXT, servers, sse::Events, world,
    },
};

/// 19 MB to a session that does not read: more than the kernel and the queue
/// take. It is told why, behind what was already on its way.
#[tokio::test]
async fn a_slow_consumer_is_4000() {
    let (nats, redis, gateway) = world().await;
    let ticket = redis.ticket("42").await;
    let mut slow = Client::builder(&gateway, &ticket)
        .small_buffers()
        .raw()
        .await;
    let mut quick = Client::open(&gateway, &redis.ticket("43").await).await;
    let publisher = nats.client().await;
    let payload = "x".repeat(64 << 10);
    for _ in 0..300 {
        publisher
            .publish("usher.user.42", payload.clone().into())
            .await
            .expect("published");
    }
    publisher
        .publish("usher.user.43", "1".into())
        .await
        .expect("published");
    publisher.flush().await.expect("flushed");
    assert_eq!(
        quick.next_data().await,
        1,
        "the others are not kept waiting"
    );
    all_arrived(&nats, &gateway, 301.0).await;

    let (code, reason, texts) = slow.expect_close().await;
    assert_eq!((code, &*reason), (4000, "slow_consumer"));
    assert!(texts.len() < 300, "{}", texts.len());
    gateway
        .metric_becomes("usher_session_closes_total{reason=\"slow_consumer\"}", 1.0)
        .await;
    gateway.metric_becomes("usher_queued_bytes", 0.0).await;
}

#[tokio::test]
async fn a_backlog_is_bounded_in_messages_too() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("session.queue_messages", "4");
    let gateway = builder.set("session.queue_bytes", "64MiB").start().await;
    let ticket = redis.ticket("42").await;
    let mut slow = Client::builder(&gateway, &ticket)
        .small_buffers()
        .raw()
        .await;
    let publisher = nats.client().await;
    for _ in 0..100 {
        publisher
            .publish("usher.user.42", "x".repeat(200_000).into())
            .await
            .expect("published");
    }
    publisher.flush().await.expect("flushed");
    all_arrived(&nats, &gateway, 100.0).await;
    let (code, reason, _) = slow.expect_close().await;
    assert_eq!((code, &*reason), (4000, "slow_consumer"));
}

/// A message larger than the whole queue still goes to a session whose backlog
/// is empty.
#[tokio::test]
async fn one_message_larger_than_the_queue_passes() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("session.queue_bytes", "16KiB");
    let gateway = builder.start().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let publisher = nats.client().await;
    for _ in 0..5 {
        publisher
            .publish("usher.user.42", "x".repeat(500_000).into())
            .await
            .expect("published");
        assert_eq!(
            client.next_data().await.as_str().map(str::len),
            Some(500_000)
        );
        gateway.metric_becomes("usher_queued_bytes", 0.0).await;
    }
}

/// Of all sessions together, the one with the largest backlog goes first.
#[tokio::test]
async fn the_largest_backlog_goes_first() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("session.queue_messages", "100000")
        .set("session.queue_bytes", "64MiB")
        .set("session.total_queue_bytes", "8MiB")
        .start()
        .await;
    let big = redis.ticket("big").await;
    let mut big = Client::builder(&gateway, &big).small_buffers().raw().await;
    let small = redis.ticket("small").await;
    let mut small = Client::builder(&gateway, &small)
        .small_buffers()
        .raw()
        .await;
    let publisher = nats.client().await;
    for _ in 0..10 {
        publisher
            .publish("usher.user.small", "x".repeat(1000).into())
            .await
            .expect("published");
    }
    for _ in 0..400 {
        publisher
            .publish("usher.user.big", "x".repeat(100_000).into())
            .await
            .expect("published");
    }
    publisher.flush().await.expect("flushed");
    // Only then does it read: who reads along is nobody to close.
    eventually("a backlog is given up", || async {
        let lost = "usher_messages_dropped_total{reason=\"slow_consumer\"}";
        gateway.metric(lost).await > 0.0
    })
    .await;
    let (code, reason, _) = big.expect_close().await;
    assert_eq!((code, &*reason), (4000, "slow_consumer"));
    publisher
        .publish("usher.user.small", "\"last\"".into())
        .await
        .expect("published");
    loop {
        let frame = small.read().await.expect("the small backlog stays");
        assert_eq!(frame.opcode(), TEXT);
        if frame.text().contains("last") {
            break;
        }
    }
}

/// A broadcast of five times what all backlogs may hold closes nobody who reads.
#[tokio::test]
async fn a_large_broadcast_closes_nobody_who_reads() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("session.total_queue_bytes", "1MiB");
    let gateway = builder.start().await;
    let mut clients = Vec::new();
    for number in 0..50 {
        let ticket = redis.ticket(&format!("user-{number}")).await;
        clients.push(Client::open(&gateway, &ticket).await);
    }
    let publisher = nats.client().await;
    let payload = "x".repeat(100_000);
    let broadcast = publisher.publish("usher.broadcast", payload.clone().into());
    broadcast.await.expect("published");
    publisher.flush().await.expect("flushed");
    for client in &mut clients {
        assert_eq!(client.next_data().await, payload.as_str());
    }
    let closed = "usher_session_closes_total{reason=\"slow_consumer\"}";
    assert_eq!(gateway.metric(closed).await, 0.0);
}

/// Somebody who never reads again does not even hear that it is over.
#[tokio::test]
async fn a_write_that_makes_no_progress_ends_the_session() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("session.write_timeout", "500ms");
    let gateway = builder.start().await;
    let ticket = redis.ticket("42").await;
    let _frozen = Client::builder(&gateway, &ticket)
        .small_buffers()
        .raw()
        .await;
    let publisher = nats.client().await;
    for _ in 0..150 {
        publisher
            .publish("usher.user.42", "x".repeat(64 << 10).into())
            .await
            .expect("published");
    }
    publisher.flush().await.expect("flushed");
    gateway
        .metric_becomes("usher_session_closes_total{reason=\"slow_consumer\"}", 1.0)
        .await;
    gateway.metric_becomes("usher_sessions", 0.0).await;
    eventually("nothing is held", || async {
        nats.subscriptions("usher.user.42").await == 0
    })
    .await;
}

/// Its client would come back otherwise, though a service has sent it away.
#[tokio::test]
async fn who_does_not_read_is_told_the_first_reason_and_obeyed_no_more() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("session.write_timeout", "1s")
        .start()
        .await;
    let ticket = |user| redis.ticket_json(json!({"user_id": user, "calls": ["note"]}));
    let slow = Client::builder(&gateway, &ticket("42").await).small_buffers();
    let mut slow = slow.open().await;
    let mut other = Client::open(&gateway, &ticket("43").await).await;
    let mut service = Service::of(&nats, "note").await;
    let call = "{\"call\":\"note\",\"data\":1}";
    fill(&nats, &gateway).await;
    let mut grpc = gateway.grpc().await;
    let ended = disconnect(&mut grpc, "42", false, "").await;
    assert_eq!(ended.expect("an answer").sessions, 1);
    slow.send_text(call).await;
    gateway
        .metric_becomes("usher_session_closes_total{reason=\"disconnected\"}", 1.0)
        .await;
    loop {
        match slow.next_frame().await {
            Frame::Closed(code, _) => break assert_eq!(code, 4100),
            frame => drop(frame),
        }
    }
    other.send_text(call).await;
    assert_eq!(header(&service.next().await, "Usher-User"), "43");
}

/// More than the kernel takes, and less than a backlog.
async fn fill(nats: &Nats, gateway: &Gateway) {
    let publisher = nats.client().await;
    while gateway.metric("usher_queued_bytes").await < 200_000.0 {
        let payload = "x".repeat(64 << 10);
        let sent = publisher.publish("usher.user.42", payload.into()).await;
        sent.expect("published");
        publisher.flush().await.expect("flushed");
    }
}

/// The same for a stream of events, where the reason is in the last one.
#[tokio::test]
async fn a_stream_that_is_not_read_ends_with_its_goodbye() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("session.write_timeout", "1s")
        .start()
        .await;
    let slow = Events::builder(&gateway, &redis.ticket("42").await).small_buffers();
    let mut slow = slow.open().await;
    fill(&nats, &gateway).await;
    let mut grpc = gateway.grpc().await;
    let ended = disconnect(&mut grpc, "42", false, "").await;
    assert_eq!(ended.expect("an answer").sessions, 1);
    gateway
        .metric_becomes("usher_session_closes_total{reason=\"disconnected\"}", 1.0)
        .await;
    let frames = slow.rest().await;
    let last = frames.last().expect("some frames");
    assert_eq!(last["goodbye"]["reason"], "disconnected");
}

/// It is not closed yet, since its client does not read.
#[tokio::test]
async fn a_session_that_is_over_replaces_nobody() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("public.max_sessions_per_user", "2")
        .start()
        .await;
    let mut oldest = Client::open(&gateway, &redis.ticket("42").await).await;
    let ticket = json!({"user_id": "42", "expires_at": in_seconds(4)});
    let ticket = redis.ticket_json(ticket).await;
    let slow = Client::builder(&gateway, &ticket).small_buffers();
    let _slow = slow.open().await;
    fill(&nats, &gateway).await;
    eventually("one is over", || async {
        let user = gateway.ops_get("/status/users/42").await.json();
        user["here"].as_array().is_some_and(|here| here.len() == 1)
    })
    .await;
    let mut newcomer = Client::open(&gateway, &redis.ticket("42").await).await;
    nats.publish("usher.user.42", "1").await;
    assert_eq!(newcomer.next_data().await, 1);
    while oldest.next_data().await != 1 {}
}
