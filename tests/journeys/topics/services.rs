//! What services do with topics.

use serde_json::json;
use tonic::Code;
use usher::proto::{PublishTopicRequest, UpdateTopicsRequest};

use super::ticket;
use crate::support::{Client, Gateway, Nats, Redis, sse::Events, world};

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
