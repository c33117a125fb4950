//! What a client says, and what it is answered.

use serde_json::{Value, json};

use crate::support::{Client, Frame, Gateway, Nats, Redis};

/// Says something, and reads the answer.
pub(crate) async fn ask(client: &mut Client, said: Value) -> Value {
    client.send_text(&said.to_string()).await;
    loop {
        let Frame::Text(text) = client.next_frame().await else {
            panic!("no answer to {said}");
        };
        let frame: Value = serde_json::from_str(&text).expect("JSON");
        if frame["event"].is_null() {
            return frame;
        }
    }
}

/// Asserts that an answer is an error, and returns its message.
pub(crate) fn is_error(answer: &Value, id: Option<&str>, code: &str) -> String {
    let error = &answer["error"];
    assert_eq!(error["code"], code, "{answer}");
    assert_eq!(error["id"].as_str(), id, "{answer}");
    error["message"].as_str().expect("a message").to_owned()
}

#[tokio::test]
async fn a_ping_is_answered_at_once() {
    let (nats, redis) = tokio::join!(Nats::start(), Redis::start());
    let gateway = Gateway::start(&nats, &redis).await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    for _ in 0..3 {
        let answer = ask(&mut client, json!({ "ping": {} })).await;
        assert_eq!(answer, json!({ "ping": {} }), "live mode has no proofs");
    }
    let answer = ask(&mut client, json!({ "ping": 1, "id": "a" })).await;
    is_error(&answer, Some("a"), "bad_request");
    let answer = ask(&mut client, json!({ "ping": {}, "id": 1 })).await;
    is_error(&answer, None, "bad_request");
}

#[tokio::test]
async fn a_ping_repeats_the_last_proof() {
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let gateway = Gateway::durable(&nats, &redis).start().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let answer = ask(&mut client, json!({ "ping": {} })).await;
    assert_eq!(answer, json!({ "ping": {} }), "none was sent");

    let since = format!(
        "{}.0.0.0",
        client.welcome()["epoch"].as_str().expect("epoch")
    );
    let ticket = redis.ticket("42").await;
    let mut client = Client::builder(&gateway, &ticket)
        .since(&since)
        .open()
        .await;
    let live = client.next_json().await;
    let answer = ask(&mut client, json!({ "ping": {} })).await;
    assert_eq!(answer, json!({ "ping": live["live"] }), "{live}");
}

#[tokio::test]
async fn an_unknown_command_is_named_once() {
    let (nats, redis) = tokio::join!(Nats::start(), Redis::start());
    let gateway = Gateway::start(&nats, &redis).await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let answer = ask(&mut client, json!({ "follows": ["a"] })).await;
    let message = is_error(&answer, None, "unknown_command");
    assert!(message.contains("follows"), "{message}");
    client.send_text("{\"again\":1}").await;
    // A raw session has no frames of its own.
    let ticket = redis.ticket("43").await;
    let raw = Client::builder(&gateway, &ticket).protocols(&["usher.raw.v1"]);
    let mut raw = raw.open().await;
    raw.send_text("{\"follow\":1}").await;
    for (user, client) in [("42", &mut client), ("43", &mut raw)] {
        nats.publish(&format!("usher.user.{user}"), "1").await;
        assert!(client.next_text().await.contains('1'), "{user}");
    }
}
