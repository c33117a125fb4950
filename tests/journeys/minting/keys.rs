//! The keys that sign tokens: public keys, and key sets by HTTPS.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{SECRET, claims, minted, post, refused};
use crate::support::{
    Client, Gateway, Redis,
    gateway::Builder,
    login::{Login, in_seconds},
    servers,
    tls::{Ca, Page},
};

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
    // Nobody can say whether this key is a new one of the page's.
    login.key("two", "rsa");
    let newer = login.sign("two", "RS256", &for_us());
    for _ in 0..10 {
        let response = post(&gateway, &newer, &[]).await;
        response.assert_refused(503, "unavailable");
    }
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
