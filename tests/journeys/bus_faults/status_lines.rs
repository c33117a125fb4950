//! A stored message may carry any header block, also one whose first line looks like an
//! answer of the server. It is a message like any other.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    durable::{api, loses_what_is_stored, store},
    support::{Client, Gateway, Nats, RawNats, Redis},
};

// nats-server stores and answers a header block whose lines end with line feeds alone as
// it is, the first line included.

/// The end of a batch, with a sequence that the stream does not have.
const END: &str = "NATS/1.0 204 EOB\nNats-UpTo-Sequence: 1000000\nNats-Num-Pending: 0\n\n\n";
const BLOCKS: [&str; 3] = [
    "NATS/1.0 404 No Messages\nA: b\n\n\n",
    END,
    "NATS/1.0 503 No Responders\nA: b\n\n\n",
];

/// Reads a replay to its end: the data, and the sequence that `live` tells.
async fn read(client: &mut Client) -> (Vec<Value>, u64) {
    let mut data = Vec::new();
    loop {
        let mut frame = client.next_json().await;
        if let Some(seq) = frame["live"]["seq"].as_u64() {
            return (data, seq);
        }
        assert!(frame["event"].is_string(), "{frame}");
        data.push(frame["data"].take());
    }
}

struct World {
    publisher: RawNats,
    nats: Nats,
    redis: Redis,
    gateway: Gateway,
}

async fn world(settings: &[(&str, &str)]) -> World {
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let mut builder = Gateway::durable(&nats, &redis);
    for (key, value) in settings {
        builder = builder.set(key, *value);
    }
    World {
        gateway: builder.start().await,
        publisher: RawNats::connect(&nats).await,
        nats,
        redis,
    }
}

impl World {
    async fn join(&self, user: &str) -> Client {
        let ticket = self.redis.ticket(user).await;
        let builder = Client::builder(&self.gateway, &ticket).since("0");
        let client = builder.open().await;
        assert_eq!(client.welcome()["resume"], "complete", "{user}");
        client
    }

    /// The stream is as far as a client was told.
    async fn has(&self, seq: u64) {
        let info = api(&self.nats.client().await, "STREAM.INFO.USHER", &json!({})).await;
        let last = info["state"]["last_seq"].as_u64().expect("a sequence");
        assert!(seq <= last, "told {seq}, and the stream is at {last}");
    }
}

/// Live and in replay, wherever it stands in its channel: all messages arrive, and `live`
/// tells what the stream has.
async fn is_delivered_like_any_other(block: &str) {
    for subject in ["usher.user.42", "usher.broadcast"] {
        let mut world = world(&[]).await;
        let ticket = world.redis.ticket("42").await;
        let mut present = Client::open(&world.gateway, &ticket).await;
        let mut stored = Vec::new();
        // Alone, then the first of two, then the first and the last.
        for block in [Some(block), None, Some(block)] {
            let number = stored.len() + 1;
            let (publisher, payload) = (&mut world.publisher, number.to_string());
            match block {
                Some(block) => publisher.publish_with_block(subject, block, &payload).await,
                None => publisher.publish(subject, b"", &payload).await,
            }
            stored.push(Value::from(number));
            assert_eq!(present.next_data().await, number, "live: {block:?}");
            let (data, live) = read(&mut world.join("42").await).await;
            assert_eq!(data, stored, "{subject}, {block:?}");
            world.has(live).await;
        }
    }
}

#[tokio::test]
async fn a_message_that_says_503_is_delivered() {
    is_delivered_like_any_other("NATS/1.0 503 No Responders\nA: b\n\n\n").await;
}

#[tokio::test]
async fn a_message_that_says_404_is_delivered() {
    is_delivered_like_any_other("NATS/1.0 404 No Messages\nA: b\n\n\n").await;
}

#[tokio::test]
async fn a_message_that_says_204_is_delivered() {
    is_delivered_like_any_other(END).await;
}

#[tokio::test]
async fn a_message_with_any_other_status_is_delivered() {
    for status in [
        "100 Idle Heartbeat",
        "400 Bad Request",
        "408 x",
        "413 x",
        "200",
        "x",
    ] {
        is_delivered_like_any_other(&format!("NATS/1.0 {status}\nA: b\n\n\n")).await;
    }
}

/// Several users come back at once, and may be asked about in one question: one user's
/// odd message takes nothing from another.
#[tokio::test]
async fn one_users_status_line_takes_nothing_from_others() {
    for block in BLOCKS {
        let mut world = world(&[]).await;
        for user in 0..8 {
            let subject = format!("usher.user.user-{user}");
            world.publisher.publish(&subject, b"", "1").await;
            if user % 2 == 0 {
                let publisher = &mut world.publisher;
                publisher.publish_with_block(&subject, block, "2").await;
            } else {
                world.publisher.publish(&subject, b"", "2").await;
            }
        }
        let users: Vec<String> = (0..8).map(|user| format!("user-{user}")).collect();
        let mut clients = join_all(users.iter().map(|user| world.join(user))).await;
        for (user, client) in clients.iter_mut().enumerate() {
            let (data, live) = read(client).await;
            assert_eq!(data, [1, 2], "user {user}, {block:?}");
            world.has(live).await;
        }
    }
}

/// Audits go on past such a message: what is lost on its way is found by them.
#[tokio::test]
async fn a_status_line_stops_no_audit() {
    for block in BLOCKS {
        let mut world = world(&[("durable.audit", "500ms")]).await;
        let ticket = world.redis.ticket("42").await;
        let mut client = Client::open(&world.gateway, &ticket).await;
        let publisher = &mut world.publisher;
        publisher
            .publish_with_block("usher.broadcast", block, "1")
            .await;
        publisher
            .publish_with_block("usher.user.42", block, "2")
            .await;
        let mut seen = vec![client.next_data().await, client.next_data().await];
        seen.sort_by_key(Value::to_string);
        assert_eq!(seen, [1, 2], "{block:?}");
        let nats = world.nats.client().await;
        loses_what_is_stored(&nats).await;
        // The first may be found by the second look at a join, which comes once.
        for data in [3, 4] {
            store(&nats, "usher.user.42", data).await;
            assert_eq!(client.next_data().await, data, "{block:?}");
        }
    }
}
