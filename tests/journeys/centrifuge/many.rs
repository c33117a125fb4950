//! Many commands at once: an SDK that returns sends one for each of its topics.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Kind, Sdk, durable, speaking,
    wire::{connect_with, reply, say},
};
use crate::support::{Gateway, servers};

fn subscribe(id: u32, channel: &str) -> String {
    json!({"id": id, "subscribe": {"channel": channel}}).to_string()
}

fn unsubscribe(id: u32, channel: &str) -> String {
    json!({"id": id, "unsubscribe": {"channel": channel}}).to_string()
}

/// The code of an answer's error, and whether it is temporary.
fn error(answer: &Value) -> (u64, bool) {
    let error = &answer["error"];
    let code = error["code"].as_u64().unwrap_or_default();
    (code, error["temporary"] == true)
}

/// A client with many topics waits about as long as a client with one.
#[tokio::test]
async fn subscriptions_are_confirmed_together() {
    let (_nats, redis, gateway) = durable(&[("nats.settle", "200ms")]).await;
    let value = json!({"user_id": "42", "may_follow_prefix": ["t"]});
    let ticket = redis.ticket_json(value).await;
    let (mut socket, _) = connect_with(&gateway, &ticket, json!({})).await;
    let begun = Instant::now();
    say(&mut socket, &subscribe(2, "t2")).await;
    assert!(reply(&mut socket).await["subscribe"].is_object());
    let alone = begun.elapsed();
    let begun = Instant::now();
    let all: Vec<_> = (3..34).map(|id| subscribe(id, &format!("t{id}"))).collect();
    say(&mut socket, &all.join("\n")).await;
    let mut answered = Vec::new();
    for _ in 3..34 {
        let answer = reply(&mut socket).await;
        assert!(answer["subscribe"].is_object(), "{answer}");
        answered.push(answer["id"].as_u64().expect("an id"));
    }
    let together = begun.elapsed();
    assert!(together < alone * 8, "{together:?}, one alone: {alone:?}");
    answered.sort_unstable();
    assert_eq!(answered, Vec::from_iter(3..34));
    // The next one is above the session's bound.
    say(&mut socket, &subscribe(40, "t40")).await;
    assert_eq!(error(&reply(&mut socket).await), (106, false));
}

/// Changes of one topic keep their order, while other topics do not wait for them.
#[tokio::test]
async fn changes_of_one_topic_keep_their_order() {
    let (nats, redis) = servers().await;
    let gateway = speaking(Gateway::builder(&nats, &redis));
    let gateway = gateway.set("nats.settle", "200ms").start().await;
    let value = json!({"user_id": "42", "may_follow": ["a", "b"]});
    let ticket = redis.ticket_json(value).await;
    let (mut socket, _) = connect_with(&gateway, &ticket, json!({})).await;
    let all = [
        subscribe(2, "a"),
        unsubscribe(3, "a"),
        subscribe(4, "a"),
        subscribe(5, "a"),
        subscribe(6, "b"),
    ];
    say(&mut socket, &all.join("\n")).await;
    let mut of_a = Vec::new();
    for _ in 2..=6 {
        let answer = reply(&mut socket).await;
        let is_error = answer["error"]["code"] == 105;
        match answer["id"].as_u64().expect("an id") {
            6 => assert!(!is_error, "{answer}"),
            id => of_a.push((id, is_error)),
        }
    }
    assert_eq!(of_a, [(2, false), (3, false), (4, false), (5, true)]);
    // Each message comes once.
    for data in 1..=2 {
        nats.publish("usher.topic.a", &data.to_string()).await;
        nats.publish("usher.topic.b", &data.to_string()).await;
        for channel in ["a", "b"] {
            let answer = reply(&mut socket).await;
            assert_eq!(answer["push"]["channel"], channel);
            assert_eq!(answer["push"]["pub"]["data"], data);
        }
    }
    say(&mut socket, &unsubscribe(7, "a")).await;
    assert_eq!(
        reply(&mut socket).await,
        json!({"id": 7, "unsubscribe": {}})
    );
    nats.publish("usher.topic.a", "3").await;
    nats.publish("usher.topic.b", "3").await;
    assert_eq!(reply(&mut socket).await["push"]["channel"], "b");
}

/// An SDK gives a `subscribe` five seconds, and then connects anew.
#[tokio::test]
async fn an_sdk_with_many_topics_stays_connected() {
    let (_nats, redis, gateway) = durable(&[("nats.settle", "200ms")]).await;
    let topics: Vec<_> = (0..32).map(|number| format!("t{number}")).collect();
    let more = json!({"grants": {"may_follow_prefix": ["t"]}, "follow": topics});
    let sdk = Sdk::with(Kind::JsJson, &gateway, "42", &gateway.public, more);
    // And the session's own two.
    sdk.sees("subscribed", 34).await;
    assert_eq!(sdk.all("connecting").len(), 1);
    let admitted = gateway.metric("usher_admissions_total{result=\"admitted\"}");
    assert_eq!(admitted.await, 1.0);
    drop(redis);
}

/// SDKs that get an error for `unsubscribe` drop their connection.
#[tokio::test]
async fn unsubscribe_is_never_refused() {
    let (nats, redis) = servers().await;
    let gateway = speaking(Gateway::builder(&nats, &redis))
        .set("session.frames_per_second", "1000")
        .set("nats.settle", "200ms")
        .start()
        .await;
    let value = json!({"user_id": "42", "may_follow_prefix": ["t"]});
    let ticket = redis.ticket_json(value).await;
    let (mut socket, _) = connect_with(&gateway, &ticket, json!({})).await;
    // Beyond the rate of changes, and while one is under way; and what is always followed.
    let mut all = vec![subscribe(2, "t2")];
    all.extend((3..103).map(|id| unsubscribe(id, "t2")));
    all.extend([unsubscribe(103, "#42"), unsubscribe(104, "broadcast")]);
    say(&mut socket, &all.join("\n")).await;
    let mut answered = Vec::new();
    for _ in 2..=104 {
        let answer = reply(&mut socket).await;
        assert!(answer["error"].is_null(), "{answer}");
        answered.push(answer["id"].as_u64().expect("an id"));
    }
    answered.sort_unstable();
    assert_eq!(answered, Vec::from_iter(2..=104));
    nats.publish("usher.topic.t2", "1").await;
    nats.publish("usher.user.42", "2").await;
    nats.publish("usher.broadcast", "3").await;
    assert_eq!(reply(&mut socket).await["push"]["channel"], "#42");
    assert_eq!(reply(&mut socket).await["push"]["channel"], "broadcast");
}

/// What is beyond the rate is refused for now. The session ends only above the number of
/// commands that one message may have.
#[tokio::test]
async fn commands_beyond_the_burst_are_refused_for_now() {
    let (nats, redis) = servers().await;
    let gateway = speaking(Gateway::builder(&nats, &redis)).start().await;
    let value = json!({"user_id": "42", "may_follow": ["a"]});
    let ticket = redis.ticket_json(value).await;
    let (mut socket, _) = connect_with(&gateway, &ticket, json!({})).await;
    let rpc = |id: u32| json!({"id": id, "rpc": {"method": "none"}}).to_string();
    say(&mut socket, &subscribe(2, "a")).await;
    assert!(reply(&mut socket).await["subscribe"].is_object());
    let mut all: Vec<_> = (3..203).map(rpc).collect();
    all.push(unsubscribe(203, "a"));
    say(&mut socket, &all.join("\n")).await;
    let (mut forbidden, mut too_many) = (0, 0);
    for id in 3..203 {
        let answer = reply(&mut socket).await;
        assert_eq!(answer["id"], id);
        match error(&answer) {
            (103, false) => forbidden += 1,
            (111, true) => too_many += 1,
            _ => panic!("{answer}"),
        }
    }
    assert!(forbidden >= 50 && too_many >= 50, "{forbidden} {too_many}");
    assert_eq!(
        reply(&mut socket).await,
        json!({"id": 203, "unsubscribe": {}})
    );
    // One after the other they are a flood.
    for id in 300..900 {
        say(&mut socket, &[rpc(id), rpc(id)].join("\n")).await;
    }
    let (code, reason, _) = socket.expect_close().await;
    assert_eq!((code, &*reason), (3501, "too_many_frames"));
}

/// A gateway that is full of topics may have room later, and another gateway has it now.
#[tokio::test]
async fn a_gateway_full_of_topics_is_a_temporary_error() {
    let (nats, redis) = servers().await;
    let gateway = speaking(Gateway::builder(&nats, &redis));
    let gateway = gateway.set("topics.max", "1").start().await;
    let value = json!({"user_id": "42", "may_follow": ["a", "b"]});
    let ticket = redis.ticket_json(value).await;
    let (mut socket, _) = connect_with(&gateway, &ticket, json!({})).await;
    say(&mut socket, &subscribe(2, "a")).await;
    assert!(reply(&mut socket).await["subscribe"].is_object());
    say(&mut socket, &subscribe(3, "b")).await;
    assert_eq!(error(&reply(&mut socket).await), (100, true));
    say(&mut socket, &unsubscribe(4, "a")).await;
    reply(&mut socket).await;
    say(&mut socket, &subscribe(5, "b")).await;
    assert!(reply(&mut socket).await["subscribe"].is_object());
}
