//! What makes the alerts about the API for services and about the stream fire.

use std::collections::BTreeSet;

use async_nats::jetstream;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use usher::proto::GetPresenceRequest;

use super::{gateway, server::Prometheus};
use crate::support::{Client, Gateway, Nats, Redis, eventually};

/// What a request to JetStream's API is answered.
async fn api(nats: &async_nats::Client, what: &str, body: &Value) -> Value {
    let context = jetstream::new(nats.clone());
    let answer: Value = context
        .request(what.to_owned(), body)
        .await
        .expect("an answer");
    assert!(answer["error"].is_null(), "{what}: {answer}");
    answer
}

async fn change(nats: &async_nats::Client, key: &str, value: Value) {
    let mut config = api(nats, "STREAM.INFO.USHER", &json!({})).await["config"].take();
    config[key] = value;
    api(nats, "STREAM.UPDATE.USHER", &config).await;
}

async fn store(nats: &async_nats::Client, data: u64) {
    let context = jetstream::new(nats.clone());
    let stored = context.publish("usher.user.42", data.to_string().into());
    stored.await.expect("published").await.expect("stored");
}

/// A stream that can't be read, and that is made anew.
pub(super) async fn provoke_stream_faults(
    prometheus: &Prometheus,
    main: &Gateway,
    redis: &Redis,
    seen: &mut BTreeSet<String>,
) {
    let nats = Nats::keeping_for_all().await;
    // There is no stream, and this one must not make it.
    let without = Gateway::durable(&nats, redis)
        .set("durable.manage_stream", "false")
        .start_unready()
        .await;
    prometheus.scrapes(&[("usher-0", main), ("usher-1", &without)]);
    for alert in ["UsherStreamNotReady", "UsherNotReady"] {
        prometheus.fires(seen, alert, async || {}).await;
    }
    drop(without);
    // One makes the stream; the other must not mend it.
    drop(Gateway::durable(&nats, redis).start().await);
    let durable = Gateway::durable(&nats, redis)
        .set("durable.manage_stream", "false")
        .set("durable.audit", "1s")
        .start()
        .await;
    prometheus.scrapes(&[("usher-0", main), ("usher-1", &durable)]);
    let client = nats.client().await;
    let mut session = Client::open(&durable, &redis.ticket("42").await).await;

    let republish = json!({"src": "usher.>", "dest": "usher.live.>"});
    let hole = async |lost: u64| {
        change(&client, "republish", Value::Null).await;
        store(&client, lost).await;
        change(&client, "republish", republish.clone()).await;
        store(&client, lost + 1).await;
    };

    // Holes that are filled.
    let mut lost = 10;
    let filled = async || {
        hole(lost).await;
        lost += 2;
    };
    prometheus.fires(seen, "UsherStreamHoles", filled).await;
    while session.next_data().await != lost - 1 {}

    // A hole that can't be read.
    change(&client, "allow_direct", false.into()).await;
    hole(1).await;
    prometheus.fires(seen, "UsherHeldBack", async || {}).await;
    change(&client, "allow_direct", true.into()).await;
    assert_eq!(session.next_data().await, 1);

    let config = api(&client, "STREAM.INFO.USHER", &json!({})).await["config"].take();
    api(&client, "STREAM.DELETE.USHER", &json!({})).await;
    api(&client, "STREAM.CREATE.USHER", &config).await;
    prometheus
        .fires(seen, "UsherStreamReplaced", async || {})
        .await;
    prometheus.scrapes(&[("usher-0", main)]);
}

/// One gateway of two is killed.
pub(super) async fn provoke_a_vanished_gateway(
    prometheus: &Prometheus,
    main: &Gateway,
    nats: &Nats,
    redis: &Redis,
    seen: &mut BTreeSet<String>,
) {
    let mut other = gateway(nats, redis).start().await;
    eventually("both hear each other", || async {
        main.metric("usher_gateways").await == 2.0
    })
    .await;
    other.kill();
    let grpc = main.grpc().await;
    let ask = async || {
        let request = GetPresenceRequest {
            user_ids: vec!["42".to_owned()],
        };
        let asked = grpc.clone().get_presence(request).await;
        asked.expect("an answer");
    };
    prometheus.fires(seen, "UsherCallsIncomplete", ask).await;
    prometheus
        .fires(seen, "UsherGatewayLost", async || {})
        .await;
}

/// Requests that announce bodies and do not bring them.
pub(super) async fn provoke_refused_callers(
    prometheus: &Prometheus,
    main: &Gateway,
    nats: &Nats,
    redis: &Redis,
    seen: &mut BTreeSet<String>,
) {
    let narrow = gateway(nats, redis)
        .set("grpc.max_message", "1MiB")
        .set("grpc.max_in_flight_bytes", "2MiB")
        .start()
        .await;
    prometheus.scrapes(&[("usher-0", main), ("usher-1", &narrow)]);
    let head = format!(
        "POST /v1/push HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Content-Length: 1000000\r\n\r\n{{",
        narrow.grpc
    );
    let mut taken = Vec::new();
    let announce = async || {
        let mut stream = TcpStream::connect(&narrow.grpc).await.expect("accepted");
        stream.write_all(head.as_bytes()).await.expect("sent");
        taken.push(stream);
    };
    prometheus
        .fires(seen, "UsherCallersRefused", announce)
        .await;
    prometheus.scrapes(&[("usher-0", main)]);
}
