//! Topics: what sessions follow besides their user's messages.

mod durable;
mod grants;
mod services;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use crate::{
    support::{Client, Gateway, Nats, Redis, eventually, wait::patiently, world},
    talking::{ask, is_error},
};

/// A ticket that grants these.
pub(super) async fn ticket(redis: &Redis, user: &str, grants: Value) -> String {
    let mut value = json!({ "user_id": user });
    for (key, list) in grants.as_object().expect("an object") {
        value[key] = list.clone();
    }
    redis.ticket_json(value).await
}

/// A ticket that grants all topics that begin with `room-`.
pub(super) async fn rooms(redis: &Redis, user: &str) -> String {
    ticket(redis, user, json!({ "may_follow_prefix": ["room-"] })).await
}

/// A gateway whose clients may say more than others.
async fn talkative() -> (Nats, Redis, Gateway) {
    let (nats, redis) = tokio::join!(Nats::start(), Redis::start());
    let gateway = Gateway::builder(&nats, &redis);
    let gateway = gateway.set("session.frames_per_second", "100000");
    let gateway = gateway.start().await;
    (nats, redis, gateway)
}

/// Changes what a client follows, as soon as it may.
async fn following(client: &mut Client, said: Value) -> Value {
    let change = async {
        loop {
            let answer = ask(client, said.clone()).await;
            if answer["error"]["code"] != "too_many" {
                assert!(answer["following"].is_object(), "{answer}");
                return answer["following"].clone();
            }
        }
    };
    patiently("a change of topics", change).await
}

#[tokio::test]
async fn a_topic_reaches_exactly_those_who_follow_it() {
    let (nats, redis, gateway) = world().await;
    let subject = "usher.topic.room-7";
    let mut anna = Client::open(&gateway, &rooms(&redis, "anna").await).await;
    let mut bob = Client::open(&gateway, &rooms(&redis, "bob").await).await;
    assert_eq!(anna.welcome()["topics"], json!([]));
    assert_eq!(nats.subscriptions(subject).await, 0);
    for client in [&mut anna, &mut bob] {
        let answer = following(client, json!({ "follow": ["room-7"], "id": "1" })).await;
        assert_eq!(answer, json!({ "id": "1", "topics": ["room-7"] }));
    }
    assert_eq!(nats.subscriptions(subject).await, 1);

    nats.publish(subject, "1").await;
    let event = json!({ "event": "message", "topic": "room-7", "data": 1 });
    assert_eq!(anna.next_event().await, event);
    assert_eq!(bob.next_event().await, event);

    let answer = following(&mut anna, json!({ "unfollow": ["room-7", "room-8"] })).await;
    assert_eq!(answer, json!({ "topics": [] }));
    nats.publish(subject, "2").await;
    nats.publish("usher.user.anna", "3").await;
    assert_eq!(bob.next_data().await, 2);
    assert_eq!(anna.next_data().await, 3, "she follows it no more");
    assert_eq!(nats.subscriptions(subject).await, 1, "bob still does");

    // The last one to leave takes the subscription along.
    bob.close(1000).await;
    eventually("nobody is subscribed", || async {
        nats.subscriptions(subject).await == 0
    })
    .await;
}

#[tokio::test]
async fn operators_see_topics_and_their_changes() {
    let (nats, redis) = tokio::join!(Nats::start(), Redis::start());
    let gateway = Gateway::builder(&nats, &redis)
        .set("topics.max_per_session", "2")
        .start()
        .await;
    let changes = async |result: &str| {
        let metric = format!("usher_topic_changes_total{{result=\"{result}\"}}");
        gateway.metric(&metric).await
    };
    let mut anna = Client::open(&gateway, &rooms(&redis, "anna").await).await;
    let mut bob = Client::open(&gateway, &rooms(&redis, "bob").await).await;
    for client in [&mut anna, &mut bob] {
        following(client, json!({ "follow": ["room-1", "room-2"] })).await;
    }
    let answer = ask(&mut anna, json!({ "follow": ["other"] })).await;
    is_error(&answer, None, "forbidden");
    let answer = ask(&mut bob, json!({ "follow": ["room-3"] })).await;
    is_error(&answer, None, "too_many");

    assert_eq!(gateway.metric("usher_topics").await, 2.0);
    assert_eq!(gateway.status().await["topics"], 2);
    assert_eq!(gateway.metric("usher_subscriptions").await, 4.0);
    for (result, count) in [
        ("followed", 2.0),
        ("forbidden", 1.0),
        ("too_many", 1.0),
        ("unavailable", 0.0),
    ] {
        assert_eq!(changes(result).await, count, "{result}");
    }
    for mut client in [anna, bob] {
        client.close(1000).await;
    }
    gateway.metric_becomes("usher_topics", 0.0).await;
}

#[tokio::test]
async fn a_topic_may_have_any_name() {
    let (nats, redis, gateway) = talkative().await;
    let names = ["a.b", "*", ">", "ü €", "%41", "a{}", &"x".repeat(128)];
    let granted = ticket(&redis, "42", json!({ "may_follow": names })).await;
    let mut client = Client::open(&gateway, &granted).await;
    for (index, name) in names.iter().enumerate() {
        let answer = following(&mut client, json!({ "follow": [name] })).await;
        let topics = answer["topics"].as_array().expect("a list").len();
        assert_eq!(topics, index + 1);
        let topic = usher::channel::Topic::parse(name).expect("a topic");
        let subject = format!("usher.topic.{}", topic.subject_token());
        nats.publish(&subject, "1").await;
        assert_eq!(client.next_event().await["topic"], *name);
    }
}

#[tokio::test]
async fn what_is_wrong_is_answered_and_changes_nothing() {
    let (nats, redis) = tokio::join!(Nats::start(), Redis::start());
    let gateway = Gateway::builder(&nats, &redis)
        .set("topics.max_per_session", "3")
        .set("session.frames_per_second", "1000")
        .start()
        .await;
    let mut client = Client::open(&gateway, &rooms(&redis, "42").await).await;
    for bad in [
        json!("room-1"),
        json!([1]),
        json!([""]),
        json!(["x".repeat(129)]),
        json!(["room-\u{1}"]),
        json!([" room-1"]),
        json!({}),
        Value::Null,
    ] {
        let answer = ask(&mut client, json!({ "follow": bad, "id": "a" })).await;
        is_error(&answer, Some("a"), "bad_request");
    }
    let answer = ask(
        &mut client,
        json!({ "follow": ["room-1", "other"], "id": "b" }),
    )
    .await;
    is_error(&answer, Some("b"), "forbidden");
    let many = json!(["room-1", "room-2", "room-3", "room-4"]);
    let answer = ask(&mut client, json!({ "follow": many, "id": "c" })).await;
    let message = is_error(&answer, Some("c"), "too_many");
    assert!(message.contains("topics.max_per_session"), "{message}");
    assert!(
        nats.all_subjects()
            .await
            .iter()
            .all(|it| !it.contains(".topic."))
    );

    let answer = following(&mut client, json!({ "follow": ["room-1", "room-1"] })).await;
    assert_eq!(answer["topics"], json!(["room-1"]));
    // The third change within a second.
    let answer = ask(&mut client, json!({ "unfollow": ["room-1"], "id": "d" })).await;
    is_error(&answer, Some("d"), "too_many");
    nats.publish("usher.topic.room-1", "1").await;
    assert_eq!(client.next_data().await, 1);
}

#[tokio::test]
async fn a_gateway_follows_as_many_topics_as_it_may() {
    let (nats, redis) = tokio::join!(Nats::start(), Redis::start());
    let gateway = Gateway::builder(&nats, &redis)
        .set("topics.max", "2")
        .start()
        .await;
    let mut one = Client::open(&gateway, &rooms(&redis, "1").await).await;
    let mut two = Client::open(&gateway, &rooms(&redis, "2").await).await;
    following(&mut one, json!({ "follow": ["room-1", "room-2"] })).await;
    let answer = ask(&mut two, json!({ "follow": ["room-2", "room-3"] })).await;
    let message = is_error(&answer, None, "too_many");
    assert!(message.contains("topics.max"), "{message}");
    let answer = following(&mut two, json!({ "follow": ["room-2"] })).await;
    assert_eq!(answer["topics"], json!(["room-2"]));
}

#[tokio::test]
async fn while_nats_is_away_nothing_changes() {
    let (mut nats, redis, gateway) = talkative().await;
    let mut client = Client::open(&gateway, &rooms(&redis, "42").await).await;
    following(&mut client, json!({ "follow": ["room-1"] })).await;
    nats.stop().await;
    gateway
        .metric_becomes("usher_nats_connected{connection=\"interest\"}", 0.0)
        .await;
    let answer = ask(&mut client, json!({ "follow": ["room-2"], "id": "x" })).await;
    is_error(&answer, Some("x"), "unavailable");
    let refused = "usher_topic_changes_total{result=\"unavailable\"}";
    assert_eq!(gateway.metric(refused).await, 1.0);
    nats.restart().await;
    client.expect_gap().await;
    nats.publish("usher.topic.room-1", "1").await;
    assert_eq!(client.next_data().await, 1, "it follows what it followed");
    let answer = following(&mut client, json!({ "follow": ["room-2"] })).await;
    assert_eq!(answer["topics"], json!(["room-1", "room-2"]));
}

/// While NATS stands still each change waits for all of its time.
#[tokio::test]
async fn changes_that_are_not_made_do_not_pile_up() {
    let (mut nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &rooms(&redis, "42").await).await;
    nats.pause();
    let mut asked = 0;
    let refused = loop {
        asked += 1;
        assert!(asked < 20, "none is answered at once");
        let id = asked.to_string();
        let follow = json!({ "id": id, "follow": [format!("room-{id}")] });
        client.send_text(&follow.to_string()).await;
        // Fewer than two a second.
        let next = Instant::now() + Duration::from_millis(600);
        let answer = async {
            loop {
                let answer = client.next_json().await;
                if answer["error"]["id"] == id {
                    return answer;
                }
            }
        };
        if let Ok(answer) = timeout_at(next, answer).await {
            break answer;
        }
    };
    assert_eq!(refused["error"]["code"], "unavailable");
    nats.resume();
    while !client.next_json().await["following"].is_object() {}
}
