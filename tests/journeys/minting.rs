//! `POST /tickets`: a ticket for whoever brings a good token of their login.

mod keys;

use serde_json::{Value, json};

use crate::support::{
    Client, Gateway, Redis, Response,
    gateway::Builder,
    http,
    login::{Login, in_seconds},
    secret, servers,
};

const SECRET: &str = "a secret of at least thirty-two bytes";

async fn post(gateway: &Gateway, token: &str, headers: &[(&str, &str)]) -> Response {
    // Its signature must not be in any log either.
    let bearer = format!("Bearer {}", secret(token));
    let mut all = vec![("Authorization", bearer.as_str()), ("Content-Length", "0")];
    all.extend(headers);
    http::request("POST", &gateway.public, "/tickets", &all).await
}

async fn minted(gateway: &Gateway, token: &str) -> String {
    let response = post(gateway, token, &[]).await;
    assert_eq!(response.status, 201, "{response:?}");
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let body = response.json();
    assert_eq!(body["expires_in"], 60);
    secret(body["ticket"].as_str().expect("a ticket"))
}

/// Asserts that no ticket is given, and returns why.
async fn refused(gateway: &Gateway, token: &str) -> String {
    let response = post(gateway, token, &[]).await;
    assert_eq!(response.status, 401, "{response:?}");
    assert_eq!(response.header("www-authenticate"), Some("Bearer"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let error = response.json()["error"].take();
    assert_eq!(error["code"], "token_invalid");
    error["message"].as_str().expect("a reason").to_owned()
}

fn claims() -> Value {
    json!({ "sub": "42", "exp": in_seconds(600) })
}

/// The claims with another value in one place, or with none.
fn but(mut claims: Value, claim: &str, value: Value) -> Value {
    match value {
        Value::Null => drop(claims.as_object_mut().expect("claims").remove(claim)),
        value => claims[claim] = value,
    }
    claims
}

async fn with_secret(redis: &Redis, nats: &crate::support::Nats) -> Builder {
    Gateway::builder(nats, redis).set("tickets.jwt.secret", SECRET)
}

/// Its tickets are kept in the process.
#[tokio::test]
async fn an_embedded_gateway_mints_too() {
    let mut login = Login::start();
    let embedded = Builder::new().argument("--embedded");
    let gateway = embedded.set("tickets.jwt.secret", SECRET).start().await;
    let token = login.sign_with_secret(SECRET, "HS256", &claims());
    let ticket = minted(&gateway, &token).await;
    assert_eq!(
        Client::open(&gateway, &ticket).await.welcome()["user"],
        "42"
    );
    let again = Client::builder(&gateway, &ticket).refused().await;
    again.assert_refused(401, "ticket_unknown");
}

#[tokio::test]
async fn a_token_is_exchanged_for_a_ticket() {
    let (nats, redis) = servers().await;
    let mut login = Login::start();
    let gateway = with_secret(&redis, &nats).await.start().await;
    let token = login.sign_with_secret(SECRET, "HS256", &claims());
    let ticket = minted(&gateway, &token).await;
    let client = Client::open(&gateway, &ticket).await;
    assert_eq!(client.welcome()["user"], "42");
    // As often as the token is good; each ticket once.
    assert_ne!(minted(&gateway, &token).await, ticket);
    Client::builder(&gateway, &ticket)
        .refused()
        .await
        .assert_refused(401, "ticket_unknown");
    gateway
        .metric_becomes(r#"usher_mints_total{result="minted"}"#, 2.0)
        .await;
}

#[tokio::test]
async fn without_a_key_there_is_nothing_to_ask() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::start(&nats, &redis).await;
    assert_eq!(post(&gateway, "x.y.z", &[]).await.status, 404);
}

#[tokio::test]
async fn a_session_ends_with_its_token() {
    let (nats, redis) = servers().await;
    let mut login = Login::start();
    let builder = || with_secret(&redis, &nats);
    let ends = builder().await.start().await;
    let stays = builder()
        .await
        .set("tickets.jwt.session_ends_with_token", "false");
    let stays = stays.start().await;
    // With the leeway that there is by default: it ends when the token does.
    let soon = in_seconds(10);
    let token = but(claims(), "exp", json!(soon));
    let token = login.sign_with_secret(SECRET, "HS256", &token);
    let mut lasting = Client::open(&stays, &minted(&stays, &token).await).await;
    let mut short = Client::open(&ends, &minted(&ends, &token).await).await;
    assert_eq!(short.expect_goodbye().await["reason"], "session_expired");
    assert_eq!(short.expect_close().await.0, 4001);
    assert!((soon - 1..soon + 25).contains(&in_seconds(0)));
    nats.publish("usher.user.42", "1").await;
    assert_eq!(lasting.next_data().await, 1);
}

#[tokio::test]
async fn every_claim_is_checked() {
    let (nats, redis) = servers().await;
    let mut login = Login::start();
    let gateway = with_secret(&redis, &nats)
        .await
        .set("tickets.jwt.issuer", "https://login.example")
        .set("tickets.jwt.audience", "usher")
        .set("tickets.jwt.user_claim", "uid")
        .start()
        .await;
    let good = json!({
        "uid": "42", "sub": "somebody else", "iss": "https://login.example", "aud": "usher",
        "exp": in_seconds(600), "nbf": in_seconds(-1),
    });
    for (claim, value) in [
        ("aud", json!("usher")),
        ("aud", json!(["another", "usher"])),
        ("uid", json!(42)),
        ("exp", json!(in_seconds(-1))),
        ("nbf", json!(in_seconds(20))),
        ("exp", json!(1e19)),
        ("nbf", Value::Null),
    ] {
        let token = login.sign_with_secret(SECRET, "HS256", &but(good.clone(), claim, value));
        let client = Client::open(&gateway, &minted(&gateway, &token).await).await;
        assert_eq!(client.welcome()["user"], "42", "{claim}");
    }
    for (claim, value, why) in [
        ("aud", json!("another"), "(aud)"),
        ("aud", json!([]), "(aud)"),
        ("aud", Value::Null, "(aud)"),
        ("iss", json!("https://evil.example"), "(iss)"),
        ("iss", Value::Null, "(iss)"),
        ("exp", json!(in_seconds(-600)), "expired"),
        ("exp", json!("soon"), "(exp)"),
        ("exp", Value::Null, "(exp)"),
        ("nbf", json!(in_seconds(600)), "not valid yet"),
        ("uid", Value::Null, "user_claim"),
        ("uid", json!(""), "user id"),
        ("uid", json!("x".repeat(129)), "user id"),
        ("uid", json!("a\nb"), "user id"),
        ("uid", json!(4.5), "user_claim"),
        ("uid", json!(["42"]), "user_claim"),
    ] {
        let token = login.sign_with_secret(SECRET, "HS256", &but(good.clone(), claim, value));
        let reason = refused(&gateway, &token).await;
        assert!(reason.contains(why), "{claim}: {reason}");
    }
}

#[tokio::test]
async fn what_is_no_good_token_is_told_so() {
    let (nats, redis) = servers().await;
    let mut login = Login::start();
    let gateway = with_secret(&redis, &nats).await.start().await;
    let good = login.sign_with_secret(SECRET, "HS256", &claims());
    let (head, signature) = good.rsplit_once('.').expect("three parts");
    let other = if signature.starts_with('A') { "B" } else { "A" };
    let stranger = "another secret of thirty-two bytes!";
    let by_another = login.sign_with_secret(stranger, "HS256", &claims());
    let demanding = json!({ "crit": ["exp2"], "exp2": 1 });
    let demanding = login.order(json!({ "secret": SECRET }), "HS256", &claims(), &demanding);
    for (token, why) in [
        (by_another, "signature"),
        (format!("{head}."), "signature"),
        (format!("{head}.{other}{}", &signature[1..]), "signature"),
        (head.to_owned(), "no JSON Web Token"),
        ("rubbish".to_owned(), "no JSON Web Token"),
        ("a.b.c.d".to_owned(), "no JSON Web Token"),
        (demanding, "crit"),
        // {"alg":"none"}
        (
            format!(
                "eyJhbGciOiJub25lIn0.{}.",
                head.split('.').nth(1).expect("claims")
            ),
            "no JSON Web",
        ),
    ] {
        let reason = refused(&gateway, &token).await;
        assert!(reason.contains(why), "{token}: {reason}");
    }
    for headers in [
        &[][..],
        &[("Authorization", "Basic dTpw")],
        &[("Authorization", "Bearer")],
        &[("Authorization", "Bearer ")],
    ] {
        let mut all = vec![("Content-Length", "0")];
        all.extend(headers);
        let response = http::request("POST", &gateway.public, "/tickets", &all).await;
        response.assert_refused(401, "token_missing");
        assert_eq!(response.header("www-authenticate"), Some("Bearer"));
    }
    post(&gateway, &good, &[("Authorization", "Bearer x")])
        .await
        .assert_refused(400, "bad_request");
    let response = http::get(&gateway.public, "/tickets", &[]).await;
    response.assert_refused(405, "method_not_allowed");
    assert_eq!(response.header("allow"), Some("OPTIONS, POST"));
}

#[tokio::test]
async fn pages_of_allowed_origins_may_ask() {
    let (nats, redis) = servers().await;
    let mut login = Login::start();
    let app = "https://app.example.com";
    let gateway = with_secret(&redis, &nats).await;
    let gateway = gateway.set("public.allowed_origins", app).start().await;
    let token = login.sign_with_secret(SECRET, "HS256", &claims());

    let preflight = |origin: &'static str| {
        let headers = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "authorization"),
        ];
        let address = gateway.public.clone();
        async move { http::request("OPTIONS", &address, "/tickets", &headers).await }
    };
    let response = preflight(app).await;
    assert_eq!(response.status, 204, "{response:?}");
    assert_eq!(response.header("access-control-allow-origin"), Some(app));
    assert_eq!(response.header("vary"), Some("Origin"));
    for allowed in ["Authorization", "Content-Type", "Last-Event-ID"] {
        let headers = response.header("access-control-allow-headers");
        assert!(
            headers.is_some_and(|headers| headers.contains(allowed)),
            "{response:?}"
        );
    }
    let methods = response.header("access-control-allow-methods");
    assert!(methods.is_some_and(|methods| methods.contains("POST")));

    let response = post(&gateway, &token, &[("Origin", app)]).await;
    assert_eq!(response.status, 201, "{response:?}");
    secret(response.json()["ticket"].as_str().expect("a ticket"));
    assert_eq!(response.header("access-control-allow-origin"), Some(app));
    assert_eq!(
        response.header("access-control-expose-headers"),
        Some("Retry-After")
    );
    // Errors too, or the page could not read why.
    let response = post(&gateway, "x.y.z", &[("Origin", app)]).await;
    assert_eq!(response.status, 401);
    assert_eq!(response.header("access-control-allow-origin"), Some(app));

    for evil in ["https://evil.example", "null"] {
        for response in [
            preflight(evil).await,
            post(&gateway, &token, &[("Origin", evil)]).await,
        ] {
            response.assert_refused(403, "origin_denied");
            assert_eq!(response.header("access-control-allow-origin"), None);
            assert_eq!(response.header("vary"), Some("Origin"));
        }
    }
}

#[tokio::test]
async fn a_redis_that_is_away_mints_nothing() {
    let (nats, mut redis) = servers().await;
    let mut login = Login::start();
    let gateway = with_secret(&redis, &nats).await.start().await;
    let token = login.sign_with_secret(SECRET, "HS256", &claims());
    redis.kill();
    let response = post(&gateway, &token, &[]).await;
    response.assert_refused(503, "unavailable");
    assert!(response.header("retry-after").is_some());
}
