//! A gateway that has no Redis: tokens alone open sessions.

use serde_json::{Value, json};
use usher::proto::IssueTicketRequest;

use super::{SECRET, by_protocol, token};
use crate::support::{
    Client, Gateway, Nats, Redis, Response, gateway::Builder, http, login::Login,
};

fn without_redis(nats: &Nats) -> Builder {
    Gateway::without_redis(nats)
        .set("tickets.jwt.secret", SECRET)
        .set("tickets.jwt.connect", "true")
}

async fn post(address: &str, path: &str, token: &str, body: &Value) -> Response {
    let body = body.to_string();
    let (length, bearer) = (body.len().to_string(), format!("Bearer {token}"));
    let headers = [
        ("Content-Type", "application/json"),
        ("Authorization", bearer.as_str()),
        ("Content-Length", length.as_str()),
    ];
    let head = http::head("POST", address, path, &headers);
    http::raw(address, (head + &body).as_bytes()).await
}

#[tokio::test]
async fn tokens_alone_open_sessions() {
    let nats = Nats::start().await;
    let mut login = Login::start();
    let gateway = without_redis(&nats).start().await;
    let ready = gateway.ops_get("/readyz").await.json();
    assert_eq!(
        ready,
        json!({ "ready": true, "reasons": [], "warnings": [] })
    );
    assert_eq!(gateway.status().await["redis_connected"], Value::Null);
    let token = token(&mut login, &json!({}));
    let mut client = by_protocol(&gateway, &token).open().await;
    nats.publish("usher.user.42", "1").await;
    assert_eq!(client.next_data().await, 1);

    // What needs tickets is refused by name.
    let refusal = Client::builder(&gateway, "0123456789abcdef")
        .refused()
        .await;
    assert_eq!(refusal.status, 401, "{refusal:?}");
    assert_eq!(refusal.json()["error"]["code"], "ticket_unknown");
    assert!(refusal.text().contains("there are no tickets here"));
    assert_eq!(refusal.header("www-authenticate"), Some("Bearer"));
    let minted = post(&gateway.public, "/tickets", &token, &json!({})).await;
    minted.assert_refused(404, "not_found");
    // A page can read that.
    assert!(minted.header("vary").is_some(), "{minted:?}");
    assert!(minted.text().contains("issues no tickets"), "{minted:?}");
    let order = IssueTicketRequest {
        user_id: "42".to_owned(),
        ..Default::default()
    };
    let status = gateway.grpc().await.issue_ticket(order).await;
    let status = status.expect_err("no ticket");
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    assert!(status.message().contains("redis.url"), "{status:?}");
    let issued = post(
        &gateway.grpc,
        "/v1/tickets",
        "",
        &json!({ "user_id": "42" }),
    )
    .await;
    assert_eq!(issued.status, 404, "{issued:?}");
    assert_eq!(issued.json()["error"]["code"], "not_found");
    assert!(issued.text().contains("redis.url"), "{issued:?}");
}

#[tokio::test]
async fn no_redis_needs_tokens() {
    let nats = Nats::start().await;
    let builder = without_redis(&nats).set("tickets.jwt.connect", "false");
    let (code, output) = builder.fails().await;
    assert_eq!(code, Some(78), "{output}");
    assert!(
        output.contains("redis.url (from USHER_REDIS__URL): is empty"),
        "{output}"
    );
    assert!(output.contains("tickets.jwt.connect = true"), "{output}");

    let (code, output) = without_redis(&nats).check().await;
    assert_eq!(code, Some(0), "{output}");
    assert!(
        output.contains("Redis: none (redis.url is empty)"),
        "{output}"
    );
    assert!(
        output.contains("tokens: judged by tickets.jwt.secret"),
        "{output}"
    );
}

/// With Redis, one that is away keeps no token out.
#[tokio::test]
async fn a_token_does_not_need_redis() {
    let nats = Nats::start().await;
    let mut redis = Redis::start().await;
    let mut login = Login::start();
    let gateway = super::connecting(&nats, &redis).start().await;
    let token = token(&mut login, &json!({}));
    redis.kill();
    by_protocol(&gateway, &token).open().await;
    Client::builder(&gateway, "0123456789abcdef")
        .refused()
        .await
        .assert_refused(503, "unavailable");
}

#[tokio::test]
async fn the_demo_answers_for_this_machine_alone() {
    let gateway = Builder::new().argument("--embedded").argument("--demo");
    let gateway: Gateway = gateway.start().await;
    let page = http::get(&gateway.public, "/", &[]).await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("x-frame-options"), Some("DENY"));
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    for path in [
        "/", "/ws", "/events", "/tickets", "/healthz", "/readyz", "/nothing",
    ] {
        let foreign = [("Host", "evil.example")];
        let answer = http::get(&gateway.public, path, &foreign).await;
        answer.assert_refused(403, "host_denied");
    }
    let own = http::get(&gateway.public, "/healthz", &[("Host", "localhost:1")]).await;
    assert_eq!(own.status, 200);
}
