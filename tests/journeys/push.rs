//! The gRPC door: a push goes through NATS, and its answer says no more than is
//! known.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{StreamExt, stream};
use prost_types::{Duration as ProtoDuration, Timestamp};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};
use tonic::{Code, Request, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use usher::proto::{IssueTicketRequest, PushRequest, PushStatus};

use crate::support::{
    Client, Gateway, Nats, Redis, eventually,
    grpc::{issue, push, push_with_receipt, pushed, with_token},
    secret, servers,
    wait::patiently,
    world,
};

fn ticket_for(user: &str) -> IssueTicketRequest {
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

#[tokio::test]
async fn an_issued_ticket_opens_a_session() {
    let (_nats, redis, gateway) = world().await;
    let mut grpc = gateway.grpc().await;
    let answer = grpc
        .issue_ticket(ticket_for("zoë"))
        .await
        .expect("a ticket")
        .into_inner();
    let ticket = secret(answer.ticket);
    assert_eq!(ticket.len(), 43);
    assert_eq!(
        answer.expires_in,
        Some(ProtoDuration {
            seconds: 60,
            nanos: 0
        })
    );
    assert!(redis.exists(&ticket).await);
    assert_eq!(
        Client::open(&gateway, &ticket).await.welcome()["user"],
        "zoë"
    );
    Client::builder(&gateway, &ticket)
        .refused()
        .await
        .assert_refused(401, "ticket_unknown");

    // A user whose id holds a ticket's JSON is still that user.
    let id = "a{\"user_id\":\"admin\"}";
    let ticket = issue(&mut grpc, ticket_for(id)).await;
    assert_eq!(Client::open(&gateway, &ticket).await.welcome()["user"], id);
}

#[tokio::test]
async fn a_ticket_is_issued_with_bounds() {
    let (_nats, redis, gateway) = world().await;
    let mut grpc = gateway.grpc().await;

    let short = IssueTicketRequest {
        ttl: Some(ProtoDuration {
            seconds: 1,
            nanos: 0,
        }),
        ..ticket_for("42")
    };
    let ticket = issue(&mut grpc, short).await;
    eventually("the ticket expires", || async {
        !redis.exists(&ticket).await
    })
    .await;
    Client::builder(&gateway, &ticket)
        .refused()
        .await
        .assert_refused(401, "ticket_unknown");

    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    let ends = IssueTicketRequest {
        expires_at: Some(Timestamp {
            seconds: now.as_secs() as i64 + 2,
            nanos: 0,
        }),
        ..ticket_for("42")
    };
    let mut client = Client::open(&gateway, &issue(&mut grpc, ends).await).await;
    assert_eq!(
        client.expect_close().await,
        (4001, "session_expired".to_owned())
    );

    let own = format!("http://{}", gateway.public);
    let bound = IssueTicketRequest {
        origin: own.clone(),
        ..ticket_for("42")
    };
    let ticket = issue(&mut grpc, bound.clone()).await;
    Client::builder(&gateway, &ticket)
        .refused()
        .await
        .assert_refused(403, "ticket_binding");
    let ticket = issue(&mut grpc, bound).await;
    Client::builder(&gateway, &ticket).origin(&own).open().await;
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
    }
    let status = grpc
        .issue_ticket(ticket_for("42"))
        .await
        .expect_err("not let in");
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(!gateway.log().contains("token-of-sixteen"));
    // Health needs none.
    let mut health = HealthClient::new(gateway.grpc_channel().await);
    health
        .check(HealthCheckRequest::default())
        .await
        .expect("an answer");
}

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
