//! Topics: those that a ticket names are subscriptions of the server, others are the app's.

use serde_json::{Value, json};

use super::{
    Kind, Sdk, TOKENS, again, durable, speaking,
    wire::{connect_with, raw, reply, say},
};
use crate::{
    durable::store,
    support::{Gateway, network::Network, servers},
};

fn subscribe(id: u32, channel: &str) -> String {
    json!({"id": id, "subscribe": {"channel": channel}}).to_string()
}

fn recover(id: u32, channel: &str, epoch: &Value, offset: u64) -> String {
    let subscribe = json!({"channel": channel, "recover": true, "epoch": epoch, "offset": offset});
    json!({"id": id, "subscribe": subscribe}).to_string()
}

fn push(channel: &str, data: u64, offset: u64) -> Value {
    let mut publication = json!({"data": data, "tags": {"event": "message"}});
    if offset > 0 {
        publication["offset"] = offset.into();
    }
    json!({"push": {"channel": channel, "pub": publication}})
}

#[tokio::test]
async fn topics_are_followed_within_the_grants() {
    let (nats, redis) = servers().await;
    let gateway = speaking(Gateway::builder(&nats, &redis))
        .set("topics.max_per_session", "3")
        .start()
        .await;
    let value = json!({"user_id": "42", "topics": ["news", "broadcast", "#1"],
        "may_follow": ["room.7", "a", "b", "broadcast"]});
    let ticket = redis.ticket_json(value).await;
    let (mut socket, answer) = connect_with(&gateway, &ticket, json!({})).await;
    let subs = answer["connect"]["subs"]
        .as_object()
        .expect("subscriptions");
    let names: Vec<_> = subs.keys().collect();
    assert_eq!(names, ["#42", "broadcast", "news"]);
    assert_eq!(subs["news"], json!({}));
    nats.publish("usher.topic.news", "1").await;
    assert_eq!(reply(&mut socket).await, push("news", 1, 0));

    let code = |answer: Value| answer["error"]["code"].as_u64();
    for (channel, error) in [
        ("other", 103),
        ("news", 105),
        ("broadcast", 105),
        ("#42", 105),
        ("#43", 102),
        ("", 102),
        (" x", 102),
    ] {
        say(&mut socket, &subscribe(7, channel)).await;
        assert_eq!(code(reply(&mut socket).await), Some(error), "{channel:?}");
    }
    say(&mut socket, &subscribe(8, "room.7")).await;
    assert_eq!(reply(&mut socket).await, json!({"id": 8, "subscribe": {}}));
    nats.publish("usher.topic.room%2E7", "2").await;
    assert_eq!(reply(&mut socket).await, push("room.7", 2, 0));
    say(&mut socket, &subscribe(9, "a")).await;
    assert_eq!(reply(&mut socket).await["subscribe"], json!({}));
    say(&mut socket, &subscribe(10, "b")).await;
    assert_eq!(code(reply(&mut socket).await), Some(106));

    let unsubscribe =
        |channel: &str| json!({"id": 11, "unsubscribe": {"channel": channel}}).to_string();
    for channel in ["news", "never-followed"] {
        say(&mut socket, &unsubscribe(channel)).await;
        let answer = reply(&mut socket).await;
        assert_eq!(answer, json!({"id": 11, "unsubscribe": {}}), "{channel}");
    }
    // They are followed on: an error would have the SDK drop its connection.
    for channel in ["broadcast", "#42"] {
        say(&mut socket, &unsubscribe(channel)).await;
        let answer = reply(&mut socket).await;
        assert_eq!(answer, json!({"id": 11, "unsubscribe": {}}), "{channel}");
    }
    nats.publish("usher.topic.news", "3").await;
    nats.publish("usher.topic.a", "4").await;
    assert_eq!(reply(&mut socket).await, push("a", 4, 0));
}

/// Commands that a client sends without waiting are obeyed in their order.
#[tokio::test]
async fn a_topic_is_left_and_followed_again_without_waiting() {
    let (nats, redis) = servers().await;
    let gateway = speaking(Gateway::builder(&nats, &redis)).start().await;
    let value = json!({"user_id": "42", "may_follow": ["a"]});
    let ticket = redis.ticket_json(value).await;
    let (mut socket, _) = connect_with(&gateway, &ticket, json!({})).await;
    let unsubscribe = json!({"id": 3, "unsubscribe": {"channel": "a"}}).to_string();
    let all = [subscribe(2, "a"), unsubscribe, subscribe(4, "a")];
    say(&mut socket, &all.join("\n")).await;
    say(&mut socket, &subscribe(5, "a")).await;
    assert_eq!(reply(&mut socket).await, json!({"id": 2, "subscribe": {}}));
    assert_eq!(
        reply(&mut socket).await,
        json!({"id": 3, "unsubscribe": {}})
    );
    assert_eq!(reply(&mut socket).await, json!({"id": 4, "subscribe": {}}));
    assert_eq!(reply(&mut socket).await["error"]["code"], 105);
    nats.publish("usher.topic.a", "1").await;
    assert_eq!(reply(&mut socket).await, push("a", 1, 0));
}

/// A client that returns subscribes to each of its topics at once; then it is bounded.
#[tokio::test]
async fn subscriptions_have_a_burst_and_a_rate() {
    let (nats, redis) = servers().await;
    let gateway = speaking(Gateway::builder(&nats, &redis))
        .set("session.frames_per_second", "1000")
        .start()
        .await;
    let value = json!({"user_id": "42", "may_follow_prefix": ["t"]});
    let ticket = redis.ticket_json(value).await;
    let (mut socket, _) = connect_with(&gateway, &ticket, json!({})).await;
    for id in 2..34 {
        say(&mut socket, &subscribe(id, &format!("t{id}"))).await;
    }
    for id in 2..34 {
        let answer = reply(&mut socket).await;
        assert_eq!(answer, json!({"id": id, "subscribe": {}}));
    }
    // `unsubscribe` is never refused: SDKs that get an error for it drop their connection. It
    // bounds itself, because there must be a subscription first.
    let unsubscribe = json!({"id": 50, "unsubscribe": {"channel": "t2"}}).to_string();
    for _ in 0..60 {
        say(&mut socket, &unsubscribe).await;
    }
    for _ in 0..60 {
        let answer = reply(&mut socket).await;
        assert_eq!(answer, json!({"id": 50, "unsubscribe": {}}));
    }
    for _ in 0..60 {
        say(&mut socket, &subscribe(51, "t3")).await;
    }
    let mut refused = 0;
    for _ in 0..60 {
        let answer = reply(&mut socket).await;
        if answer["error"]["code"] == 111 {
            assert_eq!(answer["error"]["temporary"], true);
            refused += 1;
        }
    }
    assert!((5..60).contains(&refused), "{refused}");
}

/// A client is not told that it has what Usher does not offer.
#[tokio::test]
async fn options_of_subscribe_are_kept_or_refused() {
    let (nats, redis, gateway) = durable(&[]).await;
    let value = json!({"user_id": "42", "may_follow": ["a"]});
    let publisher = nats.client().await;
    let offset = store(&publisher, "usher.topic.a", 1).await;
    let ticket = redis.ticket_json(value).await;
    let (mut socket, answer) = connect_with(&gateway, &ticket, json!({})).await;
    let epoch = answer["connect"]["subs"]["broadcast"]["epoch"].clone();
    let with = |options: Value| {
        let mut subscribe = json!({"channel": "a"});
        let options = options.as_object().expect("options").clone();
        subscribe
            .as_object_mut()
            .expect("an object")
            .extend(options);
        json!({"id": 7, "subscribe": subscribe}).to_string()
    };
    let other = json!({"recover": true, "epoch": "other", "offset": 1, "flag": 3});
    let ahead = json!({"recover": true, "epoch": epoch, "offset": 9, "flag": 2});
    for (options, code) in [
        (other, 112),
        (ahead, 112),
        (json!({"type": 1}), 108),
        (json!({"tf": {"op": "eq", "key": "a", "val": "b"}}), 108),
    ] {
        say(&mut socket, &with(options.clone())).await;
        let answer = reply(&mut socket).await;
        assert_eq!(answer["error"]["code"], code, "{options}: {answer}");
        assert!(answer["error"]["temporary"].is_null(), "{answer}");
    }
    store(&publisher, "usher.topic.a", 2).await;
    let good = json!({"recover": true, "epoch": epoch, "offset": offset, "flag": 3, "type": 0});
    say(&mut socket, &with(good)).await;
    let answer = reply(&mut socket).await;
    assert_eq!(answer["subscribe"]["recovered"], true, "{answer}");
    assert_eq!(reply(&mut socket).await, push("a", 2, offset + 1));

    // Live mode recovers nothing.
    let (nats, redis) = servers().await;
    let gateway = speaking(Gateway::builder(&nats, &redis)).start().await;
    let value = json!({"user_id": "42", "may_follow": ["a"]});
    let ticket = redis.ticket_json(value).await;
    let (mut socket, _) = connect_with(&gateway, &ticket, json!({})).await;
    let recover = json!({"recover": true, "epoch": "k", "offset": 1, "flag": 2});
    say(&mut socket, &with(recover)).await;
    assert_eq!(reply(&mut socket).await["error"]["code"], 112);
    say(&mut socket, &with(json!({"flag": 2}))).await;
    assert_eq!(reply(&mut socket).await, json!({"id": 7, "subscribe": {}}));
}

/// Topics of the ticket are recovered by `connect`, the others by `subscribe`.
#[tokio::test]
async fn each_topic_is_recovered_by_its_own_offset() {
    let settings = [
        ("durable.max_messages_per_channel", "5"),
        ("durable.max_replay", "4"),
    ];
    let (nats, redis, gateway) = durable(&settings).await;
    let value = json!({"user_id": "42", "topics": ["news"], "may_follow_prefix": ["r"]});
    let publisher = nats.client().await;
    store(&publisher, "usher.topic.r1", 1).await;
    let ticket = redis.ticket_json(value.clone()).await;
    let (mut socket, answer) = connect_with(&gateway, &ticket, json!({})).await;
    let epoch = answer["connect"]["subs"]["news"]["epoch"].clone();
    say(&mut socket, &subscribe(2, "r1")).await;
    let begins = json!({"recoverable": true, "positioned": true, "epoch": epoch, "offset": 1});
    assert_eq!(
        reply(&mut socket).await,
        json!({"id": 2, "subscribe": begins})
    );
    store(&publisher, "usher.topic.r1", 2).await;
    assert_eq!(reply(&mut socket).await, push("r1", 2, 2));
    drop(socket);

    for data in 3..=5 {
        store(&publisher, "usher.topic.news", data).await;
    }
    for data in 6..=8 {
        store(&publisher, "usher.topic.r1", data).await;
    }
    for data in 9..=18 {
        store(&publisher, "usher.topic.r2", data).await;
    }
    let ticket = redis.ticket_json(value.clone()).await;
    let news = json!({"recover": true, "epoch": epoch, "offset": 2});
    let (mut socket, answer) = connect_with(&gateway, &ticket, json!({ "news": news })).await;
    let sub = &answer["connect"]["subs"]["news"];
    assert_eq!(
        (&sub["recovered"], &sub["offset"]),
        (&json!(true), &json!(2))
    );
    for data in 3..=5 {
        assert_eq!(reply(&mut socket).await, push("news", data, data));
    }
    say(&mut socket, &recover(3, "r1", &epoch, 2)).await;
    let answer = reply(&mut socket).await;
    let sub = &answer["subscribe"];
    assert_eq!(sub["was_recovering"], true, "{answer}");
    assert_eq!(
        (&sub["recovered"], &sub["offset"]),
        (&json!(true), &json!(2))
    );
    for data in 6..=8 {
        assert_eq!(reply(&mut socket).await, push("r1", data, data));
    }
    // Its oldest are gone; of another stream; and ahead of this one.
    for (id, channel, epoch, offset) in [
        (4, "r2", &epoch, 9),
        (5, "r3", &json!("other"), 9),
        (6, "r4", &epoch, 1_000_000),
    ] {
        say(&mut socket, &recover(id, channel, epoch, offset)).await;
        let answer = reply(&mut socket).await;
        let sub = &answer["subscribe"];
        assert_eq!(sub["was_recovering"], true, "{answer}");
        assert!(sub["recovered"].is_null(), "{answer}");
        assert_eq!(sub["offset"], 18, "{answer}");
    }
    store(&publisher, "usher.topic.r2", 19).await;
    store(&publisher, "usher.topic.r1", 20).await;
    assert_eq!(reply(&mut socket).await, push("r2", 19, 19));
    assert_eq!(reply(&mut socket).await, push("r1", 20, 20));
}

#[tokio::test]
async fn a_service_changes_topics_of_open_sessions() {
    let (nats, redis, gateway) = durable(&[]).await;
    let ticket = redis.ticket("42").await;
    let (mut socket, _) = connect_with(&gateway, &ticket, json!({})).await;
    let mut grpc = gateway.grpc().await;
    let mut update = async |follow: &[&str], unfollow: &[&str]| {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let request = usher::proto::UpdateTopicsRequest {
            user_id: "42".to_owned(),
            follow: names(follow),
            unfollow: names(unfollow),
        };
        let updated = grpc.update_topics(request).await.expect("updated");
        assert_eq!(updated.into_inner().sessions, 1);
    };
    update(&["news", "broadcast"], &[]).await;
    let answer = reply(&mut socket).await;
    assert_eq!(answer["push"]["channel"], "news");
    assert_eq!(answer["push"]["subscribe"]["recoverable"], true, "{answer}");
    let publisher = nats.client().await;
    store(&publisher, "usher.topic.news", 1).await;
    assert_eq!(reply(&mut socket).await, push("news", 1, 1));
    update(&[], &["news"]).await;
    let answer = reply(&mut socket).await;
    assert_eq!(answer["push"]["channel"], "news");
    assert_eq!(answer["push"]["unsubscribe"]["code"], 2000, "{answer}");
}

/// A topic of the ticket, and one to which the app subscribes, through the end of a gateway.
#[tokio::test]
async fn every_sdk_follows_topics_and_recovers_them() {
    follow_topics(&Kind::RETURNING).await;
}

pub(super) async fn follow_topics(kinds: &[Kind]) {
    let (nats, redis, mut gateway) = durable(&TOKENS).await;
    let tickets = again(&nats, &redis, &TOKENS).await;
    let network = Network::to(&format!("ws://{}", gateway.public)).await;
    let more =
        json!({"grants": {"topics": ["news"], "may_follow": ["room.7"]}, "follow": "room.7"});
    let sdk = |kind| Sdk::returning(kind, &tickets, "42", network.address(), more.clone());
    let sdks: Vec<_> = kinds.iter().map(|&kind| (kind, sdk(kind))).collect();
    for (_, sdk) in &sdks {
        sdk.sees("subscribed", 4).await;
    }
    let publisher = nats.client().await;
    let publish = async |number: u64| {
        store(&publisher, "usher.topic.news", number).await;
        store(&publisher, "usher.topic.room%2E7", number + 1).await;
        store(&publisher, "usher.topic.other", number).await;
    };
    publish(1).await;
    for (_, sdk) in &sdks {
        sdk.sees("publication", 2).await;
    }
    gateway.kill();
    gateway.wait().await;
    publish(3).await;
    let next = again(&nats, &redis, &TOKENS).await;
    network.lead_to(&format!("ws://{}", next.public));
    for (kind, sdk) in &sdks {
        sdk.sees("subscribed", 8).await;
        for one in &sdk.all("subscribed")[4..] {
            assert_eq!(one["wasRecovering"], true, "{kind:?}: {one}");
            assert_eq!(one["recovered"], true, "{kind:?}: {one}");
        }
        sdk.sees("publication", 4).await;
        for (channel, expected) in [("news", [1, 3]), ("room.7", [2, 4])] {
            let seen = sdk.publications().into_iter();
            let seen = seen.filter(|(name, ..)| name == channel);
            let seen: Vec<_> = seen.map(|(_, data, _)| number(&data)).collect();
            assert_eq!(seen, expected, "{kind:?}, {channel}");
        }
    }
}

/// A number, also where it came as bytes.
fn number(data: &Value) -> u64 {
    let text = data.as_str().and_then(|text| text.parse().ok());
    text.or(data.as_u64()).expect("a number")
}

/// One that returns sends them in one message.
#[tokio::test]
async fn as_many_subscriptions_as_a_session_may_have_come_at_once() {
    let (nats, redis) = servers().await;
    let gateway = speaking(Gateway::builder(&nats, &redis))
        .set("topics.max_per_session", "300")
        .start()
        .await;
    let value = json!({"user_id": "42", "may_follow_prefix": ["t"]});
    let ticket = redis.ticket_json(value).await;
    let connect = json!({"id": 1, "connect": {"data": {"ticket": ticket}}}).to_string();
    let all = (2..=300).map(|id| subscribe(id, &format!("t{id}")));
    let all: Vec<_> = std::iter::once(connect).chain(all).collect();
    let mut socket = raw(&gateway).await;
    say(&mut socket, &all.join("\n")).await;
    for id in 1..=300 {
        let answer = reply(&mut socket).await;
        assert_eq!(answer["id"], id);
        assert!(answer["error"].is_null(), "{answer}");
    }
}
