//! `usher push`: one message, lines, and what became of them.

use std::{collections::BTreeSet, process::Stdio, time::Duration};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    event,
    run::{Running, bare, command, run, to_end},
};
use crate::support::{Client, Gateway, process::bounded, servers, wait::PATIENCE, world};

#[tokio::test]
async fn a_push_says_what_became_of_it() {
    let (_nats, redis, gateway) = world().await;
    let receipt = [
        "push",
        "42",
        "{\"a\":1}",
        "--receipt",
        "--event",
        "order.completed",
    ];
    let offline = run(&gateway, &receipt).await;
    assert_eq!(offline.json(), json!({"status": "offline", "sessions": 0}));

    let mut one = Client::open(&gateway, &redis.ticket("42").await).await;
    let mut other = Client::open(&gateway, &redis.ticket("42").await).await;
    let queued = run(&gateway, &receipt).await;
    assert_eq!(queued.json(), json!({"status": "queued", "sessions": 2}));
    for client in [&mut one, &mut other] {
        let event = json!({"event": "order.completed", "data": {"a": 1}});
        assert_eq!(client.next_event().await, event);
    }
    let dispatched = run(&gateway, &["push", "42", "-5"]).await;
    assert_eq!(dispatched.json(), json!({"status": "dispatched"}));
    assert_eq!(one.next_event().await, event(-5));
}

#[tokio::test]
async fn errors_name_the_gateway_and_what_to_do() {
    let (mut nats, mut redis, gateway) = world().await;
    // The wrong listener: it speaks another protocol.
    let wrong = bare(&["push", "42", "x", "--grpc", &gateway.public]);
    to_end(wrong, Vec::new())
        .await
        .failed(&[&gateway.public, "grpc.listen"]);
    let wrong = format!("http://{}/nowhere", gateway.public);
    let ticket = redis.ticket("42").await;
    let wrong = bare(&["listen", "--ticket", &ticket, "--public", &wrong]);
    let ran = to_end(wrong, Vec::new()).await;
    ran.failed(&["404", "/nowhere/ws", "public.path_prefix"]);
    assert!(!ran.err.contains(&ticket), "{}", ran.err);

    let ran = run(&gateway, &["listen", "--ticket", "never-issued-by-anybody"]).await;
    ran.failed(&["401", "ticket_unknown", "usher ticket"]);

    nats.kill();
    gateway
        .metric_becomes("usher_nats_connected{connection=\"interest\"}", 0.0)
        .await;
    let ran = run(&gateway, &["push", "42", "x"]).await;
    ran.failed(&[&gateway.grpc, "NATS is away", "usher check"]);
    redis.kill();
    let ran = run(&gateway, &["ticket", "42"]).await;
    ran.failed(&[&gateway.grpc, "Redis is away", "usher check"]);
}

/// 5,000 lines, as fast as it goes, and each in its place on the screen.
#[tokio::test]
async fn lines_arrive_in_their_order() {
    const LINES: u64 = 5_000;
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("session.queue_messages", "20000")
        .start()
        .await;
    let mut listener = Running::listen(&gateway, &["--user", "42"]).await;
    let input: String = (0..LINES).map(|number| format!("{number}\n")).collect();
    let pushing = to_end(command(&gateway, &["push", "42", "-"]), input.into_bytes());
    let listening = async {
        for number in 0..LINES {
            assert_eq!(
                listener.line().await,
                format!("{{\"event\":\"message\",\"data\":{number}}}")
            );
        }
    };
    let (pushed, ()) = tokio::join!(pushing, listening);
    let summary = pushed.json();
    assert_eq!(summary["messages"], LINES);
    let seconds = summary["seconds"].as_f64().expect("a number");
    let rate = summary["messages_per_second"].as_f64().expect("a number");
    assert!(
        (rate * seconds / LINES as f64 - 1.0).abs() < 0.01,
        "{summary}"
    );
    assert!(summary["queued"].is_null(), "nobody asked: {summary}");
}

#[tokio::test]
async fn unordered_lines_all_arrive_and_are_counted() {
    const LINES: u64 = 2_000;
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("session.queue_messages", "20000")
        .start()
        .await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let input: String = (0..LINES).map(|number| format!("{number}\n")).collect();
    let push = command(&gateway, &["push", "42", "-", "--unordered", "--receipt"]);
    let summary = to_end(push, input.into_bytes()).await.json();
    // On a machine that stalls a receipt may come later than anybody waits.
    let count = |key: &str| summary[key].as_u64().expect("a number");
    assert_eq!(count("messages"), LINES, "{summary}");
    assert_eq!(count("queued") + count("offline"), LINES, "{summary}");
    assert!(count("queued") > 0, "{summary}");
    let mut arrived = BTreeSet::new();
    for _ in 0..LINES {
        arrived.insert(client.next_data().await.as_u64().expect("a number"));
    }
    assert_eq!(arrived.len() as u64, LINES);

    let push = command(&gateway, &["push", "nobody", "-", "--receipt"]);
    let summary = to_end(push, b"1\n2".to_vec()).await.json();
    assert_eq!(
        (&summary["queued"], &summary["offline"]),
        (&json!(0), &json!(2))
    );
}

#[tokio::test]
async fn lines_are_any_bytes_and_the_first_that_fails_is_named() {
    let (_nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    // NATS takes no message of more than 1 MiB.
    let too_long = vec![b'x'; (1 << 20) + 1];
    for how in [
        &["push", "42", "-"][..],
        &["push", "42", "-", "--unordered"],
    ] {
        let input = [b"\"one\"\r\n\n\xff\n", &too_long[..], b"\nafter"].concat();
        let ran = to_end(command(&gateway, how), input).await;
        ran.failed(&["line 4: ", "1048576"]);
        let summary: Value = serde_json::from_str(&ran.out).expect("a summary all the same");
        let ordered = how.len() == 3;
        if ordered {
            assert_eq!(summary["messages"], 3);
            assert_eq!(client.next_event().await, event("one"));
            assert_eq!(client.next_event().await, event(""));
            assert_eq!(
                client.next_event().await,
                json!({"event": "message", "base64": "/w=="})
            );
            client.quiet_for(Duration::from_millis(300)).await;
        }
    }
}

#[tokio::test]
async fn a_pusher_that_is_interrupted_says_how_far_it_got() {
    let (_nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let mut push = command(&gateway, &["push", "42", "-"]);
    let child = push
        .stdin(reader)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("usher runs");
    std::io::Write::write_all(&mut writer, b"1\n2\n3").expect("written");
    for number in 1..=2 {
        assert_eq!(client.next_data().await, number);
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::INT).expect("it runs");
    let output = bounded("usher", pid, PATIENCE, move || child.wait_with_output())
        .await
        .expect("usher ends");
    drop(writer);
    assert_eq!(output.status.code(), Some(1));
    let summary: Value = serde_json::from_slice(&output.stdout).expect("a summary");
    assert_eq!(summary["messages"], 2);
    assert!(String::from_utf8_lossy(&output.stderr).contains("interrupted"));
}

/// A connection that the gateway ends in good order costs no line.
#[tokio::test]
async fn lines_outlive_a_connection() {
    const LINES: u64 = 2_000;
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("grpc.max_connection_age", "50ms")
        .set("session.queue_messages", "20000")
        .start()
        .await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let input: String = (0..LINES).map(|number| format!("{number}\n")).collect();
    let pushed = to_end(command(&gateway, &["push", "42", "-"]), input.into_bytes()).await;
    assert_eq!(pushed.json()["messages"], LINES);
    for number in 0..LINES {
        assert_eq!(client.next_data().await, number);
    }
}
