//! Web pages stay out, and so does who has no token.

use serde_json::json;

use super::{Http2, TOKEN, calls, post, post_with, posted, refused};
use crate::support::{
    Client, Gateway,
    grpc::{push, pushed},
    http, servers, world,
};

const PUSH: &str = "{\"user_id\":\"42\",\"data\":\"from a page\"}";

/// A page on a developer's machine: no token is asked for on loopback, and all that keeps the
/// page out is what a browser says of it.
#[tokio::test]
async fn a_page_gets_nothing() {
    let (_nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let own = format!("http://{}", gateway.grpc);
    for origin in ["https://evil.example", "null", "", &own[..]] {
        for path in ["/v1/push", "/v1/push/batch", "/v1/tickets", "/nothing"] {
            let answer = post_with(&gateway, path, &[("Origin", origin)], PUSH).await;
            refused(&answer, 403, "origin_denied");
        }
        // What a page may send without being asked, and the question whether it may send more.
        let simple = [("Origin", origin), ("Content-Type", "text/plain")];
        let answer = post_with(&gateway, "/v1/push", &simple, PUSH).await;
        refused(&answer, 403, "origin_denied");
        let asks = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
        ];
        let answer = http::request("OPTIONS", &gateway.grpc, "/v1/push", &asks).await;
        refused(&answer, 403, "origin_denied");
        // gRPC's own content type, which a page of the same origin may send.
        let grpc = [("Origin", origin), ("Content-Type", "application/grpc")];
        let path = "/usher.v1.Notification/PushNotification";
        let answer = post_with(&gateway, path, &grpc, PUSH).await;
        refused(&answer, 403, "origin_denied");
    }
    let answer = http::get(&gateway.grpc, "/v1/openapi.json", &[("Origin", "null")]).await;
    refused(&answer, 403, "origin_denied");
    posted(
        &gateway,
        "/v1/push",
        json!({"user_id": "42", "data": "last"}),
    )
    .await;
    assert_eq!(client.next_data().await, "last");
}

/// A page whose name was made to point at this machine is of the same origin as the listener;
/// a form's request of old browsers has no Origin then.
#[tokio::test]
async fn a_name_that_was_made_to_point_here_is_refused() {
    let (_nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let port = gateway
        .grpc
        .rsplit_once(':')
        .map(|(_, port)| port)
        .expect("a port");
    for host in [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "0.0.0.0",
        "127.0.0.2",
        "[::2]",
        "",
        "user@localhost",
        "localhost, evil.example",
    ] {
        for host in [host.to_owned(), format!("{host}:{port}")] {
            let answer = post_with(&gateway, "/v1/push", &[("Host", &host)], PUSH).await;
            refused(&answer, 403, "host_denied");
        }
    }
    let target = format!("http://evil.example:{port}/v1/push");
    for host in ["localhost", "evil.example"] {
        let answer = post_with(&gateway, &target, &[("Host", host)], PUSH).await;
        refused(&answer, 403, "host_denied");
    }
    let caller = Http2::connect(&gateway).await;
    let request = ::http::Request::post("http://evil.example/v1/push")
        .header("content-type", "application/json")
        .body(())
        .expect("a request");
    let answer = caller.send(request, PUSH.into()).await.expect("an answer");
    assert_eq!(
        (answer.0, &answer.1["error"]["code"]),
        (403, &json!("host_denied"))
    );

    // Whoever is here may say so by any of its names.
    let body = "{\"user_id\":\"42\",\"data\":\"good\"}";
    for host in ["localhost", "LOCALHOST", "127.0.0.1", "[::1]"] {
        for host in [host.to_owned(), format!("{host}:{port}")] {
            let answer = post_with(&gateway, "/v1/push", &[("Host", &host)], body).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(client.next_data().await, "good");
        }
    }
    // gRPC's callers name whatever they reach it by.
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", gateway.grpc));
    let endpoint = endpoint
        .expect("an address")
        .origin("http://usher.example:50051".parse().expect("a URI"));
    let channel = endpoint.connect().await.expect("a connection");
    let mut grpc = usher::proto::notification_client::NotificationClient::new(channel);
    pushed(&mut grpc, push("42", "\"by gRPC\"")).await;
    assert_eq!(client.next_data().await, "by gRPC");
}

/// Off loopback a gateway has many names.
#[tokio::test]
async fn off_loopback_any_host_is_answered() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("grpc.listen", "0.0.0.0:0")
        .set("grpc.tokens", TOKEN)
        .start()
        .await;
    let address = gateway.grpc.replace("0.0.0.0", "127.0.0.1");
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("Host", "usher.internal"), ("Authorization", &bearer[..])];
    let request = super::request(&address, "/v1/push", &headers, PUSH);
    let answer = http::raw(&address, &request).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn a_listener_with_tokens_asks_for_one() {
    let (nats, redis) = servers().await;
    let (one, two) = ("first-token-of-sixteen", "second-token-of-sixteen");
    let builder = Gateway::builder(&nats, &redis).set("grpc.tokens", format!("{one},{two}"));
    let gateway = builder.start().await;
    for token in [one, two] {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", &bearer[..])];
        let answer = post_with(&gateway, "/v1/push", &headers, PUSH).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer = http::get(&gateway.grpc, "/v1/openapi.json", &headers).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    for authorization in [
        "Bearer third-token-of-sixteen",
        "Bearer first-token-of-sixtee",
        "Bearer ",
        "Basic Zmlyc3Q6dG9rZW4=",
        "",
    ] {
        let headers = [("Authorization", authorization)];
        // Who is not let in learns nothing else.
        for path in ["/v1/push", "/v1/tickets", "/nothing"] {
            let answer = post_with(&gateway, path, &headers, "").await;
            refused(&answer, 401, "unauthenticated");
        }
    }
    let answer = post(&gateway, "/v1/push", PUSH).await;
    refused(&answer, 401, "unauthenticated");
    let answer = http::get(&gateway.grpc, "/v1/openapi.json", &[]).await;
    refused(&answer, 401, "unauthenticated");
    assert!(!gateway.log().contains("token-of-sixteen"));
    let counted = calls("PushNotification", "UNAUTHENTICATED");
    assert_eq!(gateway.metric(&counted).await, 6.0);
}
