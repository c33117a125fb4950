//! Topics in durable mode: chains of their own, and positions that name them.

use serde_json::{Value, json};

use super::{following, rooms, ticket};
use crate::support::{Client, Gateway, Nats, Redis, sse::Events};

async fn world() -> (Nats, Redis, Gateway) {
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let gateway = Gateway::durable(&nats, &redis);
    let gateway = gateway.set("session.frames_per_second", "100000");
    let gateway = gateway.start().await;
    (nats, redis, gateway)
}

/// Publishes to a subject of the stream's, and returns where that is stored.
async fn store(nats: &Nats, subject: &str, payload: &str) -> u64 {
    let jetstream = async_nats::jetstream::new(nats.client().await);
    let ack = jetstream.publish(subject.to_owned(), payload.to_owned().into());
    ack.await.expect("sent").await.expect("stored").sequence
}

fn numbers(event: &Value) -> (u64, u64) {
    let number = |key: &str| event[key].as_u64().expect(key);
    (number("seq"), number("prev"))
}

#[tokio::test]
async fn a_topic_has_a_chain_of_its_own() {
    let (nats, redis, gateway) = world().await;
    let before = store(&nats, "usher.topic.room-7", "0").await;
    let mut client = Client::open(&gateway, &rooms(&redis, "42").await).await;
    let answer = following(&mut client, json!({ "follow": ["room-7"] })).await;
    assert_eq!(answer["seq"], before, "nothing before is owed");
    assert!(answer["at"].as_u64().is_some_and(|at| at > 0), "{answer}");
    let first = store(&nats, "usher.topic.room-7", "1").await;
    store(&nats, "usher.user.42", "2").await;
    store(&nats, "usher.topic.room-8", "3").await;
    let last = store(&nats, "usher.topic.room-7", "4").await;
    let event = client.next_event().await;
    assert_eq!(
        (numbers(&event), &event["topic"]),
        ((first, before), &json!("room-7"))
    );
    assert_eq!(client.next_data().await, 2);
    assert_eq!(numbers(&client.next_event().await), (last, first));
}

#[tokio::test]
async fn a_client_that_comes_back_gets_what_it_missed_of_its_topics() {
    let (nats, redis, gateway) = world().await;
    let granted = ticket(
        &redis,
        "42",
        json!({ "topics": ["news"], "may_follow_prefix": ["room-"] }),
    );
    let mut client = Client::open(&gateway, &granted.await).await;
    let epoch = client.welcome()["epoch"]
        .as_str()
        .expect("an epoch")
        .to_owned();
    let answer = following(&mut client, json!({ "follow": ["room-7"] })).await;
    let proven = answer["seq"].as_u64().expect("a sequence");
    let mark = store(&nats, "usher.topic.room-7", "1").await;
    let event = client.next_event().await;
    let at = event["at"].as_u64().expect("a time");
    client.close(1001).await;
    for (subject, payload) in [
        ("usher.topic.room-7", "2"),
        ("usher.topic.room-9", "0"),
        ("usher.topic.news", "3"),
        ("usher.user.42", "4"),
        ("usher.topic.room-7", "5"),
    ] {
        store(&nats, subject, payload).await;
    }
    let since = format!("{epoch}.{proven}.{mark}.{at}.troom-7={mark}");
    for events in [false, true] {
        let grants = json!({ "topics": ["news"], "may_follow_prefix": ["room-"] });
        let granted = ticket(&redis, "42", grants).await;
        let mut data = Vec::new();
        if events {
            let builder = Events::builder(&gateway, &granted).since(&since);
            let mut events = builder.query("follow", "room-7").open().await;
            assert_eq!(events.welcome()["resume"], "complete");
            for _ in 0..4 {
                data.push(events.next_data().await);
            }
        } else {
            let builder = Client::builder(&gateway, &granted).since(&since);
            let mut client = builder.query("follow", "room-7").open().await;
            assert_eq!(client.welcome()["resume"], "complete");
            for _ in 0..4 {
                data.push(client.next_data().await);
            }
            assert!(client.next_json().await["live"].is_object());
        }
        assert_eq!(data, [2, 3, 4, 5], "events: {events}");
    }
}

#[tokio::test]
async fn many_follows_beside_a_flow_lose_nothing() {
    let (nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &rooms(&redis, "42").await).await;
    let publishing = async {
        for number in 0..400 {
            store(&nats, "usher.topic.room-1", &number.to_string()).await;
        }
        nats.publish("usher.user.42", "\"end\"").await;
    };
    let reading = async {
        let mut last: Option<u64> = None;
        let mut events = 0;
        let mut says = 0;
        loop {
            if events % 40 == 0 && says <= events / 40 {
                says += 1;
                client.send_text("{\"unfollow\":[\"room-1\"]}").await;
                client.send_text("{\"follow\":[\"room-1\"]}").await;
            }
            let frame = client.next_json().await;
            if let Some(topics) = frame["following"]["topics"].as_array() {
                last = match topics.len() {
                    0 => None,
                    // A topic that is followed already keeps its mark.
                    _ => last.or_else(|| frame["following"]["seq"].as_u64()),
                };
            } else if frame["topic"].is_string() {
                let (seq, prev) = numbers(&frame);
                let last = last
                    .replace(seq)
                    .expect("no event but while it is followed");
                assert!(prev <= last && last < seq, "{frame} after {last}");
                events += 1;
            } else if frame["data"] == "end" {
                return events;
            } else if frame["error"].is_object() {
                // Changed too often.
                events += 1;
            }
        }
    };
    let ((), events) = tokio::join!(publishing, reading);
    assert!(events > 20, "{events}");
}

#[tokio::test]
async fn the_streams_subjects_are_mended() {
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let jetstream = async_nats::jetstream::new(nats.client().await);
    let config = async_nats::jetstream::stream::Config {
        name: "USHER".to_owned(),
        subjects: vec!["usher.user.*".to_owned(), "usher.broadcast".to_owned()],
        allow_direct: true,
        ..Default::default()
    };
    jetstream.create_stream(config).await.expect("a stream");
    let gateway = Gateway::durable(&nats, &redis).start().await;
    let granted = ticket(&redis, "42", json!({ "topics": ["news"] })).await;
    let mut client = Client::open(&gateway, &granted).await;
    store(&nats, "usher.topic.news", "1").await;
    assert_eq!(client.next_data().await, 1);
}
