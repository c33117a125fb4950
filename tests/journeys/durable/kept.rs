//! What the stream has removed without a trace: `complete` is not said of it.

use async_nats::HeaderMap;
use futures_util::StreamExt as _;
use serde_json::json;

use super::{api, change, position, proven, replayed_data, resume, store, store_with, world_with};
use crate::support::{Client, Gateway, Nats, Redis, eventually, wait::patiently};

const SUBJECT: &str = "usher.user.42";

async fn limited(nats: &Nats, redis: &Redis, limit: u32) -> Gateway {
    let gateway = Gateway::durable(nats, redis);
    let gateway = gateway.set("durable.max_messages_per_channel", limit.to_string());
    gateway.start().await
}

/// The position of a client that has everything up to its welcome.
fn welcomed(client: &Client) -> String {
    let welcome = client.welcome();
    let epoch = welcome["epoch"].as_str().expect("an epoch");
    let (seq, at) = (&welcome["seq"], &welcome["at"]);
    format!("{epoch}.{seq}.{seq}.{at}")
}

/// What a smaller limit removed is not there after the limit was raised, and nothing else in
/// the stream shows that.
#[tokio::test]
async fn what_a_former_limit_removed_is_a_gap() {
    let (nats, redis, gateway) = world_with(&[("durable.max_messages_per_channel", "5")]).await;
    let client = nats.client().await;
    // It stays the first of the stream.
    store(&client, "usher.user.other", 0).await;
    store(&client, SUBJECT, 0).await;
    let begin = position(&Client::open(&gateway, &redis.ticket("42").await).await);
    for data in 1..=10 {
        store(&client, SUBJECT, data).await;
    }
    assert_eq!(resume(&gateway, &redis, "42", &begin).await.1, "gap");
    drop(gateway);

    let gateway = limited(&nats, &redis, 100).await;
    let info = || async { api(&client, "STREAM.INFO.USHER", &json!({})).await };
    eventually("the limit is raised, and noted", || async {
        let config = info().await["config"].take();
        config["max_msgs_per_subject"] == 100 && config["metadata"]["usher.limits"] == "5@12"
    })
    .await;
    let (mut back, told) = resume(&gateway, &redis, "42", &begin).await;
    assert_eq!(told, "gap");
    assert_eq!(replayed_data(&mut back).await, [6, 7, 8, 9, 10]);
    assert_eq!(resume(&gateway, &redis, "42", "0").await.1, "gap");
    // From there on the new limit holds.
    let end = proven(&begin, 12);
    for data in 11..=20 {
        store(&client, SUBJECT, data).await;
    }
    let (mut back, told) = resume(&gateway, &redis, "42", &end).await;
    assert_eq!(told, "complete");
    assert_eq!(replayed_data(&mut back).await.len(), 10);

    // The same where somebody else lowers and raises it.
    let begin = welcomed(&back);
    for limit in [3, 100] {
        change(&client, |config| {
            config["max_msgs_per_subject"] = limit.into();
        })
        .await;
        for data in 21..=30 {
            store(&client, SUBJECT, data).await;
        }
        // The gateway has seen that limit.
        resume(&gateway, &redis, "42", &begin).await;
    }
    assert_eq!(resume(&gateway, &redis, "42", &begin).await.1, "gap");
}

/// Waits for this many audits: each asks the stream's leader.
async fn audits(client: &async_nats::Client, count: usize) {
    let asked = client.subscribe("$JS.API.STREAM.INFO.USHER").await;
    let asked = asked.expect("a subscription").take(count);
    patiently("audits", asked.for_each(async |_| {})).await;
}

/// A message with an age of its own stays the stream's first, while others leave behind it.
#[tokio::test]
async fn what_age_removed_behind_a_message_that_stays_is_a_gap() {
    let settings = [("durable.max_age", "9s"), ("durable.audit", "1s")];
    let (nats, redis, gateway) = world_with(&settings).await;
    let client = nats.client().await;
    let mut never = HeaderMap::new();
    never.insert("Nats-TTL", "never");
    store_with(&client, "usher.user.other", 0, never.clone()).await;
    // A user's own message may be the one that stays, too.
    store_with(&client, "usher.user.43", 0, never).await;
    store(&client, SUBJECT, 0).await;
    let begin = position(&Client::open(&gateway, &redis.ticket("42").await).await);
    let beside = position(&Client::open(&gateway, &redis.ticket("43").await).await);
    let mut living = Client::open(&gateway, &redis.ticket("44").await).await;
    for data in 1..=3 {
        store(&client, SUBJECT, data).await;
        store(&client, "usher.user.43", data).await;
    }
    eventually("age has removed all others", || async {
        api(&client, "STREAM.INFO.USHER", &json!({})).await["state"]["messages"] == 2
    })
    .await;
    // Whoever stayed is told of nothing, while nothing comes,
    audits(&client, 3).await;
    // nor when something comes for others, after a longer time than messages are kept.
    store(&client, "usher.user.45", 1).await;
    audits(&client, 3).await;
    store(&client, "usher.user.44", 1).await;
    assert_eq!(living.next_json().await["data"], 1);
    let own = proven(&beside, 2);
    for (user, since) in [("42", &*begin), ("43", &beside), ("43", &own), ("42", "0")] {
        let (_, told) = resume(&gateway, &redis, user, since).await;
        assert_eq!(told, "gap", "{user} {since}");
    }
    store(&client, SUBJECT, 4).await;
    let (mut back, told) = resume(&gateway, &redis, "42", &begin).await;
    assert_eq!(told, "gap");
    assert_eq!(replayed_data(&mut back).await, [4]);
    // Who was here a moment ago has lost nothing.
    let now = welcomed(&back);
    back.close(1000).await;
    store(&client, SUBJECT, 5).await;
    let (mut back, told) = resume(&gateway, &redis, "42", &now).await;
    assert_eq!(told, "complete");
    assert_eq!(replayed_data(&mut back).await, [5]);
}
