//! What services do with topics.

use serde_json::json;
use tonic::Code;
use usher::proto::{PublishTopicRequest, UpdateTopicsRequest};

use super::ticket;
use crate::{
    commands::run::run,
    json::{JSON, post, post_with, posted, refused},
    support::{Client, Gateway, Nats, Redis, eventually, http, sse::Events, world},
};

fn update(user: &str, follow: &[&str], unfollow: &[&str]) -> UpdateTopicsRequest {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    UpdateTopicsRequest {
        user_id: user.to_owned(),
        follow: names(follow),
        unfollow: names(unfollow),
    }
}

#[tokio::test]
async fn a_service_changes_what_a_users_sessions_follow() {
    let (nats, redis, here) = world().await;
    let there = Gateway::start(&nats, &redis).await;
    here.metric_becomes("usher_gateways", 2.0).await;
    let mut grpc = here.grpc().await;
    let mut client = Client::open(&here, &redis.ticket("42").await).await;
    let mut events = Events::open(&there, &redis.ticket("42").await).await;
    let request = update("42", &["room-7", "room-8"], &["room-8"]);
    let answer = grpc.update_topics(request).await.expect("OK").into_inner();
    assert_eq!(answer.sessions, 2);
    let following = json!({ "following": { "topics": ["room-7"] } });
    assert_eq!(client.next_json().await, following);
    assert_eq!(events.next_json().await, following);

    let request = PublishTopicRequest {
        topic: "room-7".to_owned(),
        message: b"1".to_vec(),
        event: "said".to_owned(),
        message_id: "a".to_owned(),
    };
    grpc.publish_topic(request).await.expect("OK");
    let event = json!({ "event": "said", "topic": "room-7", "data": 1 });
    assert_eq!(client.next_event().await, event);
    assert_eq!(events.next_json().await, event);

    let answer = grpc.update_topics(update("42", &[], &["room-7"])).await;
    assert_eq!(answer.expect("OK").into_inner().sessions, 2);
    let following = json!({ "following": { "topics": [] } });
    assert_eq!(client.next_json().await, following);
    let answer = grpc.update_topics(update("nobody", &["a"], &[])).await;
    assert_eq!(answer.expect("OK").into_inner().sessions, 0);
}

#[tokio::test]
async fn what_a_service_asks_for_is_checked() {
    let (nats, redis) = tokio::join!(Nats::start(), Redis::start());
    let gateway = Gateway::builder(&nats, &redis)
        .set("topics.max_per_session", "1")
        .start()
        .await;
    let mut grpc = gateway.grpc().await;
    let mut client = Client::open(&gateway, &ticket(&redis, "42", json!({})).await).await;
    for (bad, field) in [
        (update("", &[], &[]), "user_id"),
        (update("42", &[""], &[]), "follow"),
        (update("42", &[], &["{"]), "unfollow"),
        (update("42", &vec!["a"; 257], &[]), "follow"),
    ] {
        let status = grpc.update_topics(bad).await.expect_err(field);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(field), "{status}");
    }
    // One too many for this session, which keeps what it has.
    let answer = grpc.update_topics(update("42", &["a", "b"], &[])).await;
    assert_eq!(answer.expect("OK").into_inner().sessions, 0);
    let request = PublishTopicRequest {
        topic: " a".to_owned(),
        ..PublishTopicRequest::default()
    };
    let status = grpc.publish_topic(request).await.expect_err("no topic");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("topic"), "{status}");
    nats.publish("usher.user.42", "1").await;
    assert_eq!(client.next_data().await, 1);
}

#[tokio::test]
async fn the_same_over_http_and_nats_and_from_the_command_line() {
    let (nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("a/ü").await).await;
    let body = json!({ "follow": ["room 7", "b"] });
    let answer = posted(&gateway, "/v1/users/a%2F%C3%BC/topics", body).await;
    assert_eq!(answer["sessions"], 1);
    let following = json!({ "following": { "topics": ["room 7", "b"] } });
    assert_eq!(client.next_json().await, following);
    let body = json!({ "event": "said", "data": { "a": 1 } });
    let answer = posted(&gateway, "/v1/topics/room%207", body).await;
    assert_eq!(answer, json!({}));
    let event = json!({ "event": "said", "topic": "room 7", "data": { "a": 1 } });
    assert_eq!(client.next_event().await, event);
    let ran = run(&gateway, &["topic", "room 7", "2", "--event", "said"]).await;
    assert_eq!(ran.line(), "{\"status\":\"dispatched\"}");
    let event = json!({ "event": "said", "topic": "room 7", "data": 2 });
    assert_eq!(client.next_event().await, event);

    let asked = json!({ "user_id": "a/ü", "unfollow": ["b"] }).to_string();
    let answer = nats
        .caller()
        .await
        .request("usher.api.topics", asked.into())
        .await;
    let answer = answer.expect("an answer").payload;
    let answer: serde_json::Value = serde_json::from_slice(&answer).expect("JSON");
    assert_eq!(answer["sessions"], 1);
    let following = json!({ "following": { "topics": ["room 7"] } });
    assert_eq!(client.next_json().await, following);
}

#[tokio::test]
async fn bad_paths_and_bodies_are_refused() {
    let (_nats, _redis, gateway) = world().await;
    for (path, body, word) in [
        ("/v1/topics/%20a", "{}", "topic"),
        ("/v1/topics/%FF", "{}", "UTF-8"),
        ("/v1/topics/50%", "{}", "%25"),
        ("/v1/topics/%zz", "{}", "%25"),
        ("/v1/topics/", "{}", "topic"),
        ("/v1/topics/a", "{\"dat\":1}", "dat"),
        ("/v1/users/42/topics", "{\"follow\":[\"\"]}", "follow"),
        ("/v1/users/42/topics", "{\"follow\":\"a\"}", "sequence"),
        ("/v1/users/42/topics", "{\"user_id\":\"43\"}", "user_id"),
        ("/v1/users/%7B/topics", "{}", "user_id"),
    ] {
        let message = refused(&post(&gateway, path, body).await, 400, "bad_request");
        assert!(message.contains(word), "{path} {body}: {message}");
    }
    for path in [
        "/v1/topics/a/b",
        "/v1/users/42/topic",
        "/v1/users/a/b/topics",
    ] {
        refused(&post(&gateway, path, "{}").await, 404, "not_found");
    }
    let head = http::head("GET", &gateway.grpc, "/v1/topics/a", &[JSON]);
    let answer = http::raw(&gateway.grpc, head.as_bytes()).await;
    refused(&answer, 405, "method_not_allowed");
    let page = [("Origin", "https://evil.example")];
    let answer = post_with(&gateway, "/v1/topics/a", &page, "{}").await;
    assert_eq!(answer.status, 403);
}

#[tokio::test]
async fn a_message_id_is_of_one_topic() {
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let gateway = Gateway::durable(&nats, &redis).start().await;
    let mut grpc = gateway.grpc().await;
    for (topic, seq) in [("a.b", 1), ("a.b", 1), ("c", 2)] {
        let request = PublishTopicRequest {
            topic: topic.to_owned(),
            message: b"1".to_vec(),
            event: String::new(),
            message_id: "same".to_owned(),
        };
        let answer = grpc.publish_topic(request).await.expect("OK").into_inner();
        assert_eq!(answer.seq, seq, "{topic}");
    }
    // As a publisher on NATS scopes it.
    let jetstream = async_nats::jetstream::new(nats.client().await);
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Msg-Id", "$topic.a%2Eb:same");
    let ack = jetstream.publish_with_headers("usher.topic.a%2Eb", headers, "1".into());
    let ack = ack.await.expect("sent").await.expect("stored");
    assert!(ack.duplicate);
}

/// More followers than get a message in one turn of the gateway.
#[tokio::test]
async fn many_followers_get_all_messages_in_their_order() {
    const SESSIONS: usize = 300;
    let (nats, redis, gateway) = world().await;
    let mut sessions = Vec::new();
    for user in 0..SESSIONS {
        let grants = json!({ "topics": ["all", if user % 2 == 0 { "even" } else { "odd" }] });
        let ticket = ticket(&redis, &user.to_string(), grants).await;
        sessions.push(Client::open(&gateway, &ticket).await);
    }
    let publisher = nats.client().await;
    let rounds = 10;
    for round in 0..rounds {
        let publish = async |subject: String, kind: &str| {
            let payload = format!("[{round},\"{kind}\"]");
            let published = publisher.publish(subject, payload.into()).await;
            published.expect("published");
        };
        publish("usher.topic.all".to_owned(), "all").await;
        for user in 0..SESSIONS {
            publish(format!("usher.user.{user}"), "one").await;
        }
        publish("usher.topic.even".to_owned(), "half").await;
        publish("usher.topic.odd".to_owned(), "half").await;
        publish("usher.broadcast".to_owned(), "every").await;
    }
    publisher.flush().await.expect("flushed");
    for session in &mut sessions {
        for round in 0..rounds {
            for kind in ["all", "one", "half", "every"] {
                assert_eq!(session.next_data().await, json!([round, kind]));
            }
        }
    }
    eventually("one subscription a topic", || async {
        nats.subscriptions("usher.topic.all").await == 1
    })
    .await;
}
