//! How large a body may be, how much of all may be under way, and how long a body may take.

use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{calls, post, posted, refused, request};
use crate::support::{Gateway, http, servers, wait::patiently};

/// A bound has refused so many calls.
fn counted(reason: &str) -> String {
    format!("usher_grpc_refused_total{{reason={reason:?}}}")
}

/// The head of a push whose body has this framing.
fn head(gateway: &Gateway, framing: (&str, &str)) -> Vec<u8> {
    let headers = [super::JSON, framing];
    http::head("POST", &gateway.grpc, "/v1/push", &headers).into()
}

/// Begins a push, and does not go on.
async fn begin(gateway: &Gateway, bytes: &[&[u8]]) -> TcpStream {
    let mut stream = TcpStream::connect(&gateway.grpc).await.expect("accepted");
    stream.write_all(&bytes.concat()).await.expect("taken");
    stream
}

async fn answer(mut stream: TcpStream) -> crate::support::Response {
    patiently("an answer", http::read(&mut stream, &mut Vec::new())).await
}

#[tokio::test]
async fn a_body_is_refused_before_it_is_read() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("grpc.max_message", "100KiB")
        .start()
        .await;
    let most = 100 * 1024;
    let body = |size: usize| {
        let frame = json!({"user_id": "42", "data": ""}).to_string().len();
        json!({"user_id": "42", "data": "x".repeat(size - frame)}).to_string()
    };
    posted(&gateway, "/v1/push", body(most)).await;
    let response = post(&gateway, "/v1/push", body(most + 1)).await;
    let message = refused(&response, 413, "too_large");
    assert!(
        message.contains("grpc.max_message") && message.contains("102400"),
        "{message}"
    );
    // Nothing of it has to come.
    for length in ["60000000", "9000000000000000000"] {
        let stream = begin(&gateway, &[&head(&gateway, ("Content-Length", length))]).await;
        refused(&answer(stream).await, 413, "too_large");
    }
    // Nor all of what does not say its length.
    let chunked = ("Transfer-Encoding", "chunked");
    let half = format!("{:x}\r\n{}\r\n", most / 2, "x".repeat(most / 2));
    let head = head(&gateway, chunked);
    let stream = begin(
        &gateway,
        &[&head, half.as_bytes(), half.as_bytes(), b"1\r\nx\r\n"],
    )
    .await;
    refused(&answer(stream).await, 413, "too_large");
    let small = body(100);
    let chunk = format!("64\r\n{small}\r\n0\r\n\r\n");
    let stream = begin(&gateway, &[&head, chunk.as_bytes()]).await;
    assert_eq!(answer(stream).await.status, 200);
    assert_eq!(gateway.metric(&counted("message_too_large")).await, 4.0);
    let exhausted = calls("PushNotification", "RESOURCE_EXHAUSTED");
    assert_eq!(gateway.metric(&exhausted).await, 4.0);
    gateway
        .metric_becomes("usher_grpc_in_flight_bytes", 0.0)
        .await;
}

/// However many bodies are announced: the gateway holds no more than
/// `grpc.max_in_flight_bytes` of them, and says that nothing was published.
#[tokio::test]
async fn bodies_under_way_are_bounded_together() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("grpc.max_message", "1MiB")
        .set("grpc.max_in_flight_bytes", "2MiB")
        .start()
        .await;
    let announced = head(&gateway, ("Content-Length", "1000000"));
    let mut taken = Vec::new();
    for _ in 0..2 {
        taken.push(begin(&gateway, &[&announced, b"{"]).await);
    }
    let held = "usher_grpc_in_flight_bytes";
    gateway.metric_becomes(held, 2_000_000.0).await;
    let response = answer(begin(&gateway, &[&announced]).await).await;
    assert!(refused(&response, 503, "busy").contains("grpc.max_in_flight_bytes"));
    assert_eq!(response.json()["error"]["published"], false);
    let whole = request(
        &gateway.grpc,
        "/v1/tickets",
        &[("Content-Length", "1000000")],
        "",
    );
    let response = answer(begin(&gateway, &[&whole]).await).await;
    refused(&response, 503, "busy");
    assert_eq!(response.json()["error"]["published"], Value::Null);
    // One that does not say its length is held back where there is no room.
    let chunk = format!("{:x}\r\n{}\r\n", 200_000, "x".repeat(200_000));
    let chunked = head(&gateway, ("Transfer-Encoding", "chunked"));
    let response = answer(begin(&gateway, &[&chunked, chunk.as_bytes()]).await).await;
    refused(&response, 503, "busy");
    assert_eq!(gateway.metric(&counted("in_flight_bytes")).await, 3.0);
    // A small one finds room.
    posted(&gateway, "/v1/push", json!({"user_id": "42"})).await;

    // A body that does not go on is given up, and so is its room.
    let response = answer(taken.pop().expect("one")).await;
    let message = refused(&response, 400, "too_slow");
    assert!(
        message.contains("10 s") && message.contains("nothing was done"),
        "{message}"
    );
    drop(taken);
    gateway.metric_becomes(held, 0.0).await;
    assert!(gateway.metric(&counted("too_slow")).await >= 1.0);
}
