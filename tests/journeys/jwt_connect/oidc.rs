//! Keys by the discovery of OpenID Connect.

use serde_json::{Value, json};

use super::by_protocol;
use crate::support::{
    Gateway, Nats, eventually,
    gateway::Builder,
    login::{Login, in_seconds},
    secret,
    tls::{Ca, Page},
};

/// What a login publishes. Its configuration and its keys are one document here, which each
/// reader takes its own part of.
fn published(issuer: &str, jwks_uri: &str, keys: &[&Value]) -> String {
    let keys: Vec<_> = keys.iter().map(|key| &key["jwk"]).collect();
    json!({ "issuer": issuer, "jwks_uri": jwks_uri, "keys": keys }).to_string()
}

fn discovering(nats: &Nats, ca: &Ca, issuer: &str) -> Builder {
    Gateway::without_redis(nats)
        .set("tickets.jwt.connect", "true")
        .set("tickets.jwt.oidc_issuer", issuer)
        .set("tickets.jwt.audience", "app")
        .set("tickets.jwt.tls.ca_file", ca.file())
}

#[tokio::test]
async fn the_issuer_says_where_its_keys_are() {
    let nats = Nats::start().await;
    let (mut login, ca) = (Login::start(), Ca::new());
    let key = login.key("one", "rsa");
    let page = Page::new(&ca, String::new()).await;
    // An issuer may have a path.
    let issuer = page.url.replace("/keys", "/realms/main");
    page.show(Some(published(&issuer, &page.url, &[&key])));
    let gateway = discovering(&nats, &ca, &issuer).start().await;
    let mut token = |iss: &str| {
        let claims = json!({ "sub": "42", "iss": iss, "aud": "app", "exp": in_seconds(600) });
        secret(login.sign("one", "RS256", &claims))
    };
    by_protocol(&gateway, &token(&issuer)).open().await;
    let asked = page.asked_for();
    let document = "/realms/main/.well-known/openid-configuration";
    assert_eq!(asked[..2], [document, "/keys"], "{asked:?}");
    for other in ["https://evil.example".to_owned(), format!("{issuer}/")] {
        let refusal = by_protocol(&gateway, &token(&other)).refused().await;
        refusal.assert_refused(401, "token_invalid");
    }

    let (code, output) = discovering(&nats, &ca, &issuer).check().await;
    assert_eq!(code, Some(0), "{output}");
    assert!(
        output.contains(&format!("tickets.jwt.oidc_issuer ({issuer}) has 1 key")),
        "{output}"
    );
}

#[tokio::test]
async fn keys_of_somebody_else_are_not_believed() {
    let nats = Nats::start().await;
    let (mut login, ca) = (Login::start(), Ca::new());
    let key = login.key("one", "rsa");
    let page = Page::new(&ca, String::new()).await;
    let issuer = page.url.replace("/keys", "");
    let plain = page.url.replace("https:", "http:");
    for (shown, why) in [
        (
            Some(published("https://evil.example", &page.url, &[&key])),
            "is the configuration of another issuer, \"https://evil.example\"",
        ),
        (
            Some(published(&issuer, &plain, &[&key])),
            "names a jwks_uri that is no https URL",
        ),
        (Some("{}".to_owned()), "is no OpenID configuration"),
        (
            Some(published(&issuer, &page.url, &[])),
            "has no key that signs",
        ),
        (None, "it answers 500"),
    ] {
        page.show(shown);
        let (code, output) = discovering(&nats, &ca, &issuer).check().await;
        assert_eq!(code, Some(69), "{output}");
        assert!(output.contains(why), "{why}: {output}");
        assert!(output.contains("tickets.jwt.oidc_issuer"), "{output}");
    }
    // A gateway goes on trying.
    let gateway = discovering(&nats, &ca, &issuer).start().await;
    gateway
        .logs("the keys of tickets.jwt.oidc_issuer cannot be fetched")
        .await;
    let claims = json!({ "sub": "42", "iss": issuer, "aud": "app", "exp": in_seconds(600) });
    let token = secret(login.sign("one", "RS256", &claims));
    let refusal = by_protocol(&gateway, &token).refused().await;
    refusal.assert_refused(503, "unavailable");
    page.show(Some(published(&issuer, &page.url, &[&key])));
    eventually("the keys are here", || async {
        by_protocol(&gateway, &token).try_open().await.is_ok()
    })
    .await;
}

/// Without the authority the page is nobody's.
#[tokio::test]
async fn the_certificate_is_checked() {
    let nats = Nats::start().await;
    let (ca, other) = (Ca::new(), Ca::new());
    let page = Page::new(&ca, String::new()).await;
    let issuer = page.url.replace("/keys", "");
    page.show(Some(published(&issuer, &page.url, &[])));
    let (code, output) = discovering(&nats, &other, &issuer).check().await;
    assert_eq!(code, Some(69), "{output}");
    assert!(output.contains("certificate"), "{output}");
    let missing = discovering(&nats, &ca, &issuer).set("tickets.jwt.tls.ca_file", "/nowhere");
    let (code, output) = missing.fails().await;
    assert_eq!(code, Some(78), "{output}");
    assert!(output.contains("tickets.jwt.tls.ca_file"), "{output}");
}
