//! What is lost between the stream and a gateway, and what somebody slips in there.

use std::time::Duration;

use async_nats::HeaderMap;
use serde_json::json;

use super::{
    chained, loses_what_is_stored, republishes_again, store, store_with, world, world_with,
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
        headers.insert("Usher-Probe", "1");
        let seq = store_with(&nats, SUBJECT, data, headers).await;
        let event = client.next_event().await;
        assert_eq!(
            event,
            json!({"event": "message", "seq": seq, "prev": data - 1, "data": data})
        );
    }
    let since = super::position(&client);
    let (mut client, _) = super::resume(&gateway, &redis, "42", &since).await;
    assert_eq!(super::replayed_data(&mut client).await, [1, 2, 3]);
}

/// What slips through between two checks is found by the next one, and its session begins
/// anew, where its client can tell what is true.
#[tokio::test]
async fn who_was_shown_something_false_comes_again() {
    let (nats, redis, gateway) = world().await;
    let nats = nats.client().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let ticket = redis.ticket("42").await;
    let raw = Client::builder(&gateway, &ticket).protocols(&["usher.raw.v1"]);
    let mut raw = raw.open().await;
    let since = super::position(&client);
    store(&nats, SUBJECT, 1).await;
    assert_eq!(client.next_data().await, 1);
    let mut next = 2;
    let forged = loop {
        // Behind a genuine one, which is what is checked.
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Stream", "USHER");
        headers.insert("Nats-Sequence", (next + 5).to_string());
        headers.insert("Nats-Last-Sequence", next.to_string());
        let genuine = nats.publish(SUBJECT, next.to_string().into());
        genuine.await.expect("published");
        let false_one = nats.publish_with_headers("usher.live.user.42", headers, "0".into());
        false_one.await.expect("published");
        nats.flush().await.expect("flushed");
        let (code, seen) = until_closed_or(&mut client, next).await;
        if code.is_some() {
            break (code, seen);
        }
        next += 1;
        assert!(next < 200, "none slips through: is there a check at all?");
    };
    assert_eq!(forged, (Some(4003), true));
    assert_eq!(raw.expect_close().await.0, 4003);
    let (mut client, told) = super::resume(&gateway, &redis, "42", &since).await;
    assert_eq!(told, "complete");
    let all = super::replayed_data(&mut client).await;
    assert_eq!(all, (1..=next).collect::<Vec<_>>());
}

/// Reads until the close, or for as long as what is false would take to show. Returns the
/// code, and whether something false was shown.
async fn until_closed_or(client: &mut Client, genuine: u64) -> (Option<u16>, bool) {
    let mut shown = false;
    loop {
        match client.next_frame_within(Duration::from_millis(100)).await {
            Some(Frame::Closed(code, _)) => return (Some(code), shown),
            Some(Frame::Text(text)) => {
                let frame: serde_json::Value = serde_json::from_str(&text).expect("JSON");
                shown |= frame["data"] == 0;
                assert!(shown || frame["data"] == genuine, "{frame}");
            }
            Some(other) => panic!("{other:?}"),
            None if shown => {}
            None => return (None, false),
        }
    }
}

/// Whoever may publish where the stream republishes; nobody should.
#[tokio::test]
async fn what_is_not_in_the_stream_is_not_delivered() {
    let (nats, redis, gateway) = world().await;
    let nats = nats.client().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    store(&nats, SUBJECT, 1).await;
    assert_eq!(client.next_data().await, 1);
    for live in ["usher.live.user.42", "usher.live.broadcast"] {
        nats.publish(live, "\"bare\"".into())
            .await
            .expect("published");
        for seq in ["2", "3", "1000000000", "18446744073709551615"] {
            // Longer than a check is good for.
            tokio::time::sleep(Duration::from_millis(20)).await;
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Stream", "USHER");
            headers.insert("Nats-Sequence", seq);
            headers.insert("Nats-Last-Sequence", "1");
            let forged = nats.publish_with_headers(live, headers, "\"forged\"".into());
            forged.await.expect("published");
            nats.flush().await.expect("flushed");
        }
    }
    for reason in ["not_stored", "not_in_stream"] {
        let dropped = format!("usher_messages_dropped_total{{reason=\"{reason}\"}}");
        let count = if reason == "not_stored" { 2.0 } else { 8.0 };
        gateway.metric_becomes(&dropped, count).await;
    }
    for data in 2..=4 {
        store(&nats, SUBJECT, data).await;
        assert_eq!(client.next_data().await, data);
    }
}
