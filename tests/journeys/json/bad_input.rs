//! What is not a good request: a clear answer that says where it is wrong, and nothing done.

use serde_json::json;

use super::{calls, post, post_with, posted, refused};
use crate::support::{Client, http, world};

#[tokio::test]
async fn what_is_wrong_is_said_and_where() {
    let (_nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let deep = format!("{{\"user_id\":\"42\",\n\"data\":{}}}", "[".repeat(100_000));
    let closed = format!(
        "{{\"user_id\":\"42\",\"data\":{}{}}}",
        "[".repeat(129),
        "]".repeat(129)
    );
    let long = format!("{{\"{}\":1}}", "x".repeat(100_000));
    let cases = [
        ("", "line 1, column 1: send a JSON object"),
        (" \n ", "line 2, column 2: send a JSON object"),
        ("[]", "line 1, column 1: send a JSON object"),
        // A reader of such fields could take them in their order.
        (
            "[\"42\",\"e\",\"\",false,1]",
            "line 1, column 1: send a JSON object",
        ),
        ("\u{feff}{}", "line 1, column 1"),
        ("{\"user_id\":\"42\"", "line 1, column 15: EOF"),
        ("{\"user_id\":\"42\",}", "line 1, column 17: trailing comma"),
        (
            "{\"user_id\":\"42\"} {}",
            "line 1, column 18: trailing characters",
        ),
        (
            "{\"user_id\":\"42\",\n \"data\":nul}",
            "line 2, column 12: expected ident",
        ),
        (
            "{\"user_id\":\"42\",\"data\":\"\t\"}",
            "line 1, column 24: control character",
        ),
        (
            "{\"user_id\":\"42\",\"data\":01}",
            "line 1, column 25: invalid number",
        ),
        (
            "{\"user_id\":\"\\ud800\",\"data\":1}",
            "line 1, column 19: unexpected end of hex escape",
        ),
        (
            &deep,
            "line 2, column 135: arrays and objects nest deeper than 128",
        ),
        (&closed, "nest deeper than 128"),
        (
            "{\"user_id\":\"42\",\"userid\":1}",
            "unknown field `userid`, expected one of",
        ),
        (
            "{\"user_id\":\"42\",\"message\":\"1\"}",
            "unknown field `message`",
        ),
        (
            "{\"user_id\":\"42\",\"user_id\":\"43\"}",
            "duplicate field `user_id`",
        ),
        (
            "{\"user_id\":\"42\",\"data\":1,\"data\":2}",
            "duplicate field `data`",
        ),
        ("{\"data\":1}", "missing field `user_id`"),
        (
            "{\"user_id\":42}",
            "line 1, column 13: invalid type: integer `42`, expected a string",
        ),
        (
            "{\"user_id\":null}",
            "invalid type: null, expected a string",
        ),
        ("{\"user_id\":\"42\",\"receipt\":1}", "expected a boolean"),
        ("{\"user_id\":\"42\",\"base64\":null}", "invalid type: null"),
        ("{\"user_id\":\"42\",\"base64\":\"*\"}", "base64 is not"),
        ("{\"user_id\":\"42\",\"base64\":\"_w==\"}", "base64 is not"),
        (
            "{\"user_id\":\"42\",\"data\":1,\"base64\":\"\"}",
            "not both",
        ),
        ("{\"user_id\":\"\"}", "user_id"),
        (
            "{\"user_id\":\"42\",\"event\":\"usher.x\"}",
            "event is not 1–64",
        ),
        (
            "{\"user_id\":\"42\",\"message_id\":\"a b\"}",
            "message_id is not 1–128",
        ),
        (&long, "unknown field `xxx"),
    ];
    let mut wrong = Vec::new();
    for (body, says) in &cases {
        let answer = post(&gateway, "/v1/push", body).await;
        let message = refused(&answer, 400, "bad_request");
        if !message.contains(says) || message.len() > 2000 {
            wrong.push(format!("{says:?} in {message:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let bytes = b"{\"user_id\":\"42\",\"data\":\"\xff\"}";
    let head = [
        ("Content-Type", "application/json"),
        ("Content-Length", "28"),
    ];
    let head = http::head("POST", &gateway.grpc, "/v1/push", &head);
    let length = bytes.len();
    let head = head.replace("28", &length.to_string());
    let answer = http::raw(&gateway.grpc, &[head.as_bytes(), bytes].concat()).await;
    let message = refused(&answer, 400, "bad_request");
    assert!(
        message.contains("line 1, column 25: the body is not UTF-8"),
        "{message}"
    );

    let invalid = calls("PushNotification", "INVALID_ARGUMENT");
    assert_eq!(gateway.metric(&invalid).await, cases.len() as f64 + 1.0);
    // Nothing of all that was published.
    posted(
        &gateway,
        "/v1/push",
        json!({"user_id": "42", "data": "last"}),
    )
    .await;
    assert_eq!(client.next_data().await, "last");
}

#[tokio::test]
async fn a_bad_ticket_is_not_minted() {
    let (_nats, _redis, gateway) = world().await;
    for (body, says) in [
        (json!({}), "missing field `user_id`"),
        (json!({"user_id": "{"}), "user_id"),
        (
            json!({"user_id": "42", "ttl": 0}),
            "ttl is not between 1 s and 300 s",
        ),
        (
            json!({"user_id": "42", "ttl": 301}),
            "ttl is not between 1 s and 300 s",
        ),
        (
            json!({"user_id": "42", "ttl": u64::MAX}),
            "ttl is not between 1 s and 300 s",
        ),
        (
            json!({"user_id": "42", "ttl": -1}),
            "a whole number of seconds",
        ),
        (
            json!({"user_id": "42", "ttl": 1.5}),
            "a whole number of seconds",
        ),
        (
            json!({"user_id": "42", "ttl": "30s"}),
            "a whole number of seconds",
        ),
        (
            json!({"user_id": "42", "ttl": null}),
            "a whole number of seconds",
        ),
        (
            json!({"user_id": "42", "expires_at": 1}),
            "expires_at is not in the future",
        ),
        (
            json!({"user_id": "42", "expires_at": 1_900_000_000_000_u64}),
            "milliseconds",
        ),
        (
            json!({"user_id": "42", "expires_at": u64::MAX}),
            "milliseconds",
        ),
        (
            json!({"user_id": "42", "origin": "app"}),
            "origin is not an origin",
        ),
        (
            json!({"user_id": "42", "message_id": "x"}),
            "unknown field `message_id`",
        ),
    ] {
        let answer = post(&gateway, "/v1/tickets", &body).await;
        let message = refused(&answer, 400, "bad_request");
        assert!(message.contains(says), "{says:?} in {message:?}");
    }
    assert_eq!(gateway.metric(&calls("IssueTicket", "OK")).await, 0.0);
}

/// A batch that is none is refused whole: nothing of it is published.
#[tokio::test]
async fn a_bad_batch_publishes_nothing() {
    let (_nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let push = "{\"user_id\":\"42\",\"data\":1}";
    let many = |count| vec![push; count].join(",");
    for (body, says) in [
        (
            format!("{{\"pushes\":[{}]}}", many(0)),
            "1–1000 entries, not 0",
        ),
        (
            format!("{{\"pushes\":[{}]}}", many(1001)),
            "at most 1000 entries",
        ),
        (format!("{{\"pushes\":[{}", many(500)), "EOF"),
        (
            format!("{{\"pushes\":[{},nul]}}", many(500)),
            "line 1, column 13015: expected ident",
        ),
        (
            format!("{{\"pushes\":[{}],\"x\":1}}", many(5)),
            "unknown field `x`",
        ),
        (format!("[{}]", many(5)), "send a JSON object"),
        ("{\"pushes\":{}}".to_owned(), "an array of 1–1000 entries"),
        ("{\"pushes\":null}".to_owned(), "an array of 1–1000 entries"),
        ("{}".to_owned(), "missing field `pushes`"),
    ] {
        let answer = post(&gateway, "/v1/push/batch", body).await;
        let message = refused(&answer, 400, "bad_request");
        assert!(message.contains(says), "{says:?} in {message:?}");
    }
    posted(
        &gateway,
        "/v1/push",
        json!({"user_id": "42", "data": "last"}),
    )
    .await;
    assert_eq!(client.next_data().await, "last");
}

#[tokio::test]
async fn a_bad_question_is_not_asked() {
    let (_nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    for (path, body, says) in [
        ("presence", json!({}), "missing field `user_ids`"),
        ("presence", json!({"user_ids": []}), "1–1000 entries, not 0"),
        (
            "presence",
            json!({"user_ids": vec!["42"; 1001]}),
            "at most 1000 entries",
        ),
        (
            "presence",
            json!({"user_ids": ["42", ""]}),
            "user_ids has at index 1",
        ),
        ("presence", json!({"user_ids": [42]}), "expected a string"),
        (
            "presence",
            json!({"user_ids": "42"}),
            "an array of 1–1000 entries",
        ),
        (
            "disconnect",
            json!({"reason": "x"}),
            "missing field `user_id`",
        ),
        ("disconnect", json!({"user_id": ""}), "user_id"),
        (
            "disconnect",
            json!({"user_id": "42", "reason": "x".repeat(65)}),
            "64 bytes",
        ),
        (
            "disconnect",
            json!({"user_id": "42", "reconect": true}),
            "unknown field `reconect`",
        ),
    ] {
        let answer = post(&gateway, &format!("/v1/{path}"), &body).await;
        let message = refused(&answer, 400, "bad_request");
        assert!(message.contains(says), "{says:?} in {message:?}");
    }
    posted(
        &gateway,
        "/v1/push",
        json!({"user_id": "42", "data": "here"}),
    )
    .await;
    assert_eq!(client.next_data().await, "here");
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let (_nats, _redis, gateway) = world().await;
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v1/push/",
        "//v1/push",
        "/v1//push",
        "/v1/Push",
        "/v1/push%2f",
        "/v1/topics/news/more",
        "/v1/users/42",
        "/usher.v1.Notification/PushNotification",
        "/grpc.health.v1.Health/Check",
    ] {
        let answer = post(&gateway, path, "{}").await;
        refused(&answer, 404, "not_found");
    }
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"] {
        let answer = http::request(method, &gateway.grpc, "/v1/push", &[]).await;
        refused(&answer, 405, "method_not_allowed");
        assert_eq!(answer.header("allow"), Some("POST"));
    }
    let answer = post(&gateway, "/v1/openapi.json", "{}").await;
    refused(&answer, 405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "",
        "application/grpc",
        "application/json; charset=utf-16",
    ] {
        let headers = [("Content-Type", kind)];
        let answer = post_with(&gateway, "/v1/push", &headers, "{\"user_id\":\"42\"}").await;
        refused(&answer, 415, "unsupported_media_type");
    }
    let headers = [("Content-Encoding", "gzip")];
    let answer = post_with(&gateway, "/v1/push", &headers, "{\"user_id\":\"42\"}").await;
    refused(&answer, 415, "unsupported_media_type");
    for keys in [
        &[("Idempotency-Key", "")][..],
        &[("Idempotency-Key", "a"), ("Idempotency-Key", "a")],
    ] {
        let answer = post_with(&gateway, "/v1/push", keys, "{\"user_id\":\"42\"}").await;
        assert!(refused(&answer, 400, "bad_request").contains("Idempotency-Key"));
    }
    assert_eq!(gateway.metric(&calls("PushNotification", "OK")).await, 0.0);
}
