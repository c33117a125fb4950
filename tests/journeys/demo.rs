//! What the demo's page asks for: messages to topics and to all, and a restart.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{
    Builder, Client, Gateway, Nats, Redis, eventually,
    http::{self, Response},
    secrets,
};

fn demo() -> Builder {
    Builder::new().argument("--embedded").argument("--demo")
}

/// Posts as the demo's page does.
pub(crate) async fn post(gateway: &Gateway, path: &str, body: Value) -> Response {
    post_at(&gateway.public, path, body).await
}

/// The same to the public listener of any gateway.
pub(crate) async fn post_at(public: &str, path: &str, body: Value) -> Response {
    let body = body.to_string();
    let own = format!("http://{public}");
    let headers = [
        ("Origin", own.as_str()),
        ("Content-Type", "application/json"),
        ("Content-Length", &body.len().to_string()),
    ];
    let request = http::head("POST", public, path, &headers) + &body;
    http::raw(public, request.as_bytes()).await
}

async fn ticket(gateway: &Gateway, user: &str) -> String {
    let answer = post(gateway, "/demo/tickets", json!({ "user_id": user })).await;
    let answer = answer.json();
    let ticket = answer["ticket"].as_str().expect("a ticket");
    secrets::secret(ticket);
    ticket.to_owned()
}

async fn session(gateway: &Gateway, user: &str, follow: &str) -> Client {
    let ticket = ticket(gateway, user).await;
    let client = Client::builder(gateway, &ticket).query("follow", follow);
    client.open().await
}

/// Without any server, in live mode and in durable mode.
#[tokio::test]
async fn a_page_reaches_topics_and_everybody() {
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let live = Nats::start().await;
    for gateway in [
        demo(),
        Gateway::builder(&live, &redis).argument("--demo"),
        Gateway::durable(&nats, &redis).argument("--demo"),
    ] {
        let gateway = gateway.start().await;
        let mut alice = session(&gateway, "alice", "demo-room").await;
        let mut bob = session(&gateway, "bob", "demo-other").await;
        assert_eq!(alice.welcome()["topics"], json!(["demo-room"]));

        let typing = json!({ "topic": "demo-room", "event": "typing", "data": {"who": "bob"} });
        let answer = post(&gateway, "/demo/topic", typing).await;
        assert_eq!(
            (answer.status, &answer.json()["status"]),
            (200, &json!("dispatched"))
        );
        let everybody = json!({ "event": "news", "data": [1] });
        let answer = post(&gateway, "/demo/broadcast", everybody).await;
        assert_eq!(
            (answer.status, &answer.json()["status"]),
            (200, &json!("dispatched"))
        );

        let event = alice.next_event().await;
        assert_eq!(event["event"], "typing", "{event}");
        assert_eq!(event["topic"], "demo-room", "{event}");
        assert_eq!(event["data"], json!({ "who": "bob" }), "{event}");
        for client in [&mut alice, &mut bob] {
            let event = client.next_event().await;
            assert_eq!(event["event"], "news", "{event}");
            assert_eq!(event["broadcast"], true, "{event}");
        }
    }
}

#[tokio::test]
async fn what_is_wrong_is_refused_in_words() {
    let gateway = demo().start().await;
    for (path, body, words) in [
        ("topic", json!({ "topic": "", "data": 1 }), "a topic is"),
        ("topic", json!({ "topic": " a", "data": 1 }), "a topic is"),
        ("topic", json!({ "data": 1 }), "demo-room"),
        (
            "topic",
            json!({ "topic": "a", "event": "usher.x", "data": 1 }),
            "event is",
        ),
        (
            "broadcast",
            json!({ "event": "a b", "data": 1 }),
            "event is",
        ),
        ("broadcast", json!({ "event": "a" }), "send {"),
    ] {
        let answer = post(&gateway, &format!("/demo/{path}"), body.clone()).await;
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        let message = answer.json()["error"]["message"].to_string();
        assert!(message.contains(words), "{body}: {message}");
    }
}

/// As a real one looks to clients: 1012 with a hint each, a second of 503, and then they are
/// let in, by tickets that they had before.
#[tokio::test]
async fn a_restart_sends_all_away_and_lets_them_in_again() {
    let gateway = demo().start().await;
    let mut clients = Vec::new();
    for user in 0..5 {
        clients.push(session(&gateway, &format!("user-{user}"), "demo-room").await);
    }
    let waiting = ticket(&gateway, "late").await;
    let before = gateway.id();
    for _ in 0..2 {
        let answer = post(&gateway, "/demo/restart", json!({})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["status"], "restarting");
    }
    let refused = Client::try_open(&gateway, &waiting).await;
    let refused = refused.err().expect("it restarts");
    refused.assert_refused(503, "draining");
    for client in &mut clients {
        let goodbye = client.expect_goodbye().await;
        assert_eq!(goodbye["reason"], "drain");
        assert!(goodbye["reconnect_after_ms"].is_u64(), "{goodbye}");
        assert_eq!(client.expect_close().await, (1012, "drain".to_owned()));
    }
    eventually("newcomers are let in again", || async {
        Client::try_open(&gateway, &waiting).await.is_ok()
    })
    .await;
    let mut back = session(&gateway, "user-0", "demo-room").await;
    let message = json!({ "topic": "demo-room", "data": 1 });
    post(&gateway, "/demo/topic", message).await;
    assert_eq!(back.next_data().await, 1);
    assert_eq!(gateway.id(), before, "the process stays");
    assert_eq!(gateway.metric("usher_draining").await, 0.0);
}

/// The end of a restart does not open a gateway that drains.
#[tokio::test]
async fn a_restart_within_a_drain_lets_nobody_in() {
    let gateway = demo().set("drain.delay", "0s").set("drain.window", "20s");
    let mut gateway = gateway.start().await;
    let mut clients = Vec::new();
    for user in 0..10 {
        clients.push(session(&gateway, &format!("user-{user}"), "demo-room").await);
    }
    let ticket = ticket(&gateway, "late").await;
    gateway.terminate();
    gateway.becomes_unready().await;
    post(&gateway, "/demo/restart", json!({})).await;
    // A restart lasts for a second.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1500) {
        let refused = Client::try_open(&gateway, &ticket).await;
        let refused = refused.err().expect("it drains");
        refused.assert_refused(503, "draining");
    }
    gateway.kill();
}
