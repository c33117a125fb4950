//! Messages above `session.max_outgoing_frame`: a gap stands in their place.

use serde_json::{Value, json};

use crate::support::{Client, Events, Gateway, Nats, Redis};

const SUBJECT: &str = "usher.user.42";

/// As base64 it is a third larger.
const LARGE: usize = 900_000;

/// Live, or durable.
async fn world(durable: bool, limit: &str) -> (Nats, Redis, Gateway) {
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let builder = match durable {
        true => Gateway::durable(&nats, &redis),
        false => Gateway::builder(&nats, &redis),
    };
    let builder = builder.set("session.max_outgoing_frame", limit);
    let gateway = builder.start().await;
    (nats, redis, gateway)
}

async fn publish(nats: &async_nats::Client, payload: impl Into<bytes::Bytes>) {
    nats.publish(SUBJECT, payload.into())
        .await
        .expect("published");
    nats.flush().await.expect("flushed");
}

#[tokio::test]
async fn live_sessions_are_told_and_go_on() {
    let (nats, redis, gateway) = world(false, "1MiB").await;
    let nats = nats.client().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let mut events = Events::open(&gateway, &redis.ticket("42").await).await;
    let ticket = redis.ticket("42").await;
    let raw = Client::builder(&gateway, &ticket).protocols(&["usher.raw.v1"]);
    let mut raw = raw.open().await;
    // A raw session is sent the bytes as they are: they fit.
    let bytes = vec![0xFF; LARGE];
    publish(&nats, bytes.clone()).await;
    let gap = json!({"gap": {"reason": "too_large"}});
    assert_eq!(client.next_json().await, gap);
    assert_eq!(events.next_json().await, gap);
    assert_eq!(raw.next_frame().await, crate::support::Frame::Binary(bytes));
    publish(&nats, "1").await;
    assert_eq!(client.next_data().await, 1);
    assert_eq!(events.next_data().await, 1);
    let dropped = "usher_messages_dropped_total{reason=\"too_large\"}";
    gateway.metric_becomes(dropped, 2.0).await;
}

/// It has no frame that could say so.
#[tokio::test]
async fn a_raw_session_is_closed() {
    let (nats, redis, gateway) = world(false, "64KiB").await;
    let ticket = redis.ticket("42").await;
    let raw = Client::builder(&gateway, &ticket).protocols(&["usher.raw.v1"]);
    let mut raw = raw.open().await;
    publish(&nats.client().await, vec![b'x'; 100_000]).await;
    assert_eq!(raw.expect_close().await, (4003, "too_large".to_owned()));
}

/// A receipt counts whoever was given the message.
#[tokio::test]
async fn a_receipt_does_not_count_who_was_told() {
    let (nats, redis, gateway) = world(false, "64KiB").await;
    let nats = nats.client().await;
    let _told = Client::open(&gateway, &redis.ticket("42").await).await;
    let ticket = redis.ticket("42").await;
    // 60 KiB of text with its frame is above the limit, and without it is not.
    let raw = Client::builder(&gateway, &ticket).protocols(&["usher.raw.v1"]);
    let _raw = raw.open().await;
    let receipt = nats
        .request(SUBJECT, vec![b'x'; (64 << 10) - 8].into())
        .await
        .expect("a receipt");
    let receipt: Value = serde_json::from_slice(&receipt.payload).expect("JSON");
    assert_eq!(receipt["sessions"], 1);
}

/// Nobody comes back to it again and again.
#[tokio::test]
async fn a_replay_goes_past_it() {
    let (nats, redis, gateway) = world(true, "1MiB").await;
    let nats = nats.client().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let begin = crate::durable::position(&client);
    publish(&nats, "1").await;
    publish(&nats, vec![0xFF; LARGE]).await;
    publish(&nats, "3").await;
    let told = async |client: &mut Client| {
        let first = client.next_event().await;
        assert_eq!((&first["data"], &first["seq"]), (&json!(1), &json!(1)));
        let mut gap = client.next_json().await;
        assert!(gap["gap"]["at"].take().is_u64(), "{gap}");
        assert_eq!(
            gap,
            json!({"gap": {"reason": "too_large", "seq": 2, "prev": 1, "at": null}})
        );
        let last = client.next_event().await;
        assert_eq!((&last["data"], &last["prev"]), (&json!(3), &json!(2)));
        last
    };
    let last = told(&mut client).await;
    drop(client);
    let ticket = redis.ticket("42").await;
    let mut again = Client::builder(&gateway, &ticket)
        .since(&begin)
        .open()
        .await;
    assert_eq!(again.welcome()["resume"], "complete");
    told(&mut again).await;
    // The gap counts as what it stands for.
    let epoch = begin.split('.').next().expect("an epoch");
    let since = format!("{epoch}.0.3.{}.u2", last["at"]);
    let ticket = redis.ticket("42").await;
    let mut later = Client::builder(&gateway, &ticket)
        .since(&since)
        .open()
        .await;
    assert_eq!(later.welcome()["resume"], "complete");
    assert_eq!(later.next_data().await, 3);
}
