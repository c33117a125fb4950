//! The bounds of calls: in flight, in time and in size.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::service::{Service, answer, call, caller, fails, ticket, works};
use crate::support::{Client, Gateway, Nats, Redis, eventually, servers};

#[tokio::test]
async fn a_slow_service_delays_only_its_own_calls() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("calls.timeout", "10m")
        .start()
        .await;
    let mut slow = Service::of(&nats, "slow").await;
    let mut quick = Service::of(&nats, "quick").await;
    let mut client = caller(&gateway, &redis, "42").await;
    call(&mut client, "slow", "slow", json!(1)).await;
    let waiting = slow.next().await;
    for _ in 0..5 {
        works(&mut client, &mut quick, "quick").await;
    }
    nats.publish("usher.user.42", "\"an event\"").await;
    assert_eq!(client.next_data().await, "an event");
    assert_eq!(gateway.metric("usher_calls_in_flight").await, 1.0);
    slow.answer(&waiting, "3").await;
    assert_eq!(answer(&mut client).await, ("slow".to_owned(), Ok(json!(3))));
}

#[tokio::test]
async fn one_session_has_so_many_calls_under_way_and_a_gateway_as_well() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("calls.timeout", "10m")
        .set("calls.max_in_flight", "2")
        .set("calls.max_total", "3")
        .start()
        .await;
    let mut service = Service::of(&nats, "a").await;
    let mut first = caller(&gateway, &redis, "42").await;
    let mut second = caller(&gateway, &redis, "43").await;
    let mut waiting = Vec::new();
    for id in ["1", "2"] {
        call(&mut first, id, "a", json!(1)).await;
        waiting.push(service.next().await);
    }
    call(&mut first, "3", "a", json!(1)).await;
    let message = fails(&mut first, "3", "too_many").await;
    assert!(message.contains("calls.max_in_flight"), "{message}");
    call(&mut second, "1", "a", json!(1)).await;
    let third = service.next().await;
    call(&mut second, "2", "a", json!(1)).await;
    let message = fails(&mut second, "2", "too_many").await;
    assert!(message.contains("calls.max_total"), "{message}");
    // Without an id a call holds a permit too, and nobody is told.
    second.send_text(r#"{"call":"a"}"#).await;
    gateway
        .metric_becomes("usher_calls_total{result=\"too_many\"}", 3.0)
        .await;

    // The end of a call makes room, and so does the end of a session.
    service.answer(&waiting[0], "1").await;
    assert_eq!(answer(&mut first).await.0, "1");
    works(&mut first, &mut service, "a").await;
    drop(first);
    gateway
        .metric_becomes("usher_calls_total{result=\"cancelled\"}", 1.0)
        .await;
    gateway.metric_becomes("usher_calls_in_flight", 1.0).await;
    service.answer(&waiting[1], "too late").await;
    works(&mut second, &mut service, "a").await;
    service.answer(&third, "1").await;
    assert_eq!(answer(&mut second).await.0, "1");
}

/// It is more than the gateway writes before NATS reads, and nobody answers it.
#[tokio::test]
async fn calls_go_on_after_a_large_one_without_an_id() {
    let (nats, redis) = tokio::join!(Nats::start_with("max_payload: 4MB\n"), Redis::start());
    let gateway = Gateway::builder(&nats, &redis)
        .set("session.max_frame", "2MiB")
        .start()
        .await;
    let mut service = Service::of(&nats, "a").await;
    let mut client = caller(&gateway, &redis, "42").await;
    let data = "x".repeat(3 << 19);
    let large = json!({"call": "a", "data": data}).to_string();
    client.send_text(&large).await;
    assert_eq!(service.next().await.payload.len(), data.len() + 2);
    works(&mut client, &mut service, "a").await;
}

/// Each is answered once, with its own data.
#[tokio::test]
async fn a_thousand_calls_at_once_are_answered() {
    const CALLS: usize = 1000;
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("calls.timeout", "10m")
        .set("calls.max_in_flight", CALLS.to_string())
        .set("session.frames_per_second", "100000")
        .start()
        .await;
    let service = Service::of(&nats, ">").await.echoes();
    let mut client = caller(&gateway, &redis, "42").await;
    for id in 0..CALLS {
        call(&mut client, &id.to_string(), "a", json!({"call": id})).await;
    }
    let mut answers = BTreeMap::new();
    while answers.len() < CALLS {
        let (id, outcome) = answer(&mut client).await;
        let data = outcome.expect("an answer");
        assert_eq!(data["call"].to_string(), id);
        assert!(answers.insert(id, data).is_none(), "answered twice");
    }
    assert_eq!(
        gateway.metric("usher_calls_total{result=\"ok\"}").await,
        1000.0
    );
    service.abort();
}

async fn sizes(max_payload: usize, max_outgoing: &str) -> (Nats, Redis, Gateway, Client) {
    let nats = Nats::start_with(&format!("max_payload: {max_payload}\n")).await;
    let redis = Redis::start().await;
    let gateway = Gateway::builder(&nats, &redis).set("session.max_outgoing_frame", max_outgoing);
    let gateway = gateway.start().await;
    let client = caller(&gateway, &redis, "42").await;
    (nats, redis, gateway, client)
}

#[tokio::test]
async fn data_that_nats_does_not_take_is_too_large() {
    let (nats, _redis, gateway, mut client) = sizes(8192, "2MiB").await;
    let mut service = Service::of(&nats, "a").await;
    for id in ["1", "2"] {
        call(&mut client, id, "a", json!("x".repeat(9000))).await;
        fails(&mut client, id, "too_large").await;
    }
    // The headers count as well, and what just fits goes through.
    let fits = json!("x".repeat(7900));
    call(&mut client, "3", "a", fits.clone()).await;
    let asked = service.next().await;
    assert_eq!(asked.payload.len(), 7902);
    service.answer(&asked, asked.payload.clone()).await;
    assert_eq!(answer(&mut client).await, ("3".to_owned(), Ok(fits)));
    call(&mut client, "4", "a", json!("x".repeat(8190))).await;
    fails(&mut client, "4", "too_large").await;
    let log = gateway.log();
    assert!(!log.contains("connection to NATS is lost"), "{log}");
}

#[tokio::test]
async fn an_answer_that_no_frame_holds_is_too_large() {
    let (nats, _redis, _gateway, mut client) = sizes(1024 * 1024, "32KiB").await;
    let mut service = Service::of(&nats, "a").await;
    for answer in [vec![b'1'; 40_000], vec![0xff; 30_000], vec![b'"'; 20_000]] {
        call(&mut client, "1", "a", json!(1)).await;
        let asked = service.next().await;
        service.answer(&asked, answer).await;
        let message = fails(&mut client, "1", "too_large").await;
        assert!(message.contains("session.max_outgoing_frame"), "{message}");
    }
    // Near session.max_frame.
    let whole = json!("x".repeat(16_300));
    call(&mut client, "2", "a", whole.clone()).await;
    let asked = service.next().await;
    service.answer(&asked, asked.payload.clone()).await;
    assert_eq!(
        answer(&mut client).await,
        ("2".to_owned(), Ok(Value::clone(&whole)))
    );
    call(&mut client, "3", "a", json!("x".repeat(16_384))).await;
    assert_eq!(client.expect_close().await.0, 1009);
}

/// Answers that are not read count in the session's backlog: one that is above
/// `session.queue_bytes` ends the session, and the client's memory is free.
#[tokio::test]
async fn a_client_that_does_not_read_its_answers_is_a_slow_consumer() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("session.write_timeout", "10m")
        .start()
        .await;
    let _client = hoards(&nats, &redis, &gateway, "42").await;
    let closes = "usher_session_closes_total{reason=\"slow_consumer\"}";
    gateway.metric_becomes(closes, 1.0).await;
    gateway.metric_becomes("usher_calls_in_flight", 0.0).await;
}

/// The bound of all backlogs holds for answers alone, with no message of anybody.
#[tokio::test]
async fn answers_of_all_sessions_keep_to_the_bound_of_all() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("session.write_timeout", "10m")
        .set("session.queue_bytes", "64MiB")
        .set("session.total_queue_bytes", "8MiB")
        .start()
        .await;
    let mut clients = Vec::new();
    for user in ["42", "43"] {
        clients.push(hoards(&nats, &redis, &gateway, user).await);
    }
    let closes = "usher_session_closes_total{reason=\"slow_consumer\"}";
    eventually("the largest goes", || async {
        gateway.metric(closes).await >= 1.0
    })
    .await;
    eventually("the others are within the bound", || async {
        gateway.metric("usher_queued_bytes").await <= f64::from(8 << 20)
    })
    .await;
}

/// In durable mode what the stream can send again makes room for an answer, which it can't.
#[tokio::test]
async fn an_answer_displaces_messages_that_come_again() {
    const MESSAGES: u64 = 200;
    let (nats, redis) = tokio::join!(Nats::keeping(), Redis::start());
    let gateway = Gateway::durable(&nats, &redis)
        .set("calls.timeout", "10m")
        .set("session.queue_messages", "16")
        .set("session.write_timeout", "10m")
        .start()
        .await;
    let mut service = Service::of(&nats, "a").await;
    let ticket = ticket(&redis, "42", &[">"]).await;
    let builder = Client::builder(&gateway, &ticket).small_buffers();
    let mut client = builder.open().await;
    call(&mut client, "1", "a", json!(1)).await;
    let waiting = service.next().await;
    let publisher = nats.client().await;
    for number in 0..MESSAGES {
        let message = json!({"number": number, "rest": "x".repeat(60_000)});
        let sent = publisher.request("usher.user.42", message.to_string().into());
        sent.await.expect("stored");
    }
    eventually("the client is behind", || async {
        gateway.metric("usher_messages_postponed_total").await > 0.0
    })
    .await;
    service.answer(&waiting, "2").await;
    gateway
        .metric_becomes("usher_calls_total{result=\"ok\"}", 1.0)
        .await;
    let (mut numbers, mut replies) = (Vec::new(), 0);
    while numbers.len() < MESSAGES as usize || replies == 0 {
        let frame = client.next_json().await;
        assert!(frame["gap"].is_null(), "{frame}");
        match frame["data"]["number"].as_u64() {
            Some(number) => numbers.push(number),
            None => replies += usize::from(frame["reply"]["data"] == 2),
        }
    }
    assert_eq!(replies, 1);
    assert_eq!(numbers, (0..MESSAGES).collect::<Vec<_>>());
}

/// A client that has asked for more than it is sent at once, and reads nothing.
async fn hoards(nats: &Nats, redis: &Redis, gateway: &Gateway, user: &str) -> Client {
    let mut service = Service::of(nats, user).await;
    let ticket = ticket(redis, user, &[">"]).await;
    let mut client = Client::builder(gateway, &ticket)
        .small_buffers()
        .open()
        .await;
    for id in 0..16 {
        call(&mut client, &id.to_string(), user, json!(1)).await;
    }
    for _ in 0..16 {
        let asked = service.next().await;
        service.answer(&asked, vec![b'1'; 1000 * 1000]).await;
    }
    client
}
