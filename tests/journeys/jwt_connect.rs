//! Tokens that open sessions by themselves (`tickets.jwt.connect`).

mod oidc;
mod without_redis;

use serde_json::{Value, json};

use crate::support::{
    Client, Events, Gateway, Nats, Redis, Response,
    client::Builder as ClientBuilder,
    gateway::Builder,
    http,
    login::{Login, in_seconds},
    secret, servers,
};

pub(crate) const SECRET: &str = "a secret of at least thirty-two bytes";

/// A gateway whose sessions a token opens.
pub(crate) fn connecting(nats: &Nats, redis: &Redis) -> Builder {
    Gateway::builder(nats, redis)
        .set("tickets.jwt.secret", SECRET)
        .set("tickets.jwt.connect", "true")
}

/// A token with these claims, and `sub` and `exp` where they have none.
pub(crate) fn token(login: &mut Login, claims: &Value) -> String {
    let mut all = json!({ "sub": "42", "exp": in_seconds(600) });
    for (name, value) in claims.as_object().expect("claims") {
        all[name] = value.clone();
    }
    secret(login.sign_with_secret(SECRET, "HS256", &all))
}

/// Shows a token as the sub-protocol, as a browser does.
pub(crate) fn by_protocol(gateway: &Gateway, token: &str) -> ClientBuilder {
    let shown = format!("usher.token.{token}");
    Client::builder(gateway, "")
        .no_ticket()
        .protocols(&["usher.v1", &shown])
}

/// Shows a token in the header, as any other client does.
fn by_header(gateway: &Gateway, token: &str) -> ClientBuilder {
    Client::builder(gateway, "")
        .no_ticket()
        .header("Authorization", &format!("Bearer {token}"))
}

async fn refused(gateway: &Gateway, token: &str) -> String {
    let response = by_protocol(gateway, token).refused().await;
    let message = invalid(&response);
    assert_eq!(invalid(&by_header(gateway, token).refused().await), message);
    message
}

fn invalid(response: &Response) -> String {
    response.assert_refused(401, "token_invalid");
    let error = response.json()["error"].take();
    error["message"].as_str().expect("a reason").to_owned()
}

#[tokio::test]
async fn a_token_opens_sessions_until_it_expires() {
    let (nats, redis) = servers().await;
    let mut login = Login::start();
    let gateway = connecting(&nats, &redis).start().await;
    let token = token(&mut login, &json!({}));
    let client = by_protocol(&gateway, &token).open().await;
    assert_eq!(client.welcome()["user"], "42");
    let chosen = client.response.header("sec-websocket-protocol");
    assert_eq!(chosen, Some("usher.v1"), "never the token");
    let mut header = by_header(&gateway, &token).open().await;
    assert_eq!(header.welcome()["user"], "42");
    let bearer = format!("Bearer {token}");
    let events = Events::nobody(&gateway).header("Authorization", &bearer);
    let mut events = events.open().await;
    nats.publish("usher.user.42", "1").await;
    assert_eq!(header.next_data().await, 1);
    let frame: Value = serde_json::from_str(&events.next_text().await).expect("JSON");
    assert_eq!(frame["data"], 1);
    // Tickets go on, from the same token too.
    let headers = [("Authorization", bearer.as_str()), ("Content-Length", "0")];
    let minted = http::request("POST", &gateway.public, "/tickets", &headers).await;
    let ticket = secret(minted.json()["ticket"].as_str().expect("a ticket"));
    Client::open(&gateway, &ticket).await;
    Client::open(&gateway, &redis.ticket("42").await).await;
}

#[tokio::test]
async fn a_session_ends_with_its_token_without_the_leeway() {
    let (nats, redis) = servers().await;
    let mut login = Login::start();
    let gateway = connecting(&nats, &redis)
        .set("tickets.jwt.leeway", "300s")
        .set("tickets.jwt.session_ends_with_token", "false")
        .start()
        .await;
    let soon = in_seconds(8);
    let short = token(&mut login, &json!({ "exp": soon }));
    let mut client = by_protocol(&gateway, &short).open().await;
    assert_eq!(client.expect_goodbye().await["reason"], "session_expired");
    assert_eq!(client.expect_close().await.0, 4001);
    assert!((soon - 1..soon + 60).contains(&in_seconds(0)));
    // By then it opens nothing, though `POST /tickets` would take it.
    assert!(refused(&gateway, &short).await.contains("expired"));
    let late = token(&mut login, &json!({ "exp": in_seconds(-5) }));
    assert!(refused(&gateway, &late).await.contains("expired"));
    let endless = json!({ "sub": "42" });
    let endless = secret(login.sign_with_secret(SECRET, "HS256", &endless));
    assert!(refused(&gateway, &endless).await.contains("(exp)"));
}

#[tokio::test]
async fn one_credential_in_one_place_and_never_in_the_url() {
    let (nats, redis) = servers().await;
    let mut login = Login::start();
    let gateway = connecting(&nats, &redis).start().await;
    let token = token(&mut login, &json!({}));
    let ticket = redis.ticket("42").await;
    let bearer = format!("Bearer {token}");
    let in_protocol = format!("usher.token.{token}");
    let ticket_in_protocol = format!("usher.ticket.{ticket}");
    let with_ticket = || Client::builder(&gateway, &ticket);
    for builder in [
        with_ticket().header("Authorization", &bearer),
        with_ticket().protocols(&["usher.v1", &in_protocol]),
        by_protocol(&gateway, &token).header("Authorization", &bearer),
        by_header(&gateway, &token).protocols(&["usher.v1", &ticket_in_protocol]),
        by_header(&gateway, &token).protocols(&["usher.v1", &in_protocol, &in_protocol]),
    ] {
        builder.refused().await.assert_refused(400, "bad_request");
    }
    let events = Events::builder(&gateway, &ticket).header("Authorization", &bearer);
    events.refused().await.assert_refused(400, "bad_request");
    assert!(redis.exists(&ticket).await, "the ticket is not burnt");
    let nobody = || Client::builder(&gateway, "").no_ticket();
    for name in ["token", "access_token"] {
        let response = nobody().query(name, &token).refused().await;
        response.assert_refused(401, "ticket_missing");
        assert!(response.text().contains("usher.token"), "{response:?}");
    }
    nobody()
        .query("ticket", "0123456789abcdef")
        .refused()
        .await
        .assert_refused(401, "ticket_unknown");
    // A token alone chooses no protocol.
    nobody()
        .protocols(&[&in_protocol])
        .refused()
        .await
        .assert_refused(400, "protocol_unknown");
}

#[tokio::test]
async fn tokens_open_nothing_where_they_should_not() {
    let (nats, redis) = servers().await;
    let mut login = Login::start();
    let gateway = connecting(&nats, &redis).set("tickets.jwt.connect", "false");
    let gateway = gateway.start().await;
    let token = token(&mut login, &json!({}));
    for builder in [by_protocol(&gateway, &token), by_header(&gateway, &token)] {
        builder
            .refused()
            .await
            .assert_refused(401, "ticket_missing");
    }
    // A ticket beside one that is for a proxy, say, opens a session as before.
    let bearer = format!("Bearer {token}");
    let ticket = redis.ticket("42").await;
    let client = Client::builder(&gateway, &ticket).header("Authorization", &bearer);
    assert_eq!(client.open().await.welcome()["user"], "42");
}

#[tokio::test]
async fn a_token_for_another_use_is_refused() {
    let (nats, redis) = servers().await;
    let mut login = Login::start();
    let gateway = connecting(&nats, &redis).start().await;
    let claims = json!({ "sub": "42", "exp": in_seconds(600) });
    let mut typed = |typ: Value| {
        let headers = json!({ "typ": typ });
        secret(login.order(json!({ "secret": SECRET }), "HS256", &claims, &headers))
    };
    for typ in [
        "JWT",
        "jwt",
        "at+jwt",
        "AT+JWT",
        "application/at+jwt",
        "application/JWT",
    ] {
        by_protocol(&gateway, &typed(json!(typ))).open().await;
    }
    by_protocol(&gateway, &typed(Value::Null)).open().await;
    for typ in [
        "logout+jwt",
        "secevent+jwt",
        "dpop+jwt",
        "application/",
        "JOSE",
    ] {
        let token = typed(json!(typ));
        let reason = refused(&gateway, &token).await;
        assert!(reason.contains("(typ)"), "{typ}: {reason}");
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str()), ("Content-Length", "0")];
        let minted = http::request("POST", &gateway.public, "/tickets", &headers).await;
        minted.assert_refused(401, "token_invalid");
    }
}

#[tokio::test]
async fn the_issuer_is_one_text_and_the_audience_may_have_another_name() {
    let (nats, redis) = servers().await;
    let mut login = Login::start();
    let issuer = "https://login.example";
    let gateway = connecting(&nats, &redis)
        .set("tickets.jwt.issuer", issuer)
        .set("tickets.jwt.audience", "app")
        .set("tickets.jwt.audience_claim", "client_id")
        .start()
        .await;
    let good = json!({ "iss": issuer, "client_id": "app", "aud": "another" });
    by_protocol(&gateway, &token(&mut login, &good))
        .open()
        .await;
    for (claim, value, why) in [
        ("iss", json!([issuer]), "not one text"),
        (
            "iss",
            json!([issuer, "https://evil.example"]),
            "not one text",
        ),
        ("iss", json!("https://evil.example"), "(iss)"),
        ("iss", Value::Null, "(iss)"),
        ("client_id", json!("another"), "audience_claim"),
        ("client_id", Value::Null, "audience_claim"),
        ("client_id", json!(7), "audience_claim"),
    ] {
        let mut claims = good.clone();
        claims[claim] = value;
        let reason = refused(&gateway, &token(&mut login, &claims)).await;
        assert!(reason.contains(why), "{claim}: {reason}");
    }
    let any = connecting(&nats, &redis).start().await;
    let listed = token(&mut login, &json!({ "iss": [issuer] }));
    assert!(refused(&any, &listed).await.contains("not one text"));
}

#[tokio::test]
async fn claims_that_grant_are_lists() {
    let (nats, redis) = servers().await;
    let mut login = Login::start();
    let gateway = connecting(&nats, &redis)
        .set("tickets.jwt.topics_claim", "https://app.example/topics")
        .set("tickets.jwt.may_follow_claim", "rooms")
        .set("tickets.jwt.may_follow_prefix_claim", "teams")
        .set("tickets.jwt.calls_claim", "calls")
        .start()
        .await;
    let good = json!({
        "https://app.example/topics": ["news"], "rooms": ["room 7"], "teams": ["team-"],
        "calls": ["orders.*"], "topics": "of no matter",
    });
    for claims in [&good, &json!({})] {
        by_protocol(&gateway, &token(&mut login, claims))
            .open()
            .await;
    }
    // A ticket for the token grants the same.
    let bearer = format!("Bearer {}", token(&mut login, &good));
    let headers = [("Authorization", bearer.as_str()), ("Content-Length", "0")];
    let minted = http::request("POST", &gateway.public, "/tickets", &headers).await;
    let ticket = secret(minted.json()["ticket"].as_str().expect("a ticket"));
    let stored: Value = serde_json::from_str(&redis.value(&ticket).await).expect("JSON");
    assert_eq!(stored["topics"], json!(["news"]), "{stored}");
    assert_eq!(stored["may_follow"], json!(["room 7"]), "{stored}");
    assert_eq!(stored["may_follow_prefix"], json!(["team-"]), "{stored}");
    assert_eq!(stored["calls"], json!(["orders.*"]), "{stored}");
    for (claim, value, key) in [
        ("https://app.example/topics", json!("news"), "topics_claim"),
        (
            "https://app.example/topics",
            json!([" news"]),
            "topics_claim",
        ),
        ("rooms", json!([7]), "may_follow_claim"),
        ("rooms", json!(vec!["a"; 257]), "may_follow_claim"),
        ("teams", json!({ "a": 1 }), "may_follow_prefix_claim"),
        ("calls", json!(["a..b"]), "calls_claim"),
    ] {
        let mut claims = good.clone();
        claims[claim] = value;
        let reason = refused(&gateway, &token(&mut login, &claims)).await;
        assert!(reason.contains(key), "{claim}: {reason}");
    }
}

/// The order of checks is that of tickets.
#[tokio::test]
async fn a_token_is_looked_at_in_its_turn() {
    let (nats, redis) = servers().await;
    let app = "https://app.example.com";
    let gateway = connecting(&nats, &redis)
        .set(
            "public.allowed_origins",
            format!("{app},capacitor://localhost"),
        )
        .start()
        .await;
    let mut login = Login::start();
    let token = token(&mut login, &json!({}));
    for (origin, good) in [
        ("https://evil.example", false),
        ("capacitor://evil", false),
        (app, true),
        ("capacitor://localhost", true),
    ] {
        let bad = by_protocol(&gateway, "no.good.token").origin(origin);
        let answer = bad.refused().await;
        match good {
            true => drop(invalid(&answer)),
            false => answer.assert_refused(403, "origin_denied"),
        }
    }
    let since = by_protocol(&gateway, "no.good.token").since("rubbish");
    since.refused().await.assert_refused(400, "since_malformed");
    // A page of another origin may ask for events with the header.
    let preflight = http::request(
        "OPTIONS",
        &gateway.public,
        "/events",
        &[
            ("Origin", "capacitor://localhost"),
            ("Access-Control-Request-Method", "GET"),
            ("Access-Control-Request-Headers", "authorization"),
        ],
    )
    .await;
    assert_eq!(preflight.status, 204, "{preflight:?}");
    let allowed = preflight.header("access-control-allow-origin");
    assert_eq!(allowed, Some("capacitor://localhost"));
    let events = Events::nobody(&gateway)
        .header("Authorization", &format!("Bearer {token}"))
        .header("Origin", "capacitor://localhost")
        .open()
        .await;
    let allowed = events.response.header("access-control-allow-origin");
    assert_eq!(allowed, Some("capacitor://localhost"));
}
