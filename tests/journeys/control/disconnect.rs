//! A service ends a user's sessions, wherever they are.

use std::collections::HashSet;

use serde_json::json;

use super::gateways;
use crate::support::{
    Client, Events, Frame,
    grpc::{disconnect, presence},
    servers,
};

#[tokio::test]
async fn every_session_ends_on_every_gateway() {
    let (nats, redis) = servers().await;
    let gateways = gateways(2, (&nats, &redis), &[]).await;
    let mut clients = Vec::new();
    for gateway in [&gateways[0], &gateways[0], &gateways[1]] {
        clients.push(Client::open(gateway, &redis.ticket("42").await).await);
    }
    let mut events = Events::open(&gateways[1], &redis.ticket("42").await).await;
    let ticket = redis.ticket("42").await;
    let raw = Client::builder(&gateways[1], &ticket).protocols(&["usher.raw.v1"]);
    let mut raw = raw.open().await;
    let mut other = Client::open(&gateways[1], &redis.ticket("43").await).await;

    let mut grpc = gateways[0].grpc().await;
    let ended = disconnect(&mut grpc, "42", false, "\"bye\"\n").await;
    let ended = ended.expect("an answer");
    assert_eq!((ended.sessions, ended.complete), (5, true));
    let goodbye = json!({"reason": "disconnected", "message": "\"bye\"\n"});
    for client in &mut clients {
        assert_eq!(client.expect_goodbye().await, goodbye);
        assert_eq!(
            client.expect_close().await,
            (4100, "disconnected".to_owned())
        );
    }
    assert_eq!(events.expect_goodbye().await, goodbye);
    assert_eq!(
        raw.next_frame().await,
        Frame::Closed(4100, "disconnected".to_owned())
    );

    let found = presence(&mut grpc, &["42", "43"]).await.expect("an answer");
    assert_eq!(found.users.into_keys().collect::<Vec<_>>(), ["43"]);
    nats.publish("usher.user.43", "1").await;
    assert_eq!(other.next_data().await, 1);
    for (gateway, sessions) in gateways.iter().zip([2.0, 3.0]) {
        let closes = "usher_session_closes_total{reason=\"disconnected\"}";
        gateway.metric_becomes(closes, sessions).await;
    }
    // Later sessions are not included.
    let mut later = Client::open(&gateways[0], &redis.ticket("42").await).await;
    nats.publish("usher.user.42", "2").await;
    assert_eq!(later.next_data().await, 2);
    // Without a reason nothing is said besides.
    let ended = disconnect(&mut grpc, "42", false, "").await.expect("done");
    assert_eq!(ended.sessions, 1);
    assert_eq!(
        later.expect_goodbye().await,
        json!({"reason": "disconnected"})
    );
    let none = disconnect(&mut grpc, "42", false, "").await.expect("done");
    assert_eq!((none.sessions, none.complete), (0, true));
}

/// Clients that come again do so at moments of their own.
#[tokio::test]
async fn sessions_may_be_asked_to_come_again() {
    const SESSIONS: usize = 8;
    let (nats, redis) = servers().await;
    let gateways = gateways(2, (&nats, &redis), &[]).await;
    let mut clients = Vec::new();
    for index in 0..SESSIONS {
        let ticket = redis.ticket("42").await;
        clients.push(Client::open(&gateways[index % 2], &ticket).await);
    }
    let ticket = redis.ticket("42").await;
    let raw = Client::builder(&gateways[0], &ticket).protocols(&["usher.raw.v1"]);
    let mut raw = raw.open().await;
    let mut events = Events::open(&gateways[1], &redis.ticket("42").await).await;

    let mut grpc = gateways[1].grpc().await;
    let ended = disconnect(&mut grpc, "42", true, "new rights").await;
    let ended = ended.expect("an answer");
    assert_eq!(
        (ended.sessions, ended.complete),
        (SESSIONS as u32 + 2, true)
    );
    let mut hints = HashSet::new();
    for client in &mut clients {
        let goodbye = client.expect_goodbye().await;
        assert_eq!(goodbye["reason"], "reconnect");
        assert_eq!(goodbye["message"], "new rights");
        hints.insert(goodbye["reconnect_after_ms"].as_u64().expect("a hint"));
        assert_eq!(client.expect_close().await, (4004, "reconnect".to_owned()));
    }
    assert!(hints.iter().all(|hint| *hint <= 2000), "{hints:?}");
    assert!(hints.len() > SESSIONS / 2, "each its own: {hints:?}");
    assert!(events.expect_goodbye().await["reconnect_after_ms"].is_u64());
    let Frame::Closed(4004, words) = raw.next_frame().await else {
        panic!("no close 4004")
    };
    let hint = words.strip_prefix("reconnect ").expect("a hint");
    assert!(
        hint.parse::<u64>().expect("milliseconds") <= 2000,
        "{words}"
    );

    let mut again = Client::open(&gateways[0], &redis.ticket("42").await).await;
    nats.publish("usher.user.42", "1").await;
    assert_eq!(again.next_data().await, 1);
}
