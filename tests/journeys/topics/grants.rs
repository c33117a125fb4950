//! What a ticket grants, and what a client asks for as it comes.

use serde_json::json;

use super::{ask, ticket};
use crate::{
    support::{Client, sse::Events, world},
    talking::is_error,
};

#[tokio::test]
async fn a_session_follows_what_its_ticket_names_and_what_it_may() {
    let (nats, redis, gateway) = world().await;
    let granted = || {
        let grants = json!({
            "topics": ["news"],
            "may_follow": ["room-7"],
            "may_follow_prefix": ["team "],
        });
        ticket(&redis, "42", grants)
    };
    let ticket = granted().await;
    let builder = Client::builder(&gateway, &ticket)
        .query("follow", "team%20a")
        .query("follow", "room-8")
        .query("follow", "news")
        .query("follow", "room-7");
    let mut client = builder.open().await;
    let topics = json!(["news", "team a", "room-7"]);
    assert_eq!(client.welcome()["topics"], topics);
    for subject in ["news", "team%20a", "room-7"] {
        nats.publish(&format!("usher.topic.{subject}"), "1").await;
        assert_eq!(client.next_data().await, 1);
    }
    let answer = ask(&mut client, json!({ "follow": ["room-70"] })).await;
    is_error(&answer, None, "forbidden");

    // Events too, and raw sessions.
    let ticket = granted().await;
    let events = Events::builder(&gateway, &ticket).query("follow", "room-7");
    let mut events = events.open().await;
    assert_eq!(events.welcome()["topics"], json!(["news", "room-7"]));
    let ticket = granted().await;
    let raw = Client::builder(&gateway, &ticket).protocols(&["usher.raw.v1"]);
    let mut raw = raw.open().await;
    nats.publish("usher.topic.news", "{\"a\":2}").await;
    assert_eq!(events.next_data().await, json!({ "a": 2 }));
    assert_eq!(raw.next_text().await, "{\"a\":2}");
    assert_eq!(client.next_data().await, json!({ "a": 2 }));
}

#[tokio::test]
async fn a_bad_topic_in_the_address_is_refused() {
    let (_nats, redis, gateway) = world().await;
    let ticket = redis.ticket("42").await;
    for bad in ["", "%20a", "%7Ba", &"x".repeat(129)] {
        let refused = Client::builder(&gateway, &ticket).query("follow", bad);
        refused.refused().await.assert_refused(400, "bad_request");
    }
    // None of them has used the ticket up.
    Client::open(&gateway, &ticket).await;
}
