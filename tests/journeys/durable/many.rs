//! Everybody has missed something at once, and is read for together.

use std::time::Duration;

use async_nats::Client as Publisher;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{position, proven, resume, store};
use crate::support::{Client, Gateway, Nats, Redis, network::Network};

const CLIENTS: usize = 300;
/// Messages that are kept of one user.
const KEPT: usize = 40;
/// Who missed more than that, who more than is brought at once, and who nothing.
const LOST: usize = 0;
const LONG: usize = 1;
const NONE: usize = 2;
/// Messages that come to everybody but the first one while they catch up.
const LIVE: usize = 5;

/// How many messages a client misses.
fn missed(client: usize) -> usize {
    match client {
        LOST => KEPT + 5,
        LONG => KEPT - 10,
        NONE => 0,
        _ => 1 + client % 5,
    }
}

async fn publish(nats: &Publisher, client: usize, data: Value) {
    let subject = format!("usher.user.{client}");
    let published = nats.publish(subject, data.to_string().into()).await;
    published.expect("published");
}

/// Publishes what everybody misses, in turns, and a broadcast between.
async fn store_missed(nats: &Publisher) {
    // Of a publisher who does not write the id as a token: it is nobody's.
    store(nats, "usher.user.bob@localhost", 0).await;
    for number in 0..missed(LOST) {
        for client in (0..CLIENTS).filter(|client| number < missed(*client)) {
            publish(nats, client, json!(number)).await;
        }
        // Whatever was published before it is stored then.
        let subject = if number == 2 {
            "broadcast"
        } else {
            "user.other"
        };
        store(nats, &format!("usher.{subject}"), "\"all\"").await;
    }
}

/// Publishes what comes while they catch up.
async fn store_live(nats: &Publisher) {
    for number in 0..LIVE {
        for client in (0..CLIENTS).filter(|client| *client != LOST) {
            publish(nats, client, json!(100 + number)).await;
        }
        store(nats, "usher.user.other", 0).await;
        sleep(Duration::from_millis(20)).await;
    }
}

/// All that a client is to get.
fn expected(client: usize) -> Vec<Value> {
    let missed = missed(client);
    let first = missed.saturating_sub(KEPT);
    let mut data: Vec<_> = (first..missed).map(|number| json!(number)).collect();
    data.insert(missed.min(3) - first.min(3), json!("all"));
    if client != LOST {
        data.extend((0..LIVE).map(|number| json!(100 + number)));
    }
    data
}

/// Reads all that a client is to get; whether it was told of a gap before.
async fn read(client: &mut Client, expected: &[Value]) -> bool {
    let (mut gap, mut data, mut seq) = (false, Vec::new(), 0);
    while data.len() < expected.len() {
        let mut frame = client.next_json().await;
        if frame["gap"].is_object() {
            assert_eq!(
                (&frame["gap"]["reason"], &data[..]),
                (&json!("retention"), &[][..])
            );
            gap = true;
        } else if frame["event"].is_string() {
            let before = std::mem::replace(&mut seq, frame["seq"].as_u64().expect("a number"));
            assert!(before < seq, "{before}, then {frame}");
            data.push(frame["data"].take());
        }
    }
    assert_eq!(data, expected);
    gap
}

/// Nothing else was on its way to anybody.
async fn nothing_more(nats: &Publisher, clients: &mut [Client]) {
    for (client, session) in clients.iter_mut().enumerate() {
        publish(nats, client, json!("end")).await;
        loop {
            let frame = session.next_json().await;
            if !frame["live"].is_object() {
                assert_eq!(frame["data"], "end", "{client}: {frame}");
                break;
            }
        }
    }
}

/// How many were read for together.
async fn scanned(gateway: &Gateway) -> f64 {
    let way = "usher_round_sessions_total{way=\"scan\"}";
    gateway.metric(way).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_gets_what_is_its_own() {
    let (nats, redis) = tokio::join!(Nats::keeping(), Redis::start());
    let network = Network::to(&nats.url()).await;
    let gateway = Gateway::durable(&nats, &redis)
        .set("nats.url", format!("nats://{}", network.address()))
        .set("durable.max_messages_per_channel", KEPT.to_string())
        .set("session.queue_messages", "16");
    let gateway = gateway.start().await;
    let publisher = nats.client().await;
    // What the first one loses must not be the stream's beginning.
    store(&publisher, "usher.user.first", 0).await;
    let opening = (0..CLIENTS).map(async |client| {
        let ticket = redis.ticket(&client.to_string()).await;
        Client::open(&gateway, &ticket).await
    });
    let mut clients = join_all(opening).await;

    // NATS is away, and comes back.
    network.cut();
    store_missed(&publisher).await;
    gateway
        .metric_becomes("usher_nats_connected{connection=\"interest\"}", 0.0)
        .await;
    network.mend();
    let reading = clients
        .iter_mut()
        .enumerate()
        .map(async |(client, session)| {
            let gap = read(session, &expected(client)).await;
            assert_eq!(gap, client == LOST, "{client}");
        });
    tokio::join!(store_live(&publisher), join_all(reading));
    nothing_more(&publisher, &mut clients).await;

    // They go, and come back.
    let begin = position(&clients[0]);
    drop(clients);
    let since = proven(&begin, store(&publisher, "usher.user.other", 0).await);
    store_missed(&publisher).await;
    let coming = (0..CLIENTS).map(async |client| {
        let (mut session, told) = resume(&gateway, &redis, &client.to_string(), &since).await;
        let complete = if client == LOST { "gap" } else { "complete" };
        assert_eq!(told, complete, "{client}");
        assert!(!read(&mut session, &expected(client)).await, "told already");
        session
    });
    let (_, mut clients) = tokio::join!(store_live(&publisher), join_all(coming));
    nothing_more(&publisher, &mut clients).await;
    let together = scanned(&gateway).await;
    assert!(together > 0.0, "each was read for by itself");
    assert!(gateway.metric("usher_odd_subjects_total").await >= 1.0);
}
