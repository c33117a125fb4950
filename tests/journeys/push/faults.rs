//! Pushes and tickets while NATS or Redis cannot take them.

use std::time::Duration;

use tonic::{Code, Request};

use super::ticket_for;
use crate::support::{
    Client, Gateway, Nats, Redis, eventually,
    grpc::{push, push_with_receipt, pushed},
    wait::patiently,
    world,
};

#[tokio::test]
async fn a_push_is_unavailable_while_nats_is_away() {
    let (mut nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let mut grpc = gateway.grpc().await;
    nats.kill();
    gateway
        .metric_becomes("usher_nats_connected{connection=\"interest\"}", 0.0)
        .await;
    for request in [push("42", "\"lost\""), push_with_receipt("42", "\"lost\"")] {
        let status = grpc
            .push_notification(request)
            .await
            .expect_err("NATS is away");
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    }
    nats.restart().await;
    client.expect_gap().await;
    eventually("pushes pass again", || {
        let mut grpc = grpc.clone();
        async move { grpc.push_notification(push("42", "1")).await.is_ok() }
    })
    .await;
    // UNAVAILABLE said 'certainly not published'.
    assert_eq!(client.next_data().await, 1);
}

/// Nothing that was only buffered is ever OK.
#[tokio::test]
async fn a_push_is_never_ok_while_nats_is_frozen() {
    let (mut nats, _redis, gateway) = world().await;
    let mut grpc = gateway.grpc().await;
    pushed(&mut grpc, push("42", "1")).await;
    nats.pause();
    for request in [push("42", "2"), push_with_receipt("42", "2")] {
        let status = patiently("an answer", grpc.push_notification(request)).await;
        let status = status.expect_err("NATS confirmed nothing");
        let honest = [Code::DeadlineExceeded, Code::Unavailable].contains(&status.code());
        assert!(honest, "{status:?}");
    }
    // A caller with less time is told in its own.
    let mut request = Request::new(push("42", "3"));
    request.set_timeout(Duration::from_millis(300));
    let status = patiently("an answer", grpc.push_notification(request))
        .await
        .expect_err("no time");
    let honest =
        [Code::DeadlineExceeded, Code::Cancelled, Code::Unavailable].contains(&status.code());
    assert!(honest, "{status:?}");
    nats.resume();
    eventually("pushes pass again", || {
        let mut grpc = grpc.clone();
        async move { grpc.push_notification(push("42", "4")).await.is_ok() }
    })
    .await;
}

#[tokio::test]
async fn a_ticket_is_unavailable_while_redis_is_away() {
    let (_nats, mut redis, gateway) = world().await;
    let mut grpc = gateway.grpc().await;
    redis.kill();
    let status = grpc
        .issue_ticket(ticket_for("42"))
        .await
        .expect_err("Redis is away");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    pushed(&mut grpc, push("42", "pushes need no Redis")).await;
    redis.restart().await;
    eventually("tickets are issued again", || {
        let mut grpc = grpc.clone();
        async move { grpc.issue_ticket(ticket_for("42")).await.is_ok() }
    })
    .await;
}

#[tokio::test]
async fn a_push_that_nats_forbids_is_denied() {
    let nats = Nats::start_with(
        r#"authorization { users: [
            { user: gateway, password: gateways, permissions: {
                publish: { allow: ">", deny: "usher.user.forbidden" }, subscribe: ">" } }
        ] }"#,
    )
    .await;
    let redis = Redis::start().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("nats.user", "gateway")
        .set("nats.password", "gateways")
        .start()
        .await;
    let mut grpc = gateway.grpc().await;
    for request in [push("forbidden", "1"), push_with_receipt("forbidden", "1")] {
        let status = grpc
            .push_notification(request)
            .await
            .expect_err("NATS forbids it");
        assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    }
    pushed(&mut grpc, push("42", "1")).await;
}
