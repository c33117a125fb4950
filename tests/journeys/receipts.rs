//! A publisher that asks is told whether anybody is there.

use std::{collections::HashSet, time::Duration};

use async_nats::{HeaderMap, Message, Request, RequestErrorKind, Subscriber};
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::support::{Client, Gateway, Nats, Redis, eventually, wait::patiently, world};

fn probe() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Usher-Probe", "1");
    headers
}

fn read(message: &Message) -> Value {
    serde_json::from_slice(&message.payload).expect("a receipt is JSON")
}

async fn next(replies: &mut Subscriber) -> Value {
    read(
        &patiently("a receipt", replies.next())
            .await
            .expect("a receipt"),
    )
}

#[tokio::test]
async fn a_request_is_delivered_and_receipted() {
    let (nats, redis, gateway) = world().await;
    let mut first = Client::open(&gateway, &redis.ticket("42").await).await;
    let name = first.welcome()["gateway"].clone();
    let nats = nats.client().await;
    let receipt = nats
        .request("usher.user.42", "1".into())
        .await
        .expect("a receipt");
    assert_eq!(read(&receipt), json!({"gateway": name, "sessions": 1}));
    assert_eq!(first.next_data().await, 1);

    let mut second = Client::open(&gateway, &redis.ticket("42").await).await;
    let receipt = nats
        .request("usher.user.42", "2".into())
        .await
        .expect("a receipt");
    assert_eq!(read(&receipt), json!({"gateway": name, "sessions": 2}));
    for client in [&mut first, &mut second] {
        assert_eq!(client.next_data().await, 2);
    }
}

#[tokio::test]
async fn where_nobody_is_nats_says_so_at_once() {
    let (nats, redis, gateway) = world().await;
    let nats = nats.client().await;
    let nobody = |subject: &'static str| {
        let nats = nats.clone();
        async move {
            // As short as this, since one that meets a leaving session gets no answer.
            let limit = Some(Duration::from_millis(500));
            let request = Request::new().payload("1".into()).timeout(limit);
            let refusal = nats.send_request(subject, request).await.err();
            refusal.is_some_and(|error| error.kind() == RequestErrorKind::NoResponders)
        }
    };
    assert!(nobody("usher.user.42").await);
    let client = Client::open(&gateway, &redis.ticket("42").await).await;
    nats.request("usher.user.42", "1".into())
        .await
        .expect("a receipt");
    assert!(nobody("usher.user.43").await);
    drop(client);
    eventually("nobody is there any more", || nobody("usher.user.42")).await;
}

#[tokio::test]
async fn a_probe_is_answered_and_never_shown() {
    let (nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let nats = nats.client().await;
    let answer = nats
        .request_with_headers("usher.user.42", probe(), "no message".into())
        .await;
    assert_eq!(read(&answer.expect("an answer"))["sessions"], 1);
    // Without a reply subject it is a probe all the same.
    nats.publish_with_headers("usher.user.42", probe(), "no message".into())
        .await
        .expect("published");
    nats.publish("usher.user.42", "1".into())
        .await
        .expect("published");
    assert_eq!(client.next_data().await, 1);
    assert_eq!(gateway.metric("usher_messages_delivered_total").await, 1.0);
}

#[tokio::test]
async fn elsewhere_a_probe_is_an_ordinary_message() {
    let (nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let nats = nats.client().await;
    nats.publish_with_headers("usher.broadcast", probe(), "1".into())
        .await
        .expect("published");
    let mut other = HeaderMap::new();
    other.insert("Usher-Probe", "0");
    nats.publish_with_headers("usher.user.42", other, "2".into())
        .await
        .expect("published");
    assert_eq!(client.next_data().await, 1);
    assert_eq!(client.next_data().await, 2);
}

#[tokio::test]
async fn two_gateways_give_two_receipts() {
    let (nats, redis, here) = world().await;
    let there = Gateway::start(&nats, &redis).await;
    let mut expected = HashSet::new();
    let mut sessions = Vec::new();
    for gateway in [&here, &there] {
        let session = Client::open(gateway, &redis.ticket("42").await).await;
        expected.insert(session.welcome()["gateway"].to_string());
        sessions.push(session);
    }
    assert_eq!(expected.len(), 2, "gateways have names of their own");

    let nats = nats.client().await;
    let inbox = nats.new_inbox();
    let mut replies = nats.subscribe(inbox.clone()).await.expect("subscribed");
    nats.publish_with_reply("usher.user.42", inbox, "1".into())
        .await
        .expect("published");
    let mut found = HashSet::new();
    for _ in 0..2 {
        let receipt = next(&mut replies).await;
        assert_eq!(receipt["sessions"], 1);
        found.insert(receipt["gateway"].to_string());
    }
    assert_eq!(found, expected);
}

/// Whoever may publish to a user must not make a gateway publish anywhere.
#[tokio::test]
async fn only_inboxes_are_answered() {
    // One where a publisher may do everything.
    let (nats, redis) = tokio::join!(Nats::start_with(""), Redis::start());
    let gateway = Gateway::start(&nats, &redis).await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let nats = nats.client().await;
    let mut elsewhere = nats.subscribe("usher.user.43").await.expect("subscribed");
    let mut anywhere = nats.subscribe("orders.>").await.expect("subscribed");
    let mut inbox = nats.subscribe("_INBOX.mine").await.expect("subscribed");
    for reply in ["usher.user.43", "orders.new", "_INBOXES.x", "_INBOX.mine"] {
        nats.publish_with_reply("usher.user.42", reply, "1".into())
            .await
            .expect("published");
        assert_eq!(client.next_data().await, 1, "it is delivered, whoever asks");
    }
    assert_eq!(next(&mut inbox).await["sessions"], 1);
    // One connection brings all answers in order, so nothing else is underway.
    nats.publish("usher.user.43", "end".into())
        .await
        .expect("published");
    nats.publish("orders.end", "end".into())
        .await
        .expect("published");
    for subscriber in [&mut elsewhere, &mut anywhere] {
        let first = patiently("the end", subscriber.next())
            .await
            .expect("the end");
        assert_eq!(&*first.payload, b"end");
    }
}

#[tokio::test]
async fn a_broadcast_is_not_answered() {
    let (nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let nats = nats.client().await;
    let inbox = nats.new_inbox();
    let mut replies = nats.subscribe(inbox.clone()).await.expect("subscribed");
    nats.publish_with_reply("usher.broadcast", inbox.clone(), "1".into())
        .await
        .expect("published");
    assert_eq!(client.next_data().await, 1);
    nats.publish_with_reply("usher.user.42", inbox, "2".into())
        .await
        .expect("published");
    assert_eq!(client.next_data().await, 2);
    assert_eq!(
        next(&mut replies).await["sessions"],
        1,
        "the first answer is to the second"
    );
    nats.request("usher.user.42", "3".into())
        .await
        .expect("a receipt");
    let more = futures_util::FutureExt::now_or_never(replies.next());
    assert!(more.is_none(), "and there is no other");
}

/// A gateway needs no right to publish anywhere for its receipts: NATS lets it
/// answer what it was asked, on the connection that brought the question.
#[tokio::test]
async fn receipts_need_only_allow_responses() {
    let nats = Nats::start_with(
        r#"authorization { users: [
            { user: gateway, password: gateways, permissions: {
                publish: { deny: ">" }, subscribe: ">",
                allow_responses: { max: 1, expires: "1m" } } }
            { user: publisher, password: publishers }
        ] }"#,
    )
    .await
    .log_in_as("publisher", "publishers");
    let redis = Redis::start().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("nats.user", "gateway")
        .set("nats.password", "gateways")
        .start()
        .await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let nats = nats.client().await;
    for number in 0..3 {
        let payload = number.to_string();
        let receipt = nats
            .request("usher.user.42", payload.into())
            .await
            .expect("a receipt");
        assert_eq!(read(&receipt)["sessions"], 1);
        assert_eq!(client.next_data().await, number);
    }
}

/// A receipt speaks of what is queued: a session that is over gets nothing.
#[tokio::test]
async fn a_replaced_session_is_not_counted() {
    let (nats, redis, gateway) = world().await;
    let mut sessions = Vec::new();
    for _ in 0..17 {
        sessions.push(Client::open(&gateway, &redis.ticket("42").await).await);
    }
    let nats = nats.client().await;
    let receipt = nats
        .request("usher.user.42", "1".into())
        .await
        .expect("a receipt");
    assert_eq!(read(&receipt)["sessions"], 16);
}
