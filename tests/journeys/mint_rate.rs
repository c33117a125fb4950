//! One user mints no more tickets than a person who reconnects needs.

use serde_json::json;

use crate::support::{
    Gateway, Response, http,
    login::{Login, in_seconds},
    secret, servers,
};

const SECRET: &str = "a secret of at least thirty-two bytes";

async fn mint(gateway: &Gateway, token: &str) -> Response {
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Length", "0")];
    let response = http::request("POST", &gateway.public, "/tickets", &headers).await;
    if response.status == 201 {
        secret(response.json()["ticket"].as_str().expect("a ticket"));
    }
    response
}

#[tokio::test]
async fn a_user_who_mints_without_end_is_slowed_down() {
    let (nats, redis) = servers().await;
    let mut login = Login::start();
    let gateway = Gateway::builder(&nats, &redis)
        .set("tickets.jwt.secret", SECRET)
        .start()
        .await;
    let mut token = |user: &str| {
        let claims = json!({ "sub": user, "exp": in_seconds(600) });
        secret(login.sign_with_secret(SECRET, "HS256", &claims))
    };
    // Two tokens of one user are one user.
    let (mallory, again, alice) = (token("mallory"), token("mallory"), token("alice"));
    let crowd = (0..300).map(|number| {
        let token = if number % 2 == 0 { &mallory } else { &again };
        mint(&gateway, token)
    });
    let begun = std::time::Instant::now();
    let answers = futures_util::future::join_all(crowd).await;
    let took = begun.elapsed().as_secs_f64();
    let minted = answers.iter().filter(|answer| answer.status == 201).count();
    let most = 50.0 + 10.0 * took + 1.0;
    assert!(minted >= 50, "a burst of 50 passes: {minted}");
    assert!(minted as f64 <= most, "{minted} in {took} s");
    let refused: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status != 201)
        .collect();
    assert!(!refused.is_empty(), "none of 300 in {took} s");
    for answer in &refused {
        answer.assert_refused(429, "too_many");
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
    }
    gateway
        .metric_becomes(
            r#"usher_mints_total{result="too_many"}"#,
            refused.len() as f64,
        )
        .await;
    assert_eq!(
        mint(&gateway, &alice).await.status,
        201,
        "another is another"
    );
    crate::support::eventually("it may mint again", || async {
        mint(&gateway, &mallory).await.status == 201
    })
    .await;
}
