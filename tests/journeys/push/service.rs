//! The gRPC server itself: health, reflection, the age and the bounds of connections.

use std::time::Duration;

use futures_util::stream;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use usher::proto::PushStatus;

use crate::support::{
    Client, Gateway, eventually,
    grpc::{push, push_with_receipt, pushed},
    servers,
    wait::patiently,
    world,
};

#[tokio::test]
async fn health_says_what_readyz_says() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("drain.delay", "5s");
    let mut gateway = builder.set("drain.window", "1s").start().await;
    let health = HealthClient::new(gateway.grpc_channel().await);
    let status = |service: &'static str| {
        let mut health = health.clone();
        async move {
            let request = HealthCheckRequest {
                service: service.to_owned(),
            };
            health
                .check(request)
                .await
                .map(|answer| answer.into_inner().status())
        }
    };
    for service in ["", "usher.v1.Notification"] {
        assert_eq!(
            status(service).await.expect("an answer"),
            ServingStatus::Serving,
            "{service}"
        );
    }
    assert_eq!(
        status("nobody").await.expect_err("unknown").code(),
        Code::NotFound
    );
    let _session = Client::open(&gateway, &redis.ticket("42").await).await;
    let mut grpc = gateway.grpc().await;
    gateway.terminate();
    gateway.becomes_unready().await;
    eventually("health follows", || async {
        status("")
            .await
            .is_ok_and(|found| found == ServingStatus::NotServing)
    })
    .await;
    // While draining, gRPC goes on being served.
    let answer = pushed(&mut grpc, push_with_receipt("42", "1")).await;
    assert_eq!(answer.status(), PushStatus::Queued);
}

#[tokio::test]
async fn the_api_describes_itself() {
    let (_nats, _redis, gateway) = world().await;
    let mut reflection = ServerReflectionClient::new(gateway.grpc_channel().await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = reflection
        .server_reflection_info(stream::iter([request]))
        .await
        .expect("an answer");
    let mut answers = answers.into_inner();
    let answer = patiently("an answer", answers.message())
        .await
        .expect("one")
        .expect("one");
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}");
    };
    let names: Vec<&str> = list
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    for service in ["usher.v1.Notification", "grpc.health.v1.Health"] {
        assert!(names.contains(&service), "{names:?}");
    }
}

/// A connection is asked to go after a while, so that callers spread over new
/// instances.
#[tokio::test]
async fn no_connection_lives_for_ever() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("grpc.max_connection_age", "500ms");
    let gateway = builder.start().await;
    // HTTP/2 by hand: the preface, and an empty SETTINGS.
    let mut stream = TcpStream::connect(&gateway.grpc)
        .await
        .expect("a connection");
    let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    stream.write_all(hello).await.expect("taken");
    patiently("a GOAWAY", async {
        loop {
            let mut head = [0; 9];
            stream
                .read_exact(&mut head)
                .await
                .expect("the head of a frame");
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            if head[3] == 0x7 {
                break;
            }
            stream
                .read_exact(&mut vec![0; length as usize])
                .await
                .expect("its body");
        }
    })
    .await;

    // A caller comes back on a new one by itself.
    let mut grpc = gateway.grpc().await;
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        let answer = patiently("a push", grpc.push_notification(push("42", "1"))).await;
        // A call that met the end of its connection was never sent.
        if answer.is_err() {
            pushed(&mut grpc, push("42", "1")).await;
        }
    }
}

/// Whoever may not call is told so before the message is read: nobody fills the
/// gateway's memory who has no token.
#[tokio::test]
async fn nothing_is_read_of_a_call_without_a_token() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("grpc.tokens", "a-token-that-is-long-enough");
    let gateway = builder.start().await;
    let stream = TcpStream::connect(&gateway.grpc).await.expect("accepted");
    let (mut sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    let request = http::Request::post("http://gateway/usher.v1.Notification/PushNotification")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let request = request.body(()).expect("a request");
    // The message does not even begin.
    let (answer, _message) = sender.send_request(request, false).expect("sent");
    let answer = patiently("an answer", answer).await.expect("an answer");
    assert_eq!(answer.headers()["grpc-status"], "16", "{answer:?}");
    let refused = r#"usher_grpc_requests_total{method="PushNotification",code="UNAUTHENTICATED"}"#;
    assert_eq!(gateway.metric(refused).await, 1.0);
}
