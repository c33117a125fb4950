//! `POST /tickets`: a ticket for whoever brings a good token of their login.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    Client, Gateway, Redis, Response,
    gateway::Builder,
    http,
    login::{Login, in_seconds},
    secret, servers,
    tls::{Ca, Page},
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
async fn each_kind_of_public_key_is_understood() {
    let (nats, redis) = servers().await;
    let mut login = Login::start();
    let folder = TempDir::new().expect("a folder");
    for (kind, algorithm, others) in [
        ("rsa", "RS256", &["RS512", "PS256"][..]),
        ("p256", "ES256", &[]),
        ("p384", "ES384", &[]),
        ("ed25519", "EdDSA", &[]),
    ] {
        let file = folder.path().join(kind);
        let key = login.key(kind, kind);
        fs::write(&file, key["pem"].as_str().expect("a key")).expect("written");
        let builder = || {
            let file = file.display().to_string();
            Gateway::builder(&nats, &redis).set("tickets.jwt.public_key_file", file)
        };
        let gateway = builder().start().await;
        let token = login.sign(kind, algorithm, &claims());
        let client = Client::open(&gateway, &minted(&gateway, &token).await).await;
        assert_eq!(client.welcome()["user"], "42");
        // The public key is no secret that both sides know.
        let forged = forge_with_public_key(&key);
        let reason = refused(&gateway, &forged).await;
        assert!(reason.contains("algorithm"), "{kind}: {reason}");
        for other in others {
            let token = login.sign(kind, other, &claims());
            assert!(
                refused(&gateway, &token).await.contains("algorithm"),
                "{other}"
            );
            let gateway = builder()
                .set("tickets.jwt.algorithms", *other)
                .start()
                .await;
            minted(&gateway, &token).await;
        }
    }
    let weak = folder.path().join("weak");
    let key = login.key("weak", "rsa1024");
    fs::write(&weak, key["pem"].as_str().expect("a key")).expect("written");
    let weak = weak.display().to_string();
    let builder = Gateway::builder(&nats, &redis).set("tickets.jwt.public_key_file", weak);
    let (code, output) = builder.fails().await;
    assert_eq!(code, Some(78), "{output}");
    assert!(output.contains("2048 bits or more"), "{output}");
}

/// The oldest trick: HS256, with the text of the public key as its secret.
fn forge_with_public_key(key: &Value) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let encode = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let signed = format!(
        "{}.{}",
        encode(json!({ "alg": "HS256", "typ": "JWT", "kid": key["jwk"]["kid"] })),
        encode(claims())
    );
    let pem = key["pem"].as_str().expect("a key").as_bytes();
    let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, pem);
    let signature = ring::hmac::sign(&secret, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A gateway that fetches its keys from this page.
fn with_page(nats: &crate::support::Nats, redis: &Redis, ca: &Ca, page: &Page) -> Builder {
    Gateway::builder(nats, redis)
        .set("tickets.jwt.jwks_url", &page.url)
        .set("tickets.jwt.issuer", "i")
        .set("tickets.jwt.audience", "a")
        .environment("SSL_CERT_FILE", ca.file())
}

fn set(keys: &[&Value]) -> String {
    let keys: Vec<_> = keys.iter().map(|key| &key["jwk"]).collect();
    json!({ "keys": keys }).to_string()
}

fn for_us() -> Value {
    json!({ "sub": "42", "iss": "i", "aud": "a", "exp": in_seconds(600) })
}

#[tokio::test]
async fn keys_rotate_without_a_restart() {
    let (nats, redis) = servers().await;
    let (mut login, ca) = (Login::start(), Ca::new());
    let one = login.key("one", "rsa");
    let two = login.key("two", "p256");
    let three = login.key("three", "ed25519");
    let page = Page::new(&ca, set(&[&one, &two])).await;
    let gateway = with_page(&nats, &redis, &ca, &page).start().await;
    let mut token = |key: &str, algorithm: &str| login.sign(key, algorithm, &for_us());
    let fetched = r#"usher_jwks_fetches_total{result="ok"}"#;
    gateway.metric_becomes(fetched, 1.0).await;
    minted(&gateway, &token("one", "RS256")).await;
    minted(&gateway, &token("two", "ES256")).await;
    assert_eq!(page.asked(), 1, "kept, not fetched for each token");

    // All who come with a new key at once wait for one fetch.
    page.show(Some(set(&[&two, &three])));
    let new = token("three", "EdDSA");
    let crowd = (0..20).map(|_| minted(&gateway, &new));
    futures_util::future::join_all(crowd).await;
    assert_eq!(page.asked(), 2);
    minted(&gateway, &token("two", "ES256")).await;
    // One that is withdrawn is gone.
    assert!(
        refused(&gateway, &token("one", "RS256"))
            .await
            .contains("kid")
    );

    // However many tokens name keys that nobody has, the page is left in peace.
    let before = page.asked();
    for number in 0..50 {
        let headers = json!({ "kid": format!("unknown-{number}") });
        let token = login.order(json!("two"), "ES256", &for_us(), &headers);
        assert!(refused(&gateway, &token).await.contains("kid"));
    }
    assert!(page.asked() <= before + 10, "{}", page.asked());
}

#[tokio::test]
async fn keys_outlive_an_outage_of_their_page_for_a_while() {
    let (nats, redis) = servers().await;
    let (mut login, ca) = (Login::start(), Ca::new());
    let key = login.key("one", "rsa");
    let page = Page::new(&ca, set(&[&key])).await;
    let builder = with_page(&nats, &redis, &ca, &page);
    let gateway = builder.set("tickets.jwt.jwks_max_age", "20s").start().await;
    let token = login.sign("one", "RS256", &for_us());
    minted(&gateway, &token).await;
    page.show(None);
    let failed = r#"usher_jwks_fetches_total{result="failed"}"#;
    crate::support::eventually("a fetch fails", || async {
        gateway.metric(failed).await > 0.0
    })
    .await;
    minted(&gateway, &token).await;
    crate::support::eventually("the keys are too old", || async {
        post(&gateway, &token, &[]).await.status == 503
    })
    .await;
    let response = post(&gateway, &token, &[]).await;
    response.assert_refused(503, "unavailable");
    page.show(Some(set(&[&key])));
    crate::support::eventually("the keys are back", || async {
        post(&gateway, &token, &[]).await.status == 201
    })
    .await;
}

#[tokio::test]
async fn a_key_set_holds_only_what_signs() {
    let (nats, redis) = servers().await;
    let (mut login, ca) = (Login::start(), Ca::new());
    let one = login.key("one", "p256");
    let mut for_encryption = login.key("enc", "rsa");
    for_encryption["jwk"]["use"] = json!("enc");
    let mut for_ps = login.key("ps", "rsa");
    for_ps["jwk"]["alg"] = json!("PS256");
    // A symmetric key in a public place: anybody could sign with it.
    let symmetric = json!({ "jwk": {
        "kty": "oct", "kid": "oct", "k": "YSBzZWNyZXQgb2YgYXQgbGVhc3QgdGhpcnR5LXR3byBieXRlcw",
    }});
    let rubbish = json!({ "jwk": { "kty": "EC", "crv": "P-256", "x": 1 } });
    let keys = [&symmetric, &rubbish, &for_encryption, &one, &for_ps];
    let page = Page::new(&ca, set(&keys)).await;
    let builder = with_page(&nats, &redis, &ca, &page);
    let gateway = builder.start().await;
    minted(&gateway, &login.sign("one", "ES256", &for_us())).await;
    minted(&gateway, &login.sign("ps", "PS256", &for_us())).await;
    // Without a key id: the only key that speaks the algorithm.
    let nameless = login.order(json!("one"), "ES256", &for_us(), &json!({}));
    minted(&gateway, &nameless).await;
    let forged = login.order(
        json!({ "secret": SECRET }),
        "HS256",
        &for_us(),
        &json!({ "kid": "oct" }),
    );
    for token in [
        login.sign("enc", "RS256", &for_us()),
        login.sign("ps", "RS256", &for_us()),
        forged,
        forge_with_public_key(&one),
    ] {
        refused(&gateway, &token).await;
    }
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
