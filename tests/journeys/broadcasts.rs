//! Broadcasts by gRPC and from the command line: to every session of every gateway, through
//! NATS like all else.

use std::collections::HashMap;

use futures_util::StreamExt;
use serde_json::json;
use tonic::Code;
use usher::proto::BroadcastRequest;

use crate::commands::run::{command, run, to_end};
use crate::grpc_unavailable::is_certain;
use crate::support::{
    Client, Gateway, Nats, Redis, eventually,
    grpc::{push, pushed, with_token},
    servers,
    wait::patiently,
    world,
};

/// Sessions of as many users, more than get a broadcast in one turn of the gateway.
const SESSIONS: usize = 200;

fn broadcast(message: impl Into<Vec<u8>>) -> BroadcastRequest {
    BroadcastRequest {
        message: message.into(),
        ..BroadcastRequest::default()
    }
}

#[tokio::test]
async fn a_broadcast_goes_through_nats_to_every_session() {
    let (nats, redis, here) = world().await;
    let there = Gateway::start(&nats, &redis).await;
    let observer = nats.operator().await;
    let heard = observer.subscribe("usher.broadcast").await;
    let mut heard = heard.expect("subscribed");
    eventually("NATS knows of it", || async {
        nats.subscriptions("usher.broadcast").await == 3
    })
    .await;
    let mut sessions = Vec::new();
    for (gateway, user) in [(&here, "1"), (&here, "1"), (&there, "2")] {
        sessions.push(Client::open(gateway, &redis.ticket(user).await).await);
    }
    let request = BroadcastRequest {
        event: "news".to_owned(),
        message_id: "m-1".to_owned(),
        ..broadcast("{\"a\":1}")
    };
    let mut grpc = here.grpc().await;
    let answer = grpc.broadcast(request).await.expect("OK").into_inner();
    assert_eq!(answer.seq, 0, "live mode");
    for session in &mut sessions {
        let event = json!({"event": "news", "data": {"a": 1}, "broadcast": true});
        assert_eq!(session.next_event().await, event);
    }
    let message = patiently("a message", heard.next()).await.expect("one");
    let headers = message.headers.expect("headers");
    let header = |name| headers.get(name).map(|value| value.as_str());
    assert_eq!(header("Event"), Some("news"));
    assert_eq!(header("Nats-Msg-Id"), Some("$broadcast:m-1"));
    let counted = r#"usher_grpc_requests_total{method="Broadcast",code="OK"}"#;
    assert_eq!(here.metric(counted).await, 1.0);
}

#[tokio::test]
async fn a_stored_broadcast_says_where_and_a_duplicate_where_the_first_is() {
    let (nats, redis) = tokio::join!(Nats::keeping(), Redis::start());
    let gateway = Gateway::durable(&nats, &redis).start().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let mut grpc = gateway.grpc().await;
    for (message, seq) in [("1", 1), ("2", 1)] {
        let request = BroadcastRequest {
            message_id: "same".to_owned(),
            ..broadcast(message)
        };
        let answer = grpc.broadcast(request).await.expect("OK").into_inner();
        assert_eq!(answer.seq, seq);
    }
    // An id is of one channel.
    let request = usher::proto::PushRequest {
        message_id: "same".to_owned(),
        ..push("42", "3")
    };
    assert_eq!(pushed(&mut grpc, request).await.seq, 2);
    assert_eq!(client.next_data().await, 1);
    assert_eq!(client.next_data().await, 3);
}

/// A broadcast and a message to one user reach that user in the order in which NATS has
/// them, however many sessions there are.
#[tokio::test]
async fn a_message_after_a_broadcast_does_not_overtake_it() {
    let (nats, redis, gateway) = world().await;
    let mut sessions = Vec::new();
    for user in 0..SESSIONS {
        let ticket = redis.ticket(&user.to_string()).await;
        sessions.push(Client::open(&gateway, &ticket).await);
    }
    let publisher = nats.client().await;
    let rounds = 20;
    for round in 0..rounds {
        let payload = format!("[{round},\"all\"]");
        let publish = async |subject: String, payload: String| {
            let published = publisher.publish(subject, payload.into()).await;
            published.expect("published");
        };
        publish("usher.broadcast".to_owned(), payload).await;
        for user in 0..SESSIONS {
            let payload = format!("[{round},\"one\"]");
            publish(format!("usher.user.{user}"), payload).await;
        }
    }
    publisher.flush().await.expect("flushed");
    for session in &mut sessions {
        for round in 0..rounds {
            assert_eq!(session.next_data().await, json!([round, "all"]));
            assert_eq!(session.next_data().await, json!([round, "one"]));
        }
    }
}

#[tokio::test]
async fn a_bad_broadcast_is_answered_for_what_it_is() {
    let (mut nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("grpc.tokens", "a-token-of-sixteen")
        .set("grpc.max_message", "2MiB")
        .start()
        .await;
    let mut grpc = gateway.grpc().await;
    let refused = grpc.broadcast(broadcast("1")).await.expect_err("no token");
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(is_certain(&refused), "it may be published: {refused:?}");
    let mut send = async |request| {
        let sending = grpc.broadcast(with_token(request, "a-token-of-sixteen"));
        patiently("an answer", sending).await
    };
    let bad = [
        (
            BroadcastRequest {
                event: "usher.x".to_owned(),
                ..broadcast("1")
            },
            "event",
        ),
        (
            BroadcastRequest {
                message_id: "a b".to_owned(),
                ..broadcast("1")
            },
            "message_id",
        ),
        (broadcast(vec![b'x'; (1 << 20) + 1]), "message"),
    ];
    for (request, field) in bad {
        let status = send(request).await.expect_err(field);
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains(field), "{status:?}");
    }
    nats.kill();
    let connected = "usher_nats_connected{connection=\"push\"}";
    gateway.metric_becomes(connected, 0.0).await;
    let status = send(broadcast("1")).await.expect_err("NATS is away");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(is_certain(&status), "{status:?}");
}

#[tokio::test]
async fn the_command_publishes_to_all() {
    let (_nats, redis, gateway) = world().await;
    let mut sessions = HashMap::new();
    for user in ["1", "2"] {
        let client = Client::open(&gateway, &redis.ticket(user).await).await;
        sessions.insert(user, client);
    }
    let ran = run(&gateway, &["broadcast", "{\"a\":1}", "--event", "news"]).await;
    assert_eq!(ran.json(), json!({"status": "dispatched"}));
    let lines = command(&gateway, &["broadcast", "-"]);
    let ran = to_end(lines, b"1\n2\n".to_vec()).await;
    assert_eq!(ran.json()["messages"], 2);
    for session in sessions.values_mut() {
        let event = json!({"event": "news", "data": {"a": 1}, "broadcast": true});
        assert_eq!(session.next_event().await, event);
        assert_eq!(session.next_data().await, 1);
        assert_eq!(session.next_data().await, 2);
    }
    for command in [
        &["broadcast", "-", "--message-id", "a"][..],
        &["push", "42", "-", "--message-id", "a"],
        &["push", "42", "x", "--message-id", "a b"],
    ] {
        let ran = run(&gateway, command).await;
        assert_eq!(ran.code, Some(64), "{command:?}: {}", ran.err);
        assert!(ran.err.contains("--message-id"), "{}", ran.err);
    }
}

/// In durable mode the stream stores the same id once.
#[tokio::test]
async fn a_message_id_from_the_command_line() {
    let (nats, redis) = tokio::join!(Nats::keeping(), Redis::start());
    let gateway = Gateway::durable(&nats, &redis).start().await;
    for command in [
        ["push", "42", "1", "--message-id", "order-7"],
        ["push", "42", "2", "--message-id", "order-7"],
    ] {
        let ran = run(&gateway, &command).await;
        assert_eq!(ran.json(), json!({"status": "dispatched", "seq": 1}));
    }
    let ran = run(&gateway, &["broadcast", "3", "--message-id", "order-7"]).await;
    assert_eq!(ran.json(), json!({"status": "dispatched", "seq": 2}));
}
