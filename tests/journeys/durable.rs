//! Durable mode: what was missed is sent, or it is said that something is lost.

mod browser;
mod cluster;
mod events;
mod holes;
mod kept;
mod many;
mod outage;
mod positions;
mod publishing;
mod replaced;
mod resume;
mod slow;
mod stream;
mod tickets;

use async_nats::{HeaderMap, jetstream};
use serde_json::{Value, json};

use crate::support::{Client, Gateway, Nats, Redis, wait::patiently};

/// A NATS that keeps messages and lets anyone do anything, Redis, and a gateway.
async fn world() -> (Nats, Redis, Gateway) {
    world_with(&[]).await
}

/// The same with these settings of the gateway.
async fn world_with(settings: &[(&str, &str)]) -> (Nats, Redis, Gateway) {
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let mut gateway = Gateway::durable(&nats, &redis);
    for (key, value) in settings {
        gateway = gateway.set(key, *value);
    }
    let gateway = gateway.start().await;
    (nats, redis, gateway)
}

/// Publishes, and waits until the stream has it; returns its sequence.
pub(crate) async fn store(nats: &async_nats::Client, subject: &str, data: impl ToString) -> u64 {
    store_with(nats, subject, data, HeaderMap::new()).await
}

/// The same with headers.
pub(crate) async fn store_with(
    nats: &async_nats::Client,
    subject: &str,
    data: impl ToString,
    headers: HeaderMap,
) -> u64 {
    let payload = data.to_string().into();
    let asking = nats.request_with_headers(subject.to_owned(), headers, payload);
    let answer = patiently("the stream's acknowledgement", asking).await;
    let answer = answer.expect("a stream captures it");
    let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
    answer["seq"]
        .as_u64()
        .unwrap_or_else(|| panic!("not stored: {answer}"))
}

/// Asks JetStream's API.
pub(crate) async fn api(nats: &async_nats::Client, what: &str, body: &Value) -> Value {
    let subject = format!("$JS.API.{what}");
    let asking = nats.request(subject, body.to_string().into());
    let answer = patiently("an answer of JetStream", asking).await;
    serde_json::from_slice(&answer.expect("an answer").payload).expect("JSON")
}

/// Changes something about the stream.
async fn change(nats: &async_nats::Client, change: impl FnOnce(&mut Value)) {
    let mut config = api(nats, "STREAM.INFO.USHER", &json!({})).await["config"].take();
    change(&mut config);
    let answer = api(nats, "STREAM.UPDATE.USHER", &config).await;
    assert!(answer["error"].is_null(), "{answer}");
}

/// Has the stream store without republishing: what NATS loses on its way looks the same.
pub(crate) async fn loses_what_is_stored(nats: &async_nats::Client) {
    change(nats, |config| config["republish"] = Value::Null).await;
}

/// The end of that.
pub(crate) async fn republishes_again(nats: &async_nats::Client) {
    let republish = json!({ "src": "usher.>", "dest": "usher.live.>" });
    change(nats, |config| config["republish"] = republish).await;
}

fn jetstream(nats: &async_nats::Client) -> jetstream::Context {
    jetstream::new(nats.clone())
}

/// The position that a session begins with which sent none.
pub(crate) fn position(client: &Client) -> String {
    let welcome = client.welcome();
    assert_eq!(welcome["resume"], "none", "{welcome}");
    let epoch = welcome["epoch"].as_str().expect("an epoch");
    let (seq, at) = (&welcome["seq"], &welcome["at"]);
    format!("{epoch}.{seq}.{seq}.{at}")
}

/// The position, in the stream of another position, of a client that has everything up to
/// here and kept no more of it.
fn proven(position: &str, seq: u64) -> String {
    let epoch = position.split('.').next().expect("an epoch");
    format!("{epoch}.{seq}.0.0")
}

/// An event without its time, which is near to now.
fn timeless(mut event: Value) -> Value {
    let at = event.as_object_mut().and_then(|event| event.remove("at"));
    let at = at.and_then(|at| at.as_u64()).expect("a time");
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
    let apart = now.as_millis().abs_diff(at.into());
    assert!(apart < 3_600_000, "{apart} ms from now");
    event
}

/// Opens a session that goes on from a position, and returns what became of it.
async fn resume(gateway: &Gateway, redis: &Redis, user: &str, since: &str) -> (Client, Value) {
    let ticket = redis.ticket(user).await;
    let client = Client::builder(gateway, &ticket).since(since).open().await;
    let resume = client.welcome()["resume"].clone();
    (client, resume)
}

/// The events up to the end of the replay: of each its sequence, `prev` and data.
async fn replayed(client: &mut Client) -> Vec<(u64, u64, Value)> {
    let mut events = Vec::new();
    loop {
        let mut frame = client.next_json().await;
        if frame["live"].is_object() {
            return events;
        }
        assert!(frame["event"].is_string(), "{frame}");
        let number = |value: &Value| value.as_u64().expect("a number");
        let data = frame["data"].take();
        events.push((number(&frame["seq"]), number(&frame["prev"]), data));
    }
}

/// The data of the next messages, each of which names the last one of its kind.
async fn chained(client: &mut Client, count: usize) -> Vec<Value> {
    let mut last = [None; 2];
    let mut data = Vec::new();
    while data.len() < count {
        let mut event = client.next_event().await;
        let last = &mut last[usize::from(event["broadcast"] == true)];
        assert!(last.is_none() || *last == event["prev"].as_u64(), "{event}");
        *last = event["seq"].as_u64();
        data.push(event["data"].take());
    }
    data
}

/// The data alone.
pub(crate) async fn replayed_data(client: &mut Client) -> Vec<Value> {
    let events = replayed(client).await;
    events.into_iter().map(|(_, _, data)| data).collect()
}
