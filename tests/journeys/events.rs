//! Server-sent events: the same session as over WebSocket, on an answer that lasts.

mod endings;
mod faults;
mod refusals;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::support::{
    Client, Events, Gateway, Nats, eventually, http, secret, servers, sse::Item, world,
};

/// Publishes bytes of any kind.
async fn publish(nats: &Nats, subject: &str, payload: &[u8]) {
    let client = nats.client().await;
    client
        .publish(subject.to_owned(), payload.to_vec().into())
        .await
        .expect("published");
    client.flush().await.expect("flushed");
}

#[tokio::test]
async fn a_message_arrives_exactly_as_a_websocket_has_it() {
    let (nats, redis, gateway) = world().await;
    let mut events = Events::open(&gateway, &redis.ticket("42").await).await;
    let mut socket = Client::open(&gateway, &redis.ticket("42").await).await;
    for header in ["welcome", "session", "user", "gateway", "ping", "resume"] {
        let said = &events.welcome()[header];
        assert_eq!(
            said.is_null(),
            socket.welcome()[header].is_null(),
            "{header}"
        );
    }
    assert_eq!(events.welcome()["user"], "42");
    assert_eq!(events.welcome()["resume"], "none");

    for payload in [
        &b"{\"order\": 123}"[..],
        b"",
        b"hello",
        "κόσμος \u{2028} \u{85}".as_bytes(),
        b": no comment\nid: 7\nevent: x\n\ndata: no data",
        b"\xff\x00\r\n",
        b"\xef\xbb\xbf1",
        b" 1",
    ] {
        publish(&nats, "usher.user.42", payload).await;
        assert_eq!(events.next_text().await, socket.next_text().await);
    }
    publish(&nats, "usher.broadcast", b"[1]").await;
    let both = (events.next_text().await, socket.next_text().await);
    assert_eq!(both.0, both.1);
    assert_eq!(both.0, r#"{"event":"message","broadcast":true,"data":[1]}"#);
    gateway
        .metric_becomes(r#"usher_messages_delivered_total{transport="sse"}"#, 9.0)
        .await;
    gateway
        .metric_becomes(
            r#"usher_messages_delivered_total{transport="websocket"}"#,
            9.0,
        )
        .await;
}

#[tokio::test]
async fn line_breaks_of_a_payload_are_spread_over_lines() {
    let (nats, redis, gateway) = world().await;
    let mut events = Events::open(&gateway, &redis.ticket("42").await).await;
    for (published, seen) in [
        ("{\n  \"a\": 1\n}", "{\n  \"a\": 1\n}"),
        ("[1,\r\n2,\r3]\r\n", "[1,\n2,\n3]\n"),
        ("\n\n1\n\n", "\n\n1\n\n"),
        ("\r\r1\r", "\n\n1\n"),
    ] {
        nats.publish("usher.user.42", published).await;
        let frame = format!(r#"{{"event":"message","data":{seen}}}"#);
        assert_eq!(events.next_text().await, frame);
    }
}

#[tokio::test]
async fn large_messages_arrive_whole_and_in_order() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis).set("session.queue_bytes", "32MiB");
    let gateway = gateway.start().await;
    let mut events = Events::open(&gateway, &redis.ticket("42").await).await;
    let large = "x".repeat(700_000);
    for number in 0..20 {
        nats.publish("usher.user.42", &json!([number, large]).to_string())
            .await;
    }
    for number in 0..20 {
        assert_eq!(events.next_data().await, json!([number, large]));
    }
}

#[tokio::test]
async fn the_answer_is_a_stream_that_nobody_keeps() {
    let (_nats, redis, gateway) = world().await;
    let events = Events::open(&gateway, &redis.ticket("42").await).await;
    let is = |name, value| {
        let answer = &events.response;
        assert_eq!(answer.header(name), Some(value), "{answer:?}");
    };
    is("content-type", "text/event-stream");
    is("cache-control", "no-store, no-transform");
    is("x-accel-buffering", "no");
    is("connection", "close");
    is("vary", "Origin");
    for absent in [
        "content-length",
        "transfer-encoding",
        "access-control-allow-origin",
    ] {
        assert_eq!(events.response.header(absent), None, "{absent}");
    }
    assert!(events.response.header("date").is_some());
}

#[tokio::test]
async fn a_ticket_can_be_in_a_header() {
    let (_nats, redis, gateway) = world().await;
    let ticket = format!("Usher-Ticket {}", redis.ticket("42").await);
    let builder = Events::nobody(&gateway).header("Authorization", &ticket);
    assert_eq!(builder.open().await.welcome()["user"], "42");
}

#[tokio::test]
async fn a_ticket_opens_one_door_whichever_it_is() {
    let (_nats, redis, gateway) = world().await;
    let ticket = redis.ticket("42").await;
    let _events = Events::open(&gateway, &ticket).await;
    Client::builder(&gateway, &ticket)
        .refused()
        .await
        .assert_refused(401, "ticket_unknown");
    let ticket = redis.ticket("42").await;
    let _socket = Client::open(&gateway, &ticket).await;
    Events::builder(&gateway, &ticket)
        .refused()
        .await
        .assert_refused(401, "ticket_unknown");
}

/// Live mode keeps nothing, so whoever asks is told that there may be a gap.
#[tokio::test]
async fn a_position_is_answered_with_a_gap() {
    let (_nats, redis, gateway) = world().await;
    let resume = async |since: Option<&str>, id: Option<&str>| {
        let ticket = redis.ticket("42").await;
        let mut builder = Events::builder(&gateway, &ticket);
        if let Some(since) = since {
            builder = builder.since(since);
        }
        if let Some(id) = id {
            builder = builder.header("Last-Event-ID", id);
        }
        builder.open().await.welcome()["resume"].clone()
    };
    assert_eq!(resume(None, None).await, "none");
    assert_eq!(resume(None, Some("")).await, "none");
    assert_eq!(resume(Some("k3f9.121"), None).await, "gap");
    assert_eq!(resume(Some("0"), Some("")).await, "gap");
    assert_eq!(resume(None, Some("k3f9.121")).await, "gap");
    // What the browser says by itself is newer than what stands in the URL.
    assert_eq!(resume(Some("nonsense"), Some("k3f9.121")).await, "gap");
}

#[tokio::test]
async fn a_stream_lives_by_heartbeats_and_pings() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("session.ping_interval", "200ms")
        // Nothing is ever heard of such a client, and that is no reason to end it;
        // nor is what a handshake may take.
        .set("session.idle_timeout", "1s")
        .set("public.handshake_timeout", "500ms")
        .start()
        .await;
    let mut quiet = Events::open(&gateway, &redis.ticket("42").await).await;
    assert_eq!(quiet.welcome()["ping"], 0.2);
    let (mut heartbeats, mut pings) = (0, 0);
    while heartbeats < 15 || pings < 10 {
        match quiet.next().await {
            Item::Comment(_) => heartbeats += 1,
            Item::Event { data, .. } => {
                assert_eq!(data, r#"{"ping":{}}"#);
                pings += 1;
            }
            Item::End => panic!("over after {heartbeats} heartbeats"),
        }
    }
    nats.publish("usher.user.42", "1").await;
    assert_eq!(quiet.next_data().await, 1);
    gateway
        .metric_becomes("usher_pending_connections", 0.0)
        .await;
    let cut = gateway.metric("usher_connections_cut_total").await;
    assert_eq!(cut, 0.0, "a connection that a session took is not cut off");
}

/// A ping is for those who got nothing else; a heartbeat comes all the same.
#[tokio::test]
async fn a_busy_stream_gets_heartbeats_and_no_pings() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis).set("session.ping_interval", "2s");
    let gateway = gateway.start().await;
    let mut busy = Events::open(&gateway, &redis.ticket("42").await).await;
    let publisher = nats.client().await;
    let steady = tokio::spawn(async move {
        loop {
            let published = publisher.publish("usher.user.42", "1".into()).await;
            published.expect("published");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut heartbeats = 0;
    while heartbeats < 3 {
        match busy.next().await {
            Item::Comment(_) => heartbeats += 1,
            Item::Event { data, .. } => assert!(!data.starts_with("{\"ping\":"), "{data}"),
            Item::End => panic!("the stream goes on"),
        }
    }
    steady.abort();
}

#[tokio::test]
async fn whoever_leaves_is_subscribed_no_more() {
    let (nats, redis, gateway) = world().await;
    let subject = "usher.user.42";
    let first = Events::open(&gateway, &redis.ticket("42").await).await;
    let second = Client::open(&gateway, &redis.ticket("42").await).await;
    assert_eq!(
        nats.subscriptions(subject).await,
        1,
        "welcome means subscribed"
    );
    assert_eq!(
        gateway.metric(r#"usher_sessions{transport="sse"}"#).await,
        1.0
    );
    assert_eq!(gateway.metric("usher_sessions").await, 2.0);
    assert_eq!(gateway.status().await["sessions"], 2);
    drop(second);
    gateway.metric_becomes("usher_sessions", 1.0).await;
    assert_eq!(nats.subscriptions(subject).await, 1, "one is still here");
    drop(first);
    eventually("nothing is held", || async {
        nats.subscriptions(subject).await == 0
    })
    .await;
    gateway.metric_becomes("usher_users", 0.0).await;
    gateway
        .metric_becomes(r#"usher_session_closes_total{reason="client_left"}"#, 1.0)
        .await;
}

#[tokio::test]
async fn what_a_client_sends_after_its_request_is_ignored() {
    let (nats, redis, gateway) = world().await;
    let mut events = Events::open(&gateway, &redis.ticket("42").await).await;
    let another = format!(
        "GET /events?ticket={} HTTP/1.1\r\n\r\n",
        redis.ticket("1").await
    );
    events.send(another.as_bytes()).await;
    events.send(&[0xFF; 1_000]).await;
    nats.publish("usher.user.42", "1").await;
    assert_eq!(events.next_data().await, 1);
    assert_eq!(gateway.metric("usher_sessions").await, 1.0);
}

#[tokio::test]
async fn an_old_client_is_served_too() {
    let (nats, redis, gateway) = world().await;
    let path = format!("/events?ticket={}", redis.ticket("42").await);
    let mut old = TcpStream::connect(&gateway.public).await.expect("accepted");
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut old, request.as_bytes())
        .await
        .expect("sent");
    let mut buffer = Vec::new();
    let answer = http::read_head(&mut old, &mut buffer).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    nats.publish("usher.user.42", "\"seen by the old\"").await;
    let seen = |buffer: &[u8]| String::from_utf8_lossy(buffer).contains("seen by the old");
    while !seen(&buffer) {
        let read = tokio::io::AsyncReadExt::read_buf(&mut old, &mut buffer).await;
        assert!(read.is_ok_and(|length| length > 0));
    }
}

#[tokio::test]
async fn a_path_prefix_is_before_this_path_too() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis).set("public.path_prefix", "/push");
    let gateway = gateway.start().await;
    let ticket = secret(&redis.ticket("42").await);
    let path = format!("/events?ticket={ticket}");
    http::get(&gateway.public, &path, &[])
        .await
        .assert_refused(404, "not_found");
    let answer = http::get(&gateway.public, "/push/events", &[]).await;
    answer.assert_refused(401, "ticket_missing");
    assert_ne!(answer.json(), Value::Null);
    assert!(redis.exists(&ticket).await);
}
