//! Publishing where a stream acknowledges.

use async_nats::HeaderMap;
use serde_json::{Value, json};
use usher::proto::PushStatus;

use super::{api, store, store_with};
use crate::support::{
    Client, Gateway, Nats, Redis, eventually,
    grpc::{push, push_with_receipt, pushed},
    servers,
};

const SUBJECT: &str = "usher.user.42";

async fn world() -> (Nats, Redis, Gateway) {
    let (nats, redis) = tokio::join!(Nats::keeping(), Redis::start());
    let gateway = Gateway::durable(&nats, &redis).start().await;
    (nats, redis, gateway)
}

#[tokio::test]
async fn a_push_is_stored_before_it_is_ok() {
    let (nats, redis, gateway) = world().await;
    let mut caller = gateway.grpc().await;
    let first = pushed(&mut caller, push("42", "1")).await;
    assert_eq!((first.status(), first.seq), (PushStatus::Dispatched, 1));
    let receipt = pushed(&mut caller, push_with_receipt("42", "2")).await;
    assert_eq!(
        (receipt.status(), receipt.seq, receipt.sessions),
        (PushStatus::Offline, 2, 0)
    );
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let _other = Client::open(&gateway, &redis.ticket("42").await).await;
    let receipt = pushed(&mut caller, push_with_receipt("42", "3")).await;
    assert_eq!(
        (receipt.status(), receipt.seq, receipt.sessions),
        (PushStatus::Queued, 3, 2)
    );
    assert_eq!(client.next_event().await["seq"], 3);
    // A request is answered by the stream.
    assert_eq!(store(&nats.client().await, SUBJECT, 4).await, 4);
}

#[tokio::test]
async fn a_duplicate_is_stored_once() {
    let (nats, redis, gateway) = world().await;
    let mut caller = gateway.grpc().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let mut other = Client::open(&gateway, &redis.ticket("43").await).await;
    for (user, message, seq) in [
        ("42", "1", 1),
        ("42", "2", 1),
        ("43", "3", 2),
        ("43", "4", 2),
    ] {
        let request = usher::proto::PushRequest {
            message_id: "order-7".to_owned(),
            ..push(user, message)
        };
        let response = pushed(&mut caller, request).await;
        assert_eq!(
            (response.status(), response.seq),
            (PushStatus::Dispatched, seq)
        );
    }
    let nats = nats.client().await;
    for _ in 0..2 {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", "another");
        assert_eq!(store_with(&nats, SUBJECT, 5, headers).await, 3);
    }
    store(&nats, "usher.broadcast", 6).await;
    for data in [1, 5, 6] {
        assert_eq!(client.next_data().await, data);
    }
    for data in [3, 6] {
        assert_eq!(other.next_data().await, data);
    }
}

/// Nobody was given it then, and nobody is now.
#[tokio::test]
async fn a_duplicate_is_dispatched_and_no_more() {
    let (_nats, redis, gateway) = world().await;
    let mut caller = gateway.grpc().await;
    let request = || usher::proto::PushRequest {
        message_id: "order-7".to_owned(),
        ..push_with_receipt("42", "1")
    };
    let first = pushed(&mut caller, request()).await;
    assert_eq!((first.status(), first.seq), (PushStatus::Offline, 1));
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let again = pushed(&mut caller, request()).await;
    assert_eq!((again.status(), again.seq), (PushStatus::Dispatched, 1));
    pushed(&mut caller, push("42", "2")).await;
    assert_eq!(client.next_data().await, 2);
}

/// A stream that somebody deletes is made again, also where nobody joins.
#[tokio::test]
async fn a_push_finds_that_the_stream_is_gone() {
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let gateway = Gateway::durable(&nats, &redis).start().await;
    let mut caller = gateway.grpc().await;
    pushed(&mut caller, push("42", "1")).await;
    let context = super::jetstream(&nats.client().await);
    context.delete_stream("USHER").await.expect("deleted");
    eventually("it takes pushes again", || {
        let mut caller = caller.clone();
        async move { caller.push_notification(push("42", "2")).await.is_ok() }
    })
    .await;
}

/// The question who has it goes where the stream republishes.
#[tokio::test]
async fn a_probe_is_answered_once_everything_is_queued() {
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let gateway = Gateway::durable(&nats, &redis).start().await;
    let nats = nats.client().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let probe = async |seq: Option<u64>| {
        let mut headers = HeaderMap::new();
        headers.insert("Usher-Probe", "1");
        if let Some(seq) = seq {
            headers.insert("Usher-Seq", seq.to_string());
        }
        let asking = nats.request_with_headers("usher.live.user.42", headers, "".into());
        let answer = tokio::time::timeout(std::time::Duration::from_secs(2), asking).await;
        let answer = answer.ok()?.ok()?;
        serde_json::from_slice::<Value>(&answer.payload).ok()
    };
    let present = probe(None).await.expect("an answer");
    assert_eq!(present["sessions"], 1);
    assert_eq!(present["gateway"], client.welcome()["gateway"]);
    let seq = store(&nats, SUBJECT, 1).await;
    assert!(probe(Some(seq)).await.is_some());
    assert_eq!(probe(Some(seq + 1)).await, None, "there is no such message");
    // What slipped past, and is brought within the time that is waited.
    assert_eq!(client.next_data().await, 1);
    assert!(probe(None).await.is_some());
    client.quiet_for(std::time::Duration::from_millis(50)).await;
}

#[tokio::test]
async fn broadcasts_and_messages_come_in_the_streams_order() {
    let (nats, redis, gateway) = world().await;
    let nats = nats.client().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    for number in 0..200_u64 {
        let subject = if number % 3 == 0 {
            "usher.broadcast"
        } else {
            SUBJECT
        };
        let published = nats.publish(subject, number.to_string().into()).await;
        published.expect("published");
    }
    nats.flush().await.expect("flushed");
    let (mut user, mut all) = (0, 0);
    for number in 0..200_u64 {
        let event = client.next_event().await;
        let seq = number + 1;
        let before = if number % 3 == 0 {
            std::mem::replace(&mut all, seq)
        } else {
            std::mem::replace(&mut user, seq)
        };
        assert_eq!(event["data"], number);
        assert_eq!(event["seq"], seq);
        assert_eq!(event["prev"], before);
        assert_eq!(event["broadcast"] == true, number % 3 == 0);
    }
}

/// A stream that takes nothing more says so, and nothing is called stored.
#[tokio::test]
async fn what_the_stream_refuses_is_not_ok() {
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let gateway = Gateway::durable(&nats, &redis).start().await;
    let client = nats.client().await;
    super::change(&client, |config| config["max_msg_size"] = json!(10)).await;
    let mut caller = gateway.grpc().await;
    let status = caller
        .push_notification(push("42", "more than ten bytes"))
        .await
        .expect_err("the stream refuses it");
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
    assert!(status.message().contains("did not store"), "{status:?}");
    let info = api(&client, "STREAM.INFO.USHER", &json!({})).await;
    assert_eq!(info["state"]["messages"], 0);
}

/// Without a stream nothing is stored, and nothing has a place in it.
#[tokio::test]
async fn live_mode_has_no_positions() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::start(&nats, &redis).await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    assert!(client.welcome()["epoch"].is_null() && client.welcome()["seq"].is_null());
    nats.publish(SUBJECT, "1").await;
    assert_eq!(
        client.next_event().await,
        json!({"event": "message", "data": 1})
    );
    let ticket = redis.ticket("42").await;
    let again = Client::builder(&gateway, &ticket)
        .since("k3f9.1.1.9")
        .open()
        .await;
    assert_eq!(again.welcome()["resume"], "gap");
}
