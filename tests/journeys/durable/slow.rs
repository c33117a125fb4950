//! A client that does not read for a while.

use serde_json::Value;

use super::{chained, store, world_with};
use crate::support::{Client, eventually};

const SUBJECT: &str = "usher.user.42";

/// It is not closed; it gets everything, in order, when it reads again, and what waits
/// for it in memory stays within its bounds.
#[tokio::test]
async fn a_slow_reader_gets_everything_later() {
    let (nats, redis, gateway) = world_with(&[
        ("session.queue_messages", "20"),
        ("session.queue_bytes", "256KiB"),
        ("session.write_timeout", "10m"),
    ])
    .await;
    let publisher = nats.client().await;
    let ticket = redis.ticket("42").await;
    let slow = Client::builder(&gateway, &ticket).small_buffers();
    let mut slow = slow.open().await;
    let mut quick = Client::open(&gateway, &redis.ticket("42").await).await;
    let payload = "x".repeat(50_000);
    for number in 0..300 {
        let subject = if number % 10 == 0 {
            "usher.broadcast"
        } else {
            SUBJECT
        };
        store(&publisher, subject, format!("[{number},\"{payload}\"]")).await;
        assert_eq!(quick.next_data().await[0], number);
        let queued = gateway.metric("usher_queued_bytes").await;
        assert!(queued < 1.5e6, "{queued} bytes wait");
    }
    assert!(gateway.metric("usher_messages_postponed_total").await > 0.0);
    store(&publisher, SUBJECT, "[300]").await;
    let data = chained(&mut slow, 301).await;
    let numbers = data.iter().map(|data| data[0].as_u64());
    assert!(numbers.eq((0..=300).map(Some)), "each once, in order");
    assert_eq!(gateway.metric("usher_session_closes_total").await, 0.0);
    let slow = "usher_catch_ups_total{reason=\"slow\"}";
    assert!(gateway.metric(slow).await >= 1.0);
}

#[tokio::test]
async fn who_is_behind_by_more_than_max_replay_is_4000() {
    let (nats, redis, gateway) = world_with(&[
        ("session.queue_messages", "20"),
        ("session.write_timeout", "10m"),
        ("durable.max_replay", "50"),
    ])
    .await;
    let publisher = nats.client().await;
    let ticket = redis.ticket("42").await;
    let mut slow = Client::builder(&gateway, &ticket)
        .small_buffers()
        .open()
        .await;
    let payload = "x".repeat(100_000);
    for number in 0..300 {
        store(&publisher, SUBJECT, format!("[{number},\"{payload}\"]")).await;
    }
    eventually("its backlog was given up", || async {
        gateway.metric("usher_messages_postponed_total").await > 0.0
    })
    .await;
    assert_eq!(
        slow.expect_close().await,
        (4000, "slow_consumer".to_owned())
    );
}

/// All backlogs together: the largest is given up first, and nobody is closed.
#[tokio::test]
async fn the_largest_backlog_is_put_off() {
    let (nats, redis, gateway) = world_with(&[
        ("session.queue_messages", "1000"),
        ("session.queue_bytes", "64MiB"),
        ("session.total_queue_bytes", "2MiB"),
        ("session.write_timeout", "10m"),
    ])
    .await;
    let publisher = nats.client().await;
    let ticket = redis.ticket("42").await;
    let mut slow = Client::builder(&gateway, &ticket)
        .small_buffers()
        .open()
        .await;
    let payload = "x".repeat(50_000);
    for number in 0..200 {
        store(&publisher, SUBJECT, format!("[{number},\"{payload}\"]")).await;
    }
    eventually("its backlog was given up", || async {
        gateway.metric("usher_messages_postponed_total").await > 0.0
    })
    .await;
    for number in 0..200 {
        assert_eq!(slow.next_data().await[0], Value::from(number));
    }
    assert_eq!(gateway.metric("usher_session_closes_total").await, 0.0);
}
