//! A JWT opens a session by itself, and an SDK refreshes it.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Kind, SECRET, Sdk, TOKENS, durable, signing, speaking, wire, with_tokens};
use crate::support::{
    Builder, Gateway, RawWs, eventually,
    login::{self, Login},
    network::Network,
    servers,
    tls::{Ca, Page},
};

fn connecting(gateway: Builder) -> Builder {
    speaking(gateway)
        .set("tickets.jwt.secret", SECRET)
        .set("tickets.jwt.connect", "true")
}

fn options(life: u64) -> Value {
    signing(life, json!({}))
}

/// Longer than the first token, and than several after it.
#[tokio::test]
async fn sdks_refresh_and_stay() {
    refresh_and_stay(&Kind::ALL).await;
}

pub(super) async fn refresh_and_stay(kinds: &[Kind]) {
    let (nats, redis) = servers().await;
    let gateway = connecting(Gateway::builder(&nats, &redis)).start().await;
    let sdk = |kind: Kind| Sdk::with(kind, &gateway, "42", &gateway.public, options(14));
    let sdks: Vec<_> = kinds.iter().map(|&kind| (kind, sdk(kind))).collect();
    for (_, sdk) in &sdks {
        sdk.sees("connected", 1).await;
        sdk.sees("token", 4).await;
    }
    nats.publish("usher.user.42", "1").await;
    for (kind, sdk) in &sdks {
        sdk.sees("publication", 1).await;
        assert_eq!(sdk.all("connecting").len(), 1, "{kind:?}");
    }
    assert_eq!(gateway.metric("usher_session_closes_total").await, 0.0);
}

/// Each SDK gets itself another token, in place of one that has expired.
#[tokio::test]
async fn an_expired_token_is_replaced_and_a_bad_one_is_final() {
    replace_expired(&Kind::ALL).await;
}

pub(super) async fn replace_expired(kinds: &[Kind]) {
    let (nats, redis) = servers().await;
    let gateway = connecting(Gateway::builder(&nats, &redis)).start().await;
    let mut login = Login::start();
    let expired = json!({"sub": "42", "exp": login::in_seconds(-100)});
    let expired = login.sign_with_secret(SECRET, "HS256", &expired);
    for &kind in kinds {
        let mut more = options(600);
        more["token"] = expired.clone().into();
        let sdk = Sdk::with(kind, &gateway, "42", &gateway.public, more);
        sdk.sees("connected", 1).await;
        assert_eq!(sdk.all("token").len(), 1, "{kind:?}");

        let mut more = options(600);
        more["secret"] = "another secret of at least 32 bytes".into();
        let sdk = Sdk::with(kind, &gateway, "42", &gateway.public, more);
        let end = sdk.sees("disconnected", 1).await;
        assert_eq!(end["code"], 3500, "{kind:?}");
        assert_eq!(end["reason"], "token_invalid", "{kind:?}");
    }
}

#[tokio::test]
async fn a_token_that_is_not_valid_yet_is_good_later() {
    let (nats, redis) = servers().await;
    let gateway = connecting(Gateway::builder(&nats, &redis)).start().await;
    let (later, end) = (login::in_seconds(100), login::in_seconds(600));
    let claims = json!({"sub": "42", "nbf": later, "exp": end});
    let token = Login::start().sign_with_secret(SECRET, "HS256", &claims);
    let mut socket = wire::raw(&gateway).await;
    let connect = json!({"id": 1, "connect": {"token": token}});
    wire::say(&mut socket, &connect.to_string()).await;
    let answer = wire::reply(&mut socket).await;
    let error = &answer["error"];
    assert_eq!(
        (&error["code"], &error["temporary"]),
        (&json!(100), &json!(true))
    );
}

/// With tokens all of them come back, and recover.
#[tokio::test]
async fn sdks_come_back_by_their_token() {
    come_back(&Kind::ALL).await;
}

pub(super) async fn come_back(kinds: &[Kind]) {
    let (nats, redis, mut gateway) = durable(&TOKENS).await;
    let network = Network::to(&format!("ws://{}", gateway.public)).await;
    let sdk = |kind: Kind| Sdk::with(kind, &gateway, "42", network.address(), options(600));
    let sdks: Vec<_> = kinds.iter().map(|&kind| (kind, sdk(kind))).collect();
    for (_, sdk) in &sdks {
        sdk.sees("subscribed", 2).await;
    }
    gateway.kill();
    gateway.wait().await;
    let publisher = nats.client().await;
    crate::durable::store(&publisher, "usher.user.42", 7).await;
    let next = connecting(Gateway::durable(&nats, &redis)).start().await;
    network.lead_to(&format!("ws://{}", next.public));
    for (kind, sdk) in &sdks {
        let subscribed = sdk.sees("subscribed", 4).await;
        assert_eq!(subscribed["recovered"], true, "{kind:?}");
        sdk.sees("publication", 1).await;
    }
}

#[tokio::test]
async fn connect_says_when_to_refresh_and_refresh_prolongs() {
    let (nats, redis) = servers().await;
    let gateway = connecting(Gateway::builder(&nats, &redis)).start().await;
    let mut login = Login::start();
    let mut sign = |user: &str, life: i64| {
        let claims = json!({"sub": user, "exp": login::in_seconds(life)});
        login.sign_with_secret(SECRET, "HS256", &claims)
    };
    // Less is left where the machine is slow.
    for (life, least, most) in [(600, 480, 541), (80, 25, 41), (30, 5, 16)] {
        let connect = json!({"id": 1, "connect": {"token": sign("42", life)}});
        let mut socket = wire::raw(&gateway).await;
        wire::say(&mut socket, &connect.to_string()).await;
        let answer = wire::reply(&mut socket).await;
        assert_eq!(answer["connect"]["expires"], true, "{answer}");
        let ttl = answer["connect"]["ttl"].as_u64().expect("seconds");
        assert!((least..=most).contains(&ttl), "{ttl} of {life}");
    }
    // Both at once are one too many, and use nothing up.
    let ticket = redis.ticket("42").await;
    let (fresh, others) = (sign("42", 600), sign("43", 600));
    let both = json!({"token": fresh, "data": {"ticket": ticket}});
    let mut socket = wire::raw(&gateway).await;
    wire::say(&mut socket, &json!({"id": 1, "connect": both}).to_string()).await;
    let (code, reason, _) = socket.expect_close().await;
    assert_eq!((code, &*reason), (3500, "bad_request"));
    assert!(redis.exists(&ticket).await);
    // One by a ticket says nothing of the kind, and can't be refreshed.
    let mut socket = wire::connected(&gateway, &redis, "42").await;
    let refresh = |token: &str| json!({"id": 2, "refresh": {"token": token}}).to_string();
    wire::say(&mut socket, &refresh("a.b.c")).await;
    let answer = wire::reply(&mut socket).await;
    let error = &answer["error"];
    assert_eq!(
        (&error["code"], &error["temporary"]),
        (&json!(100), &json!(true))
    );

    let connect = json!({"id": 1, "connect": {"token": sign("42", 12)}});
    let mut socket = wire::raw(&gateway).await;
    wire::say(&mut socket, &connect.to_string()).await;
    wire::reply(&mut socket).await;
    wire::say(&mut socket, &refresh(&fresh)).await;
    let answer = wire::reply(&mut socket).await;
    assert_eq!(answer["refresh"]["expires"], true, "{answer}");
    assert!(answer["refresh"]["ttl"].as_u64() > Some(480), "{answer}");
    // Too soon, or no token at all: nothing is changed.
    wire::say(&mut socket, &refresh("a.b.c")).await;
    assert_eq!(wire::reply(&mut socket).await["error"]["code"], 100);
    tokio::time::sleep(Duration::from_secs(13)).await;
    nats.publish("usher.user.42", "1").await;
    assert_eq!(wire::reply(&mut socket).await["push"]["pub"]["data"], 1);
    // Another user's.
    wire::say(&mut socket, &refresh(&others)).await;
    let (code, reason, _) = socket.expect_close().await;
    assert_eq!((code, &*reason), (3501, "bad_frame"));
}

/// A session that is not refreshed ends with its token.
#[tokio::test]
async fn a_token_that_expires_ends_its_session() {
    let (nats, redis) = servers().await;
    let gateway = connecting(Gateway::builder(&nats, &redis)).start().await;
    let mut login = Login::start();
    let claims = json!({"sub": "42", "exp": login::in_seconds(12)});
    let token = login.sign_with_secret(SECRET, "HS256", &claims);
    let mut socket = wire::raw(&gateway).await;
    let connect = json!({"id": 1, "connect": {"token": token}});
    wire::say(&mut socket, &connect.to_string()).await;
    wire::reply(&mut socket).await;
    let (code, reason, _) = socket.expect_close().await;
    assert_eq!((code, &*reason), (3005, "session_expired"));
}

/// Topics that a refreshed token names: as many as a session may follow, as at `connect`.
#[tokio::test]
async fn a_refreshed_token_names_as_many_topics_as_a_session_may_follow() {
    let (nats, redis) = servers().await;
    let gateway = with_tokens(Gateway::builder(&nats, &redis));
    let gateway = gateway.set("topics.max_per_session", "3").start().await;
    let mut login = Login::start();
    let mut socket = named(&gateway, &mut login, &["a"]).await;
    refresh_with(&mut socket, &mut login, &["a", "b", "c", "d"]).await;
    for topic in ["b", "c"] {
        let answer = wire::reply(&mut socket).await;
        assert_eq!(answer["push"]["channel"], topic, "{answer}");
        assert!(answer["push"]["subscribe"].is_object(), "{answer}");
    }
    for (topic, data) in [("d", 1), ("c", 2)] {
        let subject = format!("usher.topic.{topic}");
        nats.publish(&subject, &data.to_string()).await;
    }
    assert_eq!(wire::reply(&mut socket).await["push"]["channel"], "c");
}

/// A session that can't follow what its fresh token names ends, so that its client connects anew:
/// no reply would tell it, and the next refresh would leave these topics out.
#[tokio::test]
async fn topics_of_a_refreshed_token_that_nats_does_not_confirm_end_the_session() {
    let (mut nats, redis) = servers().await;
    let gateway = with_tokens(Gateway::builder(&nats, &redis)).start().await;
    let mut login = Login::start();
    let mut socket = named(&gateway, &mut login, &["a"]).await;
    nats.pause();
    refresh_with(&mut socket, &mut login, &["a", "b"]).await;
    let (code, reason, _) = socket.expect_close().await;
    assert_eq!((code, &*reason), (3010, "bus_lost"));
    nats.resume();
}

fn naming(login: &mut Login, topics: &[&str]) -> String {
    let claims = json!({"sub": "42", "exp": login::in_seconds(600), "topics": topics});
    login.sign_with_secret(SECRET, "HS256", &claims)
}

/// A session by a token that names these topics.
async fn named(gateway: &Gateway, login: &mut Login, topics: &[&str]) -> RawWs {
    let mut socket = wire::raw(gateway).await;
    let connect = json!({"id": 1, "connect": {"token": naming(login, topics)}});
    wire::say(&mut socket, &connect.to_string()).await;
    let answer = wire::reply(&mut socket).await;
    assert!(answer["connect"].is_object(), "{answer}");
    socket
}

/// The session goes on by a token that names these topics.
async fn refresh_with(socket: &mut RawWs, login: &mut Login, topics: &[&str]) {
    let refresh = json!({"id": 2, "refresh": {"token": naming(login, topics)}});
    wire::say(socket, &refresh.to_string()).await;
    let answer = wire::reply(socket).await;
    assert_eq!(answer["refresh"]["expires"], true, "{answer}");
}

/// Strangers may have used up what unknown keys may fetch: the key may be there a moment later.
#[tokio::test]
async fn a_key_that_is_not_known_yet_is_a_temporary_error() {
    let (nats, redis) = servers().await;
    let (mut login, ca) = (Login::start(), Ca::new());
    let one = login.key("one", "rsa");
    let set = |keys: &[&Value]| {
        let keys: Vec<_> = keys.iter().map(|key| &key["jwk"]).collect();
        json!({ "keys": keys }).to_string()
    };
    let page = Page::new(&ca, set(&[&one])).await;
    let gateway = speaking(Gateway::builder(&nats, &redis))
        .set("tickets.jwt.connect", "true")
        .set("tickets.jwt.jwks_url", &page.url)
        .set("tickets.jwt.issuer", "i")
        .set("tickets.jwt.audience", "a")
        .environment("SSL_CERT_FILE", ca.file())
        .start()
        .await;
    let claims = json!({"sub": "42", "iss": "i", "aud": "a", "exp": login::in_seconds(600)});
    for number in 0..5 {
        let headers = json!({ "kid": format!("unknown-{number}") });
        let token = login.order(json!("one"), "RS256", &claims, &headers);
        let mut socket = wire::raw(&gateway).await;
        let connect = json!({"id": 1, "connect": {"token": token}});
        wire::say(&mut socket, &connect.to_string()).await;
        let answer = wire::reply(&mut socket).await;
        let error = &answer["error"];
        assert_eq!(error["code"], 100, "{answer}");
        assert_eq!(error["temporary"], true, "{answer}");
    }
    let two = login.key("two", "p256");
    page.show(Some(set(&[&one, &two])));
    let token = login.sign("two", "ES256", &claims);
    eventually("the new key opens a session", || async {
        let mut socket = wire::raw(&gateway).await;
        let connect = json!({"id": 1, "connect": {"token": token}});
        wire::say(&mut socket, &connect.to_string()).await;
        wire::reply(&mut socket).await["connect"].is_object()
    })
    .await;
}
