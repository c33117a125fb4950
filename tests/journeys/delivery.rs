//! What is published is what the right sessions get: all of it, in order, and
//! nobody else's.

mod frames;

use std::collections::HashMap;

use async_nats::HeaderMap;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::support::{Client, Gateway, Nats, Redis, gateway::Builder, servers, world};

/// The same rule as the contract's, written down once more.
fn subject(user: &str) -> String {
    let mut subject = "usher.user.".to_owned();
    for byte in user.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => subject.push(byte.into()),
            other => subject += &format!("%{other:02X}"),
        }
    }
    subject
}

/// Published, and certainly with the server.
async fn publish(nats: &async_nats::Client, subject: &str, payload: impl Into<Bytes>) {
    nats.publish(subject.to_owned(), payload.into())
        .await
        .expect("published");
    nats.flush().await.expect("flushed");
}

#[tokio::test]
async fn a_publish_is_on_the_screen() {
    let (nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    publish(&nats.client().await, "usher.user.42", r#"{"order":123}"#).await;
    assert_eq!(
        client.next_event().await,
        json!({"event": "message", "data": {"order": 123}})
    );
    gateway
        .metric_becomes("usher_messages_delivered_total", 1.0)
        .await;
    assert_eq!(gateway.metric("usher_messages_received_total").await, 1.0);
}

#[tokio::test]
async fn a_broadcast_reaches_every_session_once() {
    let (nats, redis, here) = world().await;
    let there = Gateway::start(&nats, &redis).await;
    let mut sessions = Vec::new();
    for (gateway, user) in [
        (&here, "1"),
        (&here, "1"),
        (&here, "2"),
        (&there, "1"),
        (&there, "3"),
    ] {
        sessions.push(Client::open(gateway, &redis.ticket(user).await).await);
    }
    let nats = nats.client().await;
    let mut headers = HeaderMap::new();
    headers.insert("Event", "news");
    nats.publish_with_headers("usher.broadcast", headers, "[1]".into())
        .await
        .expect("published");
    publish(&nats, "usher.broadcast", "2").await;
    for session in &mut sessions {
        let news = json!({"event": "news", "broadcast": true, "data": [1]});
        assert_eq!(session.next_event().await, news);
        let second = json!({"event": "message", "broadcast": true, "data": 2});
        assert_eq!(session.next_event().await, second);
    }
}

#[tokio::test]
async fn a_user_on_two_gateways_is_reached_on_both() {
    let (nats, redis, here) = world().await;
    let there = Gateway::start(&nats, &redis).await;
    let mut sessions = Vec::new();
    for gateway in [&here, &here, &there] {
        sessions.push(Client::open(gateway, &redis.ticket("42").await).await);
    }
    let nats = nats.client().await;
    for number in 0..100 {
        publish(&nats, "usher.user.42", number.to_string()).await;
    }
    for session in &mut sessions {
        for number in 0..100 {
            assert_eq!(session.next_data().await, number);
        }
    }
}

#[tokio::test]
async fn every_id_has_a_subject_of_its_own() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("session.queue_messages", "5000")
        .start()
        .await;
    let publisher = nats.client().await;
    // Every byte that can stand in UTF-8 and is no control character: ASCII,
    // each continuation byte, and each first byte.
    let mut ids: Vec<String> = (0x20u8..0x7F)
        .map(|byte| char::from(byte).to_string())
        .collect();
    let first_bytes = (0x2..0x20)
        .map(|n| n * 0x40 + 0x30)
        .chain((0..0x10).map(|n| n * 0x1000 + 0x900));
    let letters = (0xA0..0x100)
        .chain(first_bytes)
        .chain((0..5).map(|n| n * 0x40000 + 0x10000));
    ids.extend(
        letters
            .chain(0x100..0x140)
            .filter_map(char::from_u32)
            .map(String::from),
    );
    // Some stand only inside.
    for id in &mut ids {
        if id == "{" || id.trim() != id {
            *id = format!("a{id}a");
        }
    }
    ids.extend(
        [
            "*",
            ">",
            ".",
            "..",
            "a.b",
            "a.*",
            "a.>",
            "usher.user.1",
            "%2A",
            "%",
            "a%20b",
        ]
        .map(String::from),
    );
    ids.extend(
        [
            "a b",
            "A",
            "a",
            "bob@example.com",
            "\u{1F468}\u{200D}\u{1F469}",
        ]
        .map(String::from),
    );
    ids.extend(["y".repeat(128), ".".repeat(128), "ü".repeat(64)]);
    ids.sort();
    ids.dedup();

    let mut sessions = Vec::new();
    for id in &ids {
        let ticket = redis.ticket_json(json!({"user_id": id})).await;
        let session = Client::open(&gateway, &ticket).await;
        assert_eq!(session.welcome()["user"], **id);
        sessions.push(session);
    }
    for id in &ids {
        publish(
            &publisher,
            &subject(id),
            serde_json::to_vec(id).expect("JSON"),
        )
        .await;
    }
    // The broadcast comes last, so what a session has by then is all it gets.
    publish(&publisher, "usher.broadcast", "\"end\"").await;
    for (id, session) in ids.iter().zip(&mut sessions) {
        assert_eq!(session.next_data().await, **id, "the user's own message");
        assert_eq!(
            session.next_event().await["broadcast"],
            true,
            "and no other: {id:?}"
        );
    }
    let subjects = nats.all_subjects().await;
    for id in &ids {
        let held = subjects
            .iter()
            .filter(|found| **found == subject(id))
            .count();
        assert_eq!(held, 1, "{id:?}");
    }
}

#[tokio::test]
async fn nobody_gets_what_is_anothers() {
    let (nats, redis) = servers().await;
    let queue = |builder: Builder| builder.set("session.queue_messages", "10000");
    let here = queue(Gateway::builder(&nats, &redis)).start().await;
    let there = queue(Gateway::builder(&nats, &redis)).start().await;
    let users = 20;
    let messages = 50;
    let mut sessions = Vec::new();
    for user in 0..users {
        for gateway in [&here, &there, &here] {
            let ticket = redis.ticket(&format!("user {user}")).await;
            sessions.push((user, Client::open(gateway, &ticket).await));
        }
    }
    let publisher = nats.client().await;
    for number in 0..messages {
        for user in 0..users {
            let payload = json!([user, number]).to_string();
            let subject = subject(&format!("user {user}"));
            publisher
                .publish(subject, payload.into())
                .await
                .expect("published");
        }
    }
    publish(&publisher, "usher.broadcast", "null").await;
    for (user, session) in &mut sessions {
        for number in 0..messages {
            assert_eq!(session.next_data().await, json!([user, number]));
        }
        assert_eq!(session.next_event().await["broadcast"], true);
    }
}

/// Publishers cannot reach users by other subjects than the contract's.
#[tokio::test]
async fn other_subjects_reach_nobody() {
    let (nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("a.b").await).await;
    let nats = nats.client().await;
    for subject in [
        "usher.user.a.b",
        "usher.user.a",
        "usher.user",
        "usher.user.a%2eb",
        "usher.live.user.a%2Eb",
        "usher.live.broadcast",
        "usher.broadcast.x",
        "other.user.a%2Eb",
    ] {
        publish(&nats, subject, "\"lost\"").await;
    }
    publish(&nats, "usher.user.a%2Eb", "\"found\"").await;
    assert_eq!(client.next_data().await, "found");
}

#[tokio::test]
async fn the_prefix_is_the_operators() {
    // The permissions of other prefixes are the operators' too.
    let (nats, redis) = tokio::join!(Nats::start_with(""), Redis::start());
    let gateway = Gateway::builder(&nats, &redis)
        .set("nats.prefix", "acme.rt")
        .start()
        .await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let nats = nats.client().await;
    publish(&nats, "usher.user.42", "1").await;
    publish(&nats, "acme.rt.user.42", "2").await;
    publish(&nats, "acme.rt.broadcast", "3").await;
    assert_eq!(client.next_data().await, 2);
    assert_eq!(client.next_data().await, 3);
}

/// Twenty thousand messages at once, from one publisher to one user: each
/// session gets all of them, in the order in which they were published.
#[tokio::test]
async fn a_burst_arrives_whole_and_in_order() {
    let (nats, redis) = servers().await;
    let mut gateways = Vec::new();
    for _ in 0..2 {
        let builder = Gateway::builder(&nats, &redis).set("session.queue_messages", "30000");
        gateways.push(builder.set("session.queue_bytes", "64MiB").start().await);
    }
    let mut sessions = Vec::new();
    for gateway in [&gateways[0], &gateways[0], &gateways[1]] {
        sessions.push(Client::open(gateway, &redis.ticket("42").await).await);
    }
    let total = 20_000;
    let publisher = nats.client().await;
    let readers = sessions.into_iter().map(|mut session| {
        tokio::spawn(async move {
            for number in 0..total {
                assert_eq!(session.next_data().await, number);
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    for number in 0..total {
        let payload = number.to_string();
        publisher
            .publish("usher.user.42", payload.into())
            .await
            .expect("published");
    }
    publisher.flush().await.expect("flushed");
    for reader in readers {
        reader.await.expect("all messages, in order");
    }
}

/// Order per publisher holds across a user's own messages and broadcasts: one
/// connection brings both.
#[tokio::test]
async fn several_publishers_each_keep_their_order() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("session.queue_messages", "10000");
    let gateway = builder.start().await;
    let mut session = Client::open(&gateway, &redis.ticket("42").await).await;
    let (publishers, each) = (4, 500);
    for publisher in 0..publishers {
        let client = nats.client().await;
        tokio::spawn(async move {
            for number in 0..each {
                let subject = if number % 3 == 0 {
                    "usher.broadcast"
                } else {
                    "usher.user.42"
                };
                let payload = json!([publisher, number]).to_string();
                client
                    .publish(subject, payload.into())
                    .await
                    .expect("published");
            }
            client.flush().await.expect("flushed");
        });
    }
    let mut next: HashMap<Value, u64> = HashMap::new();
    for _ in 0..publishers * each {
        let data = session.next_data().await;
        let expected = next.entry(data[0].clone()).or_default();
        assert_eq!(data[1], *expected);
        *expected += 1;
    }
}
