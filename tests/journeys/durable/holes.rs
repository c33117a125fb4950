//! What is lost between the stream and a gateway, and what somebody slips in there.

use async_nats::HeaderMap;
use serde_json::json;

use super::{
    chained, loses_what_is_stored, republishes_again, store, store_with, timeless, world,
    world_with,
};
use crate::support::{Client, Frame};

const SUBJECT: &str = "usher.user.42";

#[tokio::test]
async fn a_hole_is_filled_before_anything_newer() {
    let (nats, redis, gateway) = world().await;
    let nats = nats.client().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let mut other = Client::open(&gateway, &redis.ticket("43").await).await;
    store(&nats, SUBJECT, 1).await;
    let delivered = "usher_messages_delivered_total";
    gateway.metric_becomes(delivered, 1.0).await;
    loses_what_is_stored(&nats).await;
    store(&nats, SUBJECT, 2).await;
    store(&nats, "usher.broadcast", 3).await;
    republishes_again(&nats).await;
    store(&nats, SUBJECT, 4).await;
    assert_eq!(chained(&mut client, 4).await, [1, 2, 3, 4]);
    store(&nats, "usher.broadcast", 5).await;
    assert_eq!(client.next_data().await, 5);
    assert_eq!(other.next_data().await, 3);
    assert_eq!(other.next_data().await, 5);
    let holes = "usher_catch_ups_total{reason=\"hole\"}";
    assert_eq!(gateway.metric(holes).await, 2.0, "one for each session");
}

/// Nothing newer reveals it.
#[tokio::test]
async fn a_tail_is_found_by_the_audit() {
    let (nats, redis, gateway) = world_with(&[
        ("durable.audit", "2s"),
        ("session.ping_interval", "1s"),
        ("session.idle_timeout", "60s"),
    ])
    .await;
    let nats = nats.client().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    // The second look after the join is past when the first audit has been.
    let storing = async {
        for number in 1..=3_u8 {
            loses_what_is_stored(&nats).await;
            store(&nats, SUBJECT, number).await;
            let replayed = "usher_replayed_messages_total";
            gateway.metric_becomes(replayed, number.into()).await;
            republishes_again(&nats).await;
        }
    };
    let (data, ()) = tokio::join!(chained(&mut client, 3), storing);
    assert_eq!(data, [1, 2, 3]);
    // Where everything was compared with the stream, the client is told so.
    let last = store(&nats, "usher.user.43", 0).await;
    loop {
        if let Frame::Text(text) = client.next_frame().await {
            let frame: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            if frame["ping"]["seq"] == last {
                break;
            }
        }
    }
}

/// As when a server of a cluster has yet to learn of the interest.
#[tokio::test]
async fn what_slipped_past_a_join_is_found_by_the_second_look() {
    let (nats, redis, gateway) = world_with(&[("durable.audit", "24h")]).await;
    let nats = nats.client().await;
    loses_what_is_stored(&nats).await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    store(&nats, SUBJECT, 1).await;
    assert_eq!(client.next_data().await, 1);
}

/// The server appends its own headers; a publisher's come before them.
#[tokio::test]
async fn a_publishers_own_sequence_does_not_count() {
    let (nats, redis, gateway) = world().await;
    let nats = nats.client().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    for data in 1..=3_u64 {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Stream", "OTHER");
        headers.insert("Nats-Sequence", "999999");
        headers.insert("Nats-Last-Sequence", "999998");
        let seq = store_with(&nats, SUBJECT, data, headers).await;
        let event = client.next_event().await;
        assert_eq!(
            timeless(event),
            json!({"event": "message", "seq": seq, "prev": data - 1, "data": data})
        );
    }
    let since = super::position(&client);
    let (mut client, _) = super::resume(&gateway, &redis, "42", &since).await;
    assert_eq!(super::replayed_data(&mut client).await, [1, 2, 3]);
}

/// Only the stream may publish where it republishes; a bare message there is not its own.
#[tokio::test]
async fn what_the_stream_has_not_stored_is_not_delivered() {
    let (nats, redis, gateway) = world().await;
    let nats = nats.client().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    store(&nats, SUBJECT, 1).await;
    assert_eq!(client.next_data().await, 1);
    for live in ["usher.live.user.42", "usher.live.broadcast"] {
        let bare = nats.publish(live, "\"bare\"".into());
        bare.await.expect("published");
    }
    nats.flush().await.expect("flushed");
    let dropped = "usher_messages_dropped_total{reason=\"not_stored\"}";
    gateway.metric_becomes(dropped, 2.0).await;
    for data in 2..=4 {
        store(&nats, SUBJECT, data).await;
        assert_eq!(client.next_data().await, data);
    }
}
