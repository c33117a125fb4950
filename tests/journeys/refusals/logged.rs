//! What an operator reads of refused clients.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::support::{Client, Gateway, client::Builder, eventually, secret, servers};

fn lines(gateway: &Gateway, text: &str) -> Vec<Value> {
    let log = gateway.log();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let has = |line: &Value| {
        line["message"]
            .as_str()
            .is_some_and(|said| said.contains(text))
    };
    lines.filter(has).collect()
}

/// The last line of a refusal, once there are so many.
async fn line(gateway: &Gateway, number: usize) -> Value {
    eventually("it is in the log", || async {
        lines(gateway, "a client is refused").len() >= number
    })
    .await;
    lines(gateway, "a client is refused").swap_remove(number - 1)
}

/// The reason and the origin, and of all that a client sent nothing else.
#[tokio::test]
async fn a_refusal_has_its_reason_and_its_origin() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::start(&nats, &redis).await;
    let used = redis.ticket("42").await;
    let client = Client::open(&gateway, &used).await;
    let own = format!("http://{}", gateway.public);
    let bound = r#"{"user_id":"42","origin":"https://app.example.com"}"#;
    let bound = redis.ticket_value(bound).await;
    let at = |ticket: &str| Client::builder(&gateway, ticket);
    let refused: [(Builder, &str, Option<&str>); 7] = [
        (at(&used), "ticket_unknown", None),
        (at(&used).origin(&own), "ticket_unknown", Some(&own)),
        (
            at(&used).origin("https://evil.example"),
            "origin_denied",
            Some("https://evil.example"),
        ),
        (at(&used).origin("null"), "origin_denied", Some("null")),
        (
            at(&used).origin(&format!("https://evil.example/?ticket={used}")),
            "origin_denied",
            Some("not an origin"),
        ),
        (at(&bound).origin(&own), "ticket_binding", Some(&own)),
        (at(&used).protocols(&["chat"]), "protocol_unknown", None),
    ];
    for (number, (builder, reason, origin)) in refused.into_iter().enumerate() {
        builder.refused().await;
        let line = line(&gateway, number + 1).await;
        assert_eq!(line["level"], "INFO", "{line}");
        assert_eq!(line["reason"], reason, "{line}");
        assert_eq!(line["origin"].as_str(), origin, "{line}");
        // What an origin is compared with where none are listed.
        let host = (reason == "origin_denied").then_some(gateway.public.as_str());
        assert_eq!(line["host"].as_str(), host, "{line}");
    }
    drop(client);
    let log = gateway.log();
    assert!(!log.contains(&used) && !log.contains(&bound), "{log}");
}

/// Ten lines a second, whatever comes; what is left out is counted.
#[tokio::test]
async fn a_flood_of_refusals_is_no_flood_of_lines() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::start(&nats, &redis).await;
    let ticket = secret("a-ticket-that-nobody-issued");
    let refuse = || async { Client::builder(&gateway, &ticket).refused().await };
    let began = Instant::now();
    for _ in 0..150 {
        refuse().await.assert_refused(401, "ticket_unknown");
    }
    let seconds = began.elapsed().as_secs() as usize + 2;
    let count = || {
        let lines = lines(&gateway, "a client is refused");
        let left_out = lines.iter().filter_map(|line| line["left_out"].as_u64());
        (lines.len(), left_out.sum::<u64>() as usize)
    };
    assert!(count().0 <= 10 * seconds, "{:?}", count());
    let mut refused = 150;
    // The next line says how many had none, once the second is over.
    eventually("all are counted", || {
        refused += 1;
        async {
            refuse().await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            let (lines, left_out) = count();
            lines + left_out >= 150
        }
    })
    .await;
    let (lines, left_out) = count();
    assert!(lines + left_out <= refused, "{lines} {left_out} {refused}");
    assert!(
        left_out > 0 || seconds > 15,
        "a machine that is not very slow"
    );
}

/// At debug there is more: each session's beginning and end.
#[tokio::test]
async fn sessions_are_told_at_debug() {
    let (nats, redis) = servers().await;
    for (filter, told) in [("info", 0), ("debug", 1)] {
        let gateway = Gateway::builder(&nats, &redis).set("log.filter", filter);
        let gateway = gateway.start().await;
        let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
        let session = client.welcome()["session"].clone();
        client.close(1000).await;
        let closes = r#"usher_session_closes_total{reason="client_left"}"#;
        gateway.metric_becomes(closes, 1.0).await;
        eventually("both lines are there, or none", || async {
            lines(&gateway, "a session closes").len() == told
        })
        .await;
        let opened = lines(&gateway, "a session opens");
        assert_eq!(opened.len(), told, "{}", gateway.log());
        for line in opened.iter().chain(&lines(&gateway, "a session closes")) {
            assert_eq!(line["session"], session, "{line}");
            assert_eq!(line["user"], "42", "{line}");
        }
    }
}
