//! Frames that cost whoever receives them, before any call.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{TOKEN, cut, pushes, raw_h2, refused};
use crate::support::{Gateway, servers, wait::patiently};

/// PING and SETTINGS are answered by the library before any call. A connection that has
/// made none gets few of them.
#[tokio::test]
async fn a_flood_of_frames_without_a_call_is_cut_off() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("grpc.tokens", TOKEN)
        .start()
        .await;
    let unknown = raw_h2::frame(0x2A, 0, b"");
    let window = [&[0, 0, 4, 8, 0, 0, 0, 0, 0][..], &1_u32.to_be_bytes()].concat();
    let floods = [
        raw_h2::frame(raw_h2::PING, 0, &[0; 8]),
        raw_h2::frame(raw_h2::SETTINGS, 0, b""),
        unknown,
        window,
    ];
    for (index, frame) in floods.iter().enumerate() {
        let stream = raw_h2::connect(&gateway.grpc).await;
        let (mut reader, mut writer) = stream.into_split();
        // The answers are read: who does not read them is not read from either.
        let reading = tokio::spawn(async move {
            let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
        });
        let many = frame.repeat(100);
        patiently("it is cut off", async {
            while writer.write_all(&many).await.is_ok() {}
        })
        .await;
        patiently("the end is heard", reading)
            .await
            .expect("no panic");
        let times = (index + 1) as f64;
        gateway.metric_becomes(&cut("too_many_frames"), times).await;
        assert!(pushes(&gateway).await);
    }
}

/// Of HTTP/1.1 a connection without a token gets one answer.
#[tokio::test]
async fn a_stranger_gets_one_answer_of_http_1() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("grpc.tokens", TOKEN)
        .start()
        .await;
    let mut stream = raw_h2::silent(&gateway.grpc).await;
    let request = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(&request.repeat(3)).await.expect("taken");
    let mut answers = Vec::new();
    let _ = patiently("the end", stream.read_to_end(&mut answers)).await;
    let answers = String::from_utf8_lossy(&answers).to_lowercase();
    assert_eq!(answers.matches("http/1.1 ").count(), 1, "{answers}");
    assert!(answers.contains("connection: close"), "{answers}");
}

/// Health checks need no token, so a connection has few of them under way.
#[tokio::test]
async fn watches_of_one_connection_are_few() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::start(&nats, &redis).await;
    let mut health = HealthClient::new(gateway.grpc_channel().await);
    let mut watches = Vec::new();
    let status = loop {
        match patiently("an answer", health.watch(HealthCheckRequest::default())).await {
            Ok(watch) => watches.push(watch.into_inner()),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert_eq!(watches.len(), 16);
    gateway
        .metric_becomes(&refused("too_many_health_checks"), 1.0)
        .await;
    assert!(gateway.serves("").await, "on another connection");
}

/// A watch ends when its connection was asked to close, or it would keep it for ever.
#[tokio::test]
async fn a_watch_ends_with_its_connection() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("grpc.max_connection_age", "500ms")
        .start()
        .await;
    let endpoint = Endpoint::from_shared(format!("http://{}", gateway.grpc)).expect("an address");
    let channel = patiently("a connection", endpoint.connect()).await;
    let mut health = HealthClient::new(channel.expect("a connection"));
    let watch = health.watch(HealthCheckRequest::default()).await;
    let mut watch = watch.expect("a watch").into_inner();
    let end = patiently("the end", async {
        loop {
            match watch.message().await {
                Ok(Some(_)) => {}
                other => break other,
            }
        }
    })
    .await;
    assert_eq!(end.expect_err("a status").code(), Code::Unavailable);
    gateway.metric_becomes("usher_grpc_connections", 0.0).await;
}

/// Each connection has an age of its own, so that callers of one start do not come back
/// in step.
#[tokio::test]
async fn connections_are_asked_to_go_one_after_the_other() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("grpc.max_connection_age", "4s")
        .start()
        .await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(raw_h2::connect(&gateway.grpc).await);
    }
    let ends: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            tokio::spawn(async move {
                raw_h2::read_until(&mut stream, raw_h2::GOAWAY)
                    .await
                    .expect("a GOAWAY");
                tokio::time::Instant::now()
            })
        })
        .collect();
    let mut times = Vec::new();
    for end in ends {
        times.push(end.await.expect("no panic"));
    }
    let (first, last) = (times.iter().min(), times.iter().max());
    let spread = *last.expect("one") - *first.expect("one");
    // They came within moments of each other. Of 20 numbers between 3.6 and 4.4 the
    // least and the largest are nearer than this once in a million times.
    assert!(spread > Duration::from_millis(300), "{spread:?}");
}
