//! A session goes on with a fresh ticket or token.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    jwt_connect::{by_protocol, connecting, token},
    support::{
        Client, Events, Frame, Gateway,
        login::{Login, in_seconds},
        secret, servers,
    },
    talking::{ask, is_error},
};

/// Sends a fresh ticket or token, and returns how long the session now lasts.
async fn refreshed(client: &mut Client, said: Value) -> Option<u64> {
    let id = said["id"].clone();
    let mut answer = ask(client, said).await;
    let refreshed = answer["refreshed"].take();
    assert!(refreshed.is_object(), "{answer}");
    assert_eq!(refreshed["id"], id, "{refreshed}");
    let following = client.next_json().await;
    let mut expected = json!({ "topics": [] });
    if !id.is_null() {
        expected["id"] = id;
    }
    assert_eq!(following, json!({ "following": expected }));
    refreshed["in"].as_u64()
}

/// The session says that it ends; returns in how many seconds.
async fn expiring(client: &mut Client) -> u64 {
    let frame = client.next_json().await;
    frame["expiring"]["in"].as_u64().expect("expiring")
}

#[tokio::test]
async fn a_fresh_token_prolongs_a_session() {
    let (nats, redis) = servers().await;
    let mut login = Login::start();
    let gateway = connecting(&nats, &redis).start().await;
    let soon = in_seconds(16);
    let first = token(&mut login, &json!({ "exp": soon }));
    let mut client = by_protocol(&gateway, &first).open().await;
    // In the middle of a short life.
    let left = expiring(&mut client).await;
    assert!((5..=8).contains(&left), "{left}");
    let fresh = token(&mut login, &json!({ "exp": in_seconds(600) }));
    let left = refreshed(&mut client, json!({ "id": "a", "token": fresh })).await;
    assert!(
        left.is_some_and(|left| (590..=600).contains(&left)),
        "{left:?}"
    );
    // The old end passes, and nobody is told of it again.
    let past = Duration::from_secs(u64::try_from(soon + 2 - in_seconds(0)).unwrap_or(2));
    client.quiet_for(past).await;
    nats.publish("usher.user.42", "1").await;
    assert_eq!(client.next_data().await, 1);
    // A new end is told of anew.
    let soon = in_seconds(8);
    let short = token(&mut login, &json!({ "exp": soon }));
    let left = refreshed(&mut client, json!({ "token": short })).await;
    assert!(left.is_some_and(|left| (5..=8).contains(&left)), "{left:?}");
    let left = expiring(&mut client).await;
    assert!((1..=4).contains(&left), "{left}");
    assert_eq!(client.expect_goodbye().await["reason"], "session_expired");
    assert_eq!(client.expect_close().await.0, 4001);
    assert!((soon - 1..soon + 25).contains(&in_seconds(0)));
}

/// A client that follows a topic in the moment of its refresh does not keep a topic that the
/// fresh ticket does not grant.
#[tokio::test]
async fn a_follow_beside_a_refresh_keeps_to_the_new_grants() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis).start().await;
    for follow_first in [true, false] {
        let value = json!({"user_id": "42", "may_follow": ["a"]});
        let ticket = redis.ticket_json(value).await;
        let mut client = Client::open(&gateway, &ticket).await;
        let fresh = redis.ticket("42").await;
        let mut said = [
            json!({"follow": ["a"]}),
            json!({"id": "r", "ticket": fresh}),
        ];
        if !follow_first {
            said.reverse();
        }
        for said in said {
            client.send_text(&said.to_string()).await;
        }
        // The last answer to the refresh says what is followed then.
        loop {
            let frame = client.next_json().await;
            if frame["following"]["id"] == "r" {
                assert_eq!(frame["following"]["topics"], json!([]), "{frame}");
                break;
            }
        }
        // A follow that was judged later is forbidden, which may be said after it.
        nats.publish("usher.topic.a", "1").await;
        nats.publish("usher.user.42", "2").await;
        loop {
            let frame = client.next_json().await;
            if frame["data"].is_u64() {
                assert_eq!(frame["data"], 2, "{frame}");
                break;
            }
        }
    }
}

/// With every log line on: what clients send is in none of them.
#[tokio::test]
async fn a_fresh_ticket_is_used_up_and_may_have_no_end() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set(
            "log.filter",
            "trace,tungstenite=trace,tungstenite::protocol=trace",
        )
        .start()
        .await;
    let own = format!("http://{}", gateway.public);
    let end = in_seconds(14);
    let first = json!({ "user_id": "42", "expires_at": end });
    let first = redis.ticket_json(first).await;
    let mut client = Client::builder(&gateway, &first).origin(&own).open().await;
    // Bound to the page that the session is of.
    let fresh = json!({ "user_id": "42", "origin": own });
    let fresh = redis.ticket_json(fresh).await;
    let left = refreshed(&mut client, json!({ "ticket": fresh, "id": "7" })).await;
    assert_eq!(left, None, "it has no end");
    assert!(!redis.exists(&fresh).await, "a ticket is used once");
    let past = Duration::from_secs(u64::try_from(end + 2 - in_seconds(0)).unwrap_or(2));
    client.quiet_for(past).await;
    let answer = ask(&mut client, json!({ "ticket": fresh })).await;
    is_error(&answer, None, "ticket_unknown");
    nats.publish("usher.user.42", "1").await;
    assert_eq!(client.next_data().await, 1);
}

#[tokio::test]
async fn what_is_not_good_changes_nothing() {
    let (nats, mut redis) = servers().await;
    let mut login = Login::start();
    let gateway = connecting(&nats, &redis).start().await;
    let good = token(&mut login, &json!({}));
    let bound = json!({ "user_id": "42", "origin": "https://another.example" });
    let bound = redis.ticket_json(bound).await;
    let own = format!("http://{}", gateway.public);
    let expired = token(&mut login, &json!({ "exp": in_seconds(-1) }));
    for (said, code) in [
        (json!({ "ticket": "0123456789abcdef" }), "ticket_unknown"),
        (json!({ "ticket": "short" }), "ticket_unknown"),
        (json!({ "ticket": bound }), "origin"),
        (json!({ "token": "rubbish" }), "token_invalid"),
        (json!({ "token": expired }), "token_invalid"),
    ] {
        let end = in_seconds(10);
        let ticket = json!({ "user_id": "42", "expires_at": end });
        let ticket = redis.ticket_json(ticket).await;
        let mut client = Client::builder(&gateway, &ticket).origin(&own).open().await;
        let mut said = said;
        said["id"] = json!("x");
        let answer = ask(&mut client, said).await;
        is_error(&answer, Some("x"), code);
        // One in 5 s, whatever became of it.
        let answer = ask(&mut client, json!({ "token": good, "id": "y" })).await;
        is_error(&answer, Some("y"), "too_many");
        assert_eq!(client.expect_goodbye().await["reason"], "session_expired");
        assert!(in_seconds(0) >= end - 1);
    }

    let mut client = by_protocol(&gateway, &good).open().await;
    for bad in [json!({ "token": 7 }), json!({ "ticket": ["a"] })] {
        let answer = ask(&mut client, bad).await;
        is_error(&answer, None, "bad_request");
    }
    redis.kill();
    let answer = ask(&mut client, json!({ "ticket": "0123456789abcdef" })).await;
    is_error(&answer, None, "unavailable");
    nats.publish("usher.user.42", "1").await;
    assert_eq!(client.next_data().await, 1);
}

#[tokio::test]
async fn without_an_origin_a_bound_ticket_does_not_do() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::start(&nats, &redis).await;
    let own = format!("http://{}", gateway.public);
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let bound = redis
        .ticket_json(json!({ "user_id": "42", "origin": own }))
        .await;
    let answer = ask(&mut client, json!({ "ticket": bound })).await;
    is_error(&answer, None, "origin");
    assert!(!redis.exists(&bound).await, "it is used up all the same");
    // Where tokens open no sessions, none prolongs one.
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let answer = ask(
        &mut client,
        json!({ "token": secret("a.good.token-of-somebody") }),
    )
    .await;
    is_error(&answer, None, "token_invalid");
}

#[tokio::test]
async fn another_users_credential_ends_the_session() {
    let (nats, redis) = servers().await;
    let mut login = Login::start();
    let gateway = connecting(&nats, &redis).start().await;
    let stranger = token(&mut login, &json!({ "sub": "43" }));
    for said in [
        json!({ "token": stranger }),
        json!({ "ticket": redis.ticket("43").await }),
    ] {
        let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
        client.send_text(&said.to_string()).await;
        let close = client.expect_close().await;
        assert_eq!(close, (4102, "bad_frame".to_owned()), "{said}");
    }
}

/// `session.max_lifetime` is told of like any end, and nothing prolongs it.
#[tokio::test]
async fn a_lifetime_is_not_prolonged() {
    let (nats, redis) = servers().await;
    let mut login = Login::start();
    let gateway = connecting(&nats, &redis)
        .set("session.max_lifetime", "20s")
        .start()
        .await;
    let begun = Instant::now();
    let long = token(&mut login, &json!({}));
    let mut client = by_protocol(&gateway, &long).open().await;
    let left = refreshed(&mut client, json!({ "token": long })).await;
    assert!(left.is_some_and(|left| left <= 20), "{left:?}");
    assert!((1..=10).contains(&expiring(&mut client).await));
    assert_eq!(client.expect_goodbye().await["reason"], "session_expired");
    assert!(begun.elapsed() >= Duration::from_secs(18));
}

#[tokio::test]
async fn who_has_frames_of_our_own_is_told() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::start(&nats, &redis).await;
    let ticket = async || {
        let ticket = json!({ "user_id": "42", "expires_at": in_seconds(8) });
        redis.ticket_json(ticket).await
    };
    let mut events = Events::open(&gateway, &ticket().await).await;
    let raw = Client::builder(&gateway, &ticket().await).protocols(&["usher.raw.v1"]);
    let mut raw = raw.open().await;
    raw.send_text(r#"{"ticket":"0123456789abcdef"}"#).await;
    let expiring = events.next_json().await;
    let left = expiring["expiring"]["in"].as_u64();
    assert!(
        left.is_some_and(|left| (1..=4).contains(&left)),
        "{expiring}"
    );
    assert_eq!(events.expect_goodbye().await["reason"], "session_expired");
    // A raw session hears nothing of it, and sends nothing that counts.
    match raw.next_frame().await {
        Frame::Closed(code, _) => assert_eq!(code, 4001),
        frame => panic!("{frame:?}"),
    }
}
