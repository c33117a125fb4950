//! The gRPC door: a push goes through NATS, and its answer says no more than is
//! known.

mod faults;
mod service;
mod tickets;

use std::time::Duration;

use futures_util::{StreamExt, stream};
use prost_types::{Duration as ProtoDuration, Timestamp};
use serde_json::json;
use tokio::time::Instant;
use tonic::{Code, Request, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use usher::proto::{GetPresenceRequest, IssueTicketRequest, PushRequest, PushStatus};

use crate::grpc_unavailable::is_certain;
use crate::support::{
    Client, Gateway, eventually,
    grpc::{push, push_with_receipt, pushed, with_token},
    servers,
    wait::patiently,
    world,
};

pub(crate) fn ticket_for(user: &str) -> IssueTicketRequest {
    IssueTicketRequest {
        user_id: user.to_owned(),
        ..IssueTicketRequest::default()
    }
}

#[tokio::test]
async fn a_push_is_on_the_screen() {
    let (_nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("bob@example.com").await).await;
    let mut grpc = gateway.grpc().await;
    let request = PushRequest {
        event: "order.completed".into(),
        ..push("bob@example.com", "{\"a\": 1}")
    };
    let answer = pushed(&mut grpc, request).await;
    assert_eq!(answer.status(), PushStatus::Dispatched);
    assert_eq!((answer.sessions, answer.seq), (0, 0));
    let event = json!({"event": "order.completed", "data": {"a": 1}});
    assert_eq!(client.next_event().await, event);

    // Any bytes; no event name is 'message'.
    pushed(&mut grpc, push("bob@example.com", b"\xff")).await;
    assert_eq!(
        client.next_event().await,
        json!({"event": "message", "base64": "/w=="})
    );
    pushed(&mut grpc, push("bob@example.com", "")).await;
    assert_eq!(
        client.next_event().await,
        json!({"event": "message", "data": ""})
    );
    assert_eq!(gateway.metric("usher_grpc_requests_total").await, 3.0);
}

/// A push is a publish like any other: what NATS delivers is what was pushed.
#[tokio::test]
async fn a_push_goes_through_nats() {
    let (nats, redis, gateway) = world().await;
    let other = Gateway::start(&nats, &redis).await;
    let observer = nats.operator().await;
    let mut seen = observer
        .subscribe("usher.user.*")
        .await
        .expect("subscribed");
    eventually("NATS knows of it", || async {
        nats.subscriptions("usher.user.*").await == 1
    })
    .await;
    let mut client = Client::open(&other, &redis.ticket("42").await).await;
    let mut grpc = gateway.grpc().await;
    let request = PushRequest {
        event: "e".into(),
        message_id: "m-1".into(),
        ..push("42", "1")
    };
    pushed(&mut grpc, request).await;
    assert_eq!(client.next_event().await, json!({"event": "e", "data": 1}));
    let message = patiently("a message", seen.next()).await.expect("one");
    assert_eq!(message.subject.as_str(), "usher.user.42");
    assert_eq!(&*message.payload, b"1");
    let headers = message.headers.expect("headers");
    assert_eq!(headers.get("Event").map(|value| value.as_str()), Some("e"));
    let id = headers
        .get("Nats-Msg-Id")
        .map(|value| value.as_str().to_owned())
        .expect("an id");
    assert!(id.contains("m-1") && id != "m-1", "scoped by user: {id}");
}

#[tokio::test]
async fn a_receipt_counts_the_sessions_of_all_gateways() {
    let (nats, redis, here) = world().await;
    let there = Gateway::start(&nats, &redis).await;
    let mut grpc = here.grpc().await;

    let answer = pushed(&mut grpc, push_with_receipt("42", "0")).await;
    assert_eq!((answer.status(), answer.sessions), (PushStatus::Offline, 0));

    let mut sessions = Vec::new();
    for gateway in [&here, &there, &there] {
        sessions.push(Client::open(gateway, &redis.ticket("42").await).await);
    }
    let answer = pushed(&mut grpc, push_with_receipt("42", "1")).await;
    assert_eq!((answer.status(), answer.sessions), (PushStatus::Queued, 3));
    for session in &mut sessions {
        assert_eq!(session.next_data().await, 1);
    }

    // On one gateway only, and not on the one that was asked.
    sessions.remove(0);
    eventually("two are left", || {
        let mut grpc = grpc.clone();
        async move {
            let answer = pushed(&mut grpc, push_with_receipt("42", "2")).await;
            (answer.status(), answer.sessions) == (PushStatus::Queued, 2)
        }
    })
    .await;
    sessions.clear();
    eventually("nobody is left", || {
        let mut grpc = grpc.clone();
        async move {
            pushed(&mut grpc, push_with_receipt("42", "3"))
                .await
                .status()
                == PushStatus::Offline
        }
    })
    .await;
}

/// Somebody who listens without being a gateway answers no receipts.
#[tokio::test]
async fn a_listener_that_is_no_gateway_is_nobody() {
    let (nats, _redis, gateway) = world().await;
    let curious = nats.operator().await;
    let _everything = curious.subscribe("usher.>").await.expect("subscribed");
    eventually("NATS knows of it", || async {
        nats.subscriptions("usher.>").await == 1
    })
    .await;
    let mut grpc = gateway.grpc().await;
    let start = Instant::now();
    let answer = pushed(&mut grpc, push_with_receipt("42", "1")).await;
    assert_eq!(answer.status(), PushStatus::Offline);
    assert!(
        start.elapsed() >= Duration::from_millis(200),
        "it waited: {:?}",
        start.elapsed()
    );
}

#[track_caller]
fn assert_invalid<T: std::fmt::Debug>(answer: Result<T, Status>, field: &str, limit: &str) {
    let status = answer.expect_err(field);
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let names_both = status.message().contains(field) && status.message().contains(limit);
    assert!(names_both, "{field} and {limit} in: {}", status.message());
}

#[tokio::test]
async fn a_bad_argument_is_named_with_its_limit() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis).set("grpc.max_message", "2MiB");
    let gateway = gateway
        .set("grpc.max_in_flight_bytes", "2MiB")
        .start()
        .await;
    let mut grpc = gateway.grpc().await;
    let long = "x".repeat(129);
    for user in ["", &long, "a\nb"] {
        let bad = grpc.push_notification(push(user, "1")).await;
        assert_invalid(
            bad,
            "user_id",
            if user.contains('\n') {
                "control"
            } else {
                "128"
            },
        );
        let bad = grpc.issue_ticket(ticket_for(user)).await;
        assert_invalid(
            bad,
            "user_id",
            if user.contains('\n') {
                "control"
            } else {
                "128"
            },
        );
    }
    for event in ["usher.x", "two words", "ü", &"x".repeat(65)] {
        let request = PushRequest {
            event: event.into(),
            ..push("42", "1")
        };
        assert_invalid(grpc.push_notification(request).await, "event", "64");
    }
    for id in ["a\r\nb", &long] {
        let request = PushRequest {
            message_id: id.into(),
            ..push("42", "1")
        };
        assert_invalid(grpc.push_notification(request).await, "message_id", "128");
    }
    let too_big = grpc
        .push_notification(push("42", vec![b'x'; (1 << 20) + 1]))
        .await;
    assert_invalid(too_big, "message", "1048576");
    for ttl in [
        ProtoDuration {
            seconds: 301,
            nanos: 0,
        },
        ProtoDuration {
            seconds: 0,
            nanos: 0,
        },
        ProtoDuration {
            seconds: -1,
            nanos: 0,
        },
        ProtoDuration {
            seconds: i64::MAX,
            nanos: i32::MAX,
        },
    ] {
        let request = IssueTicketRequest {
            ttl: Some(ttl),
            ..ticket_for("42")
        };
        assert_invalid(grpc.issue_ticket(request).await, "ttl", "300");
    }
    let request = IssueTicketRequest {
        origin: "not an origin".into(),
        ..ticket_for("42")
    };
    assert_invalid(grpc.issue_ticket(request).await, "origin", "");
    let past = Timestamp {
        seconds: 1,
        nanos: 0,
    };
    let request = IssueTicketRequest {
        expires_at: Some(past),
        ..ticket_for("42")
    };
    assert_invalid(grpc.issue_ticket(request).await, "expires_at", "");

    // What just fits is taken.
    pushed(&mut grpc, push(&"x".repeat(128), vec![b'x'; 1 << 20])).await;
}

#[tokio::test]
async fn a_listener_with_tokens_asks_for_one() {
    let (nats, redis) = servers().await;
    let (one, two) = ("first-token-of-sixteen", "second-token-of-sixteen");
    let builder = Gateway::builder(&nats, &redis).set("grpc.tokens", format!("{one},{two}"));
    let gateway = builder.start().await;
    let mut grpc = gateway.grpc().await;
    for token in [one, two] {
        grpc.push_notification(with_token(push("42", "1"), token))
            .await
            .expect("let in");
        grpc.issue_ticket(with_token(ticket_for("42"), token))
            .await
            .expect("let in");
    }
    let mut basic = Request::new(push("42", "1"));
    basic.metadata_mut().insert(
        "authorization",
        "Basic Zmlyc3Q6dG9rZW4=".parse().expect("ASCII"),
    );
    for request in [
        Request::new(push("42", "1")),
        basic,
        with_token(push("42", "1"), "third-token-of-sixteen"),
        with_token(push("42", "1"), &one[..one.len() - 1]),
        with_token(push("42", "1"), ""),
        // Who is not let in learns nothing else.
        with_token(push("", "1"), "third-token-of-sixteen"),
    ] {
        let status = grpc
            .push_notification(request)
            .await
            .expect_err("not let in");
        assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
        assert!(is_certain(&status), "it may be published: {status:?}");
    }
    let status = grpc
        .issue_ticket(ticket_for("42"))
        .await
        .expect_err("not let in");
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(!is_certain(&status), "a ticket is no message: {status:?}");
    let asked = grpc.get_presence(GetPresenceRequest::default()).await;
    let status = asked.expect_err("not let in");
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(!is_certain(&status), "a question is no message: {status:?}");
    let refused = r#"usher_grpc_requests_total{method="GetPresence",code="UNAUTHENTICATED"}"#;
    assert_eq!(gateway.metric(refused).await, 1.0);
    assert!(!gateway.log().contains("token-of-sixteen"));
    // Health needs none.
    let mut health = HealthClient::new(gateway.grpc_channel().await);
    health
        .check(HealthCheckRequest::default())
        .await
        .expect("an answer");
}

#[tokio::test]
async fn pushes_of_one_caller_keep_their_order() {
    let (_nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let mut grpc = gateway.grpc().await;
    for number in 0..200 {
        pushed(&mut grpc, push("42", number.to_string())).await;
        assert_eq!(client.next_data().await, number);
    }
}

#[tokio::test]
async fn many_pushes_at_once_are_all_answered() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("session.queue_messages", "5000")
        .start()
        .await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let grpc = gateway.grpc().await;
    let pushes = (0..1000).map(|number| {
        let mut grpc = grpc.clone();
        async move {
            let answer = pushed(&mut grpc, push_with_receipt("42", number.to_string())).await;
            (answer.status(), answer.sessions)
        }
    });
    // More at once would only measure how much 250 ms are on a busy machine.
    let mut answers = stream::iter(pushes).buffer_unordered(50);
    let mut queued = 0;
    while let Some(answer) = answers.next().await {
        match answer {
            (PushStatus::Queued, 1) => queued += 1,
            // The machine stood still: the receipt came too late.
            (PushStatus::Offline, 0) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(queued >= 800, "of 1000 pushes {queued} were queued in time");
    let mut seen = [false; 1000];
    for _ in 0..1000 {
        let number = client.next_data().await.as_u64().expect("a number") as usize;
        assert!(
            !std::mem::replace(&mut seen[number], true),
            "twice: {number}"
        );
    }
}
