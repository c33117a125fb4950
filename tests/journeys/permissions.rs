//! The users of `examples/nats-permissions.conf`. The whole suite runs with them,
//! so that each may do what it must is shown everywhere; here is what none may.

mod withdrawn;

use async_nats::{Event, ServerError};
use serde_json::json;
use tokio::sync::mpsc;
use tonic::Code;
use usher::proto::{BroadcastRequest, GetPresenceRequest, PublishTopicRequest};

use crate::support::{
    Client, Gateway, Nats, Redis, eventually,
    grpc::{push, push_with_receipt},
    nats::Role,
    servers,
    wait::patiently,
};

/// What somebody tries.
#[derive(Debug, Clone, Copy)]
enum Attempt {
    Subscribe,
    Publish,
}

/// What NATS says to that.
async fn complaint(nats: &Nats, role: Role, attempt: Attempt, subject: &str) -> String {
    let (said, mut heard) = mpsc::unbounded_channel();
    let (user, password) = role.login();
    let options = async_nats::ConnectOptions::with_user_and_password(user, password);
    let options = options.event_callback(move |event| {
        let said = said.clone();
        async move {
            if let Event::ServerError(ServerError::Other(text)) = event {
                let _ = said.send(text);
            }
        }
    });
    let client = options.connect(nats.url()).await.expect("a connection");
    let subject = subject.to_owned();
    let kept = match attempt {
        Attempt::Subscribe => Some(client.subscribe(subject).await.expect("asked")),
        Attempt::Publish => {
            client.publish(subject, "1".into()).await.expect("asked");
            None
        }
    };
    client.flush().await.expect("flushed");
    let said = patiently("a complaint", heard.recv()).await;
    drop(kept);
    said.expect("a text")
}

#[tokio::test]
async fn nobody_may_do_more_than_they_must() {
    let (nats, _redis) = servers().await;
    for (role, subject) in [
        (Role::Gateway, "usher.>"),
        (Role::Gateway, ">"),
        (Role::Gateway, "orders.new"),
        (Role::Publisher, "usher.user.42"),
        (Role::Publisher, "usher.user.*"),
        (Role::Publisher, "usher.control"),
        (Role::Caller, "usher.user.42"),
        (Role::Caller, "usher.api.*"),
        (Role::Responder, "usher.user.42"),
        (Role::Responder, "_INBOX.>"),
        (Role::Publisher, "usher.call.>"),
        (Role::Worker, "usher.user.42"),
        (Role::Worker, "usher.offline.*"),
        (Role::Operator, "orders.new"),
        (Role::Gateway, "usher.offline.*"),
        (Role::Gateway, "usher.presence.*"),
    ] {
        let said = complaint(&nats, role, Attempt::Subscribe, subject).await;
        assert!(
            said.to_lowercase().contains("permissions violation"),
            "{role:?} {subject}: {said}"
        );
    }
    for (role, subject) in [
        (Role::Gateway, "orders.new"),
        (Role::Gateway, "_INBOX.somebody"),
        (Role::Publisher, "orders.new"),
        // A probe in durable mode goes there, and so would a forged message of the stream.
        (Role::Publisher, "usher.live.user.42"),
        (Role::Caller, "usher.live.user.42"),
        (Role::Publisher, "usher.offline.42"),
        (Role::Publisher, "usher.presence.42"),
        (Role::Publisher, "usher.control"),
        (Role::Publisher, "usher.gateways"),
        (Role::Publisher, "usher.api.disconnect"),
        (Role::Caller, "usher.user.42"),
        (Role::Caller, "usher.control"),
        (Role::Responder, "usher.call.a"),
        (Role::Responder, "_INBOX.somebody"),
        (Role::Publisher, "usher.call.a"),
        (Role::Caller, "usher.call.a"),
        (Role::Worker, "usher.user.42"),
        (Role::Worker, "$JS.API.STREAM.CREATE.USHER"),
        (Role::Gateway, "usher.api.disconnect"),
        (Role::Publisher, "_INBOX.somebody"),
        (Role::Operator, "usher.user.42"),
        (Role::Operator, "usher.control"),
    ] {
        let said = complaint(&nats, role, Attempt::Publish, subject).await;
        assert!(
            said.to_lowercase().contains("permissions violation"),
            "{role:?} {subject}: {said}"
        );
    }
}

/// An answer goes only where callers listen, so a caller can't have a gateway publish for it.
#[tokio::test]
async fn a_caller_is_not_answered_on_another_subject() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::start(&nats, &redis).await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let caller = nats.caller().await;
    let body = || json!({"user_ids": ["42"]}).to_string().into();
    eventually("the service answers", || async {
        let asked = caller.request("usher.api.presence", body());
        patiently("an answer", asked).await.is_ok()
    })
    .await;
    let disconnect = json!({"user_id": "42"}).to_string().into();
    let unfollow = json!({"user_id": "42", "follow": ["news"]})
        .to_string()
        .into();
    for (subject, body) in [
        ("usher.api.presence", body()),
        ("usher.api.disconnect", disconnect),
        ("usher.api.topics", unfollow),
        ("$SRV.PING", "".into()),
        ("$SRV.INFO.usher", "".into()),
        ("$SRV.STATS.usher", "".into()),
    ] {
        let published = caller.publish_with_reply(subject, "usher.user.42", body);
        published.await.expect("asked");
    }
    caller.flush().await.expect("flushed");
    gateway
        .metric_becomes("usher_receipts_total{result=\"refused\"}", 6.0)
        .await;
    nats.publish("usher.user.42", "1").await;
    assert_eq!(client.next_data().await, 1, "neither an answer nor the end");
}

/// A gateway with the wrong user says so, and lets nobody believe anything.
#[tokio::test]
async fn what_is_forbidden_is_never_welcome_and_never_ok() {
    let (nats, redis) = servers().await;
    let with = |role: Role| {
        let (user, password) = role.login();
        let builder = Gateway::builder(&nats, &redis).set("nats.user", user);
        builder.set("nats.password", password).start()
    };
    let deaf = with(Role::Publisher).await;
    let ticket = redis.ticket("42").await;
    Client::builder(&deaf, &ticket)
        .refused()
        .await
        .assert_refused(503, "unavailable");
    eventually("the log says so", || async {
        deaf.log()
            .contains("NATS forbids it: no session gets any broadcast")
    })
    .await;

    deaf.readyz_lists("warnings", "broadcast_forbidden").await;

    let dumb = with(Role::Operator).await;
    let mut grpc = dumb.grpc().await;
    for request in [push("42", "1"), push_with_receipt("42", "1")] {
        let status = grpc.push_notification(request).await;
        let status = status.expect_err("NATS forbids it");
        assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    }
}

/// A gateway that may do everything but this.
fn all_but(publish: &str, subscribe: &str) -> String {
    let (user, password) = Role::Gateway.login();
    format!(
        "authorization {{ users: [ {{ user: \"{user}\", password: \"{password}\", permissions: {{
           publish: {{ deny: [{publish}] }}
           subscribe: {{ deny: [{subscribe}] }}
         }} }} ] }}"
    )
}

/// What a missing right does not concern works on.
#[tokio::test]
async fn without_the_right_to_push_to_users_the_rest_works() {
    let (user, password) = Role::Gateway.login();
    let config = all_but("\"usher.user.*\"", "");
    let (nats, redis) = tokio::join!(Nats::start_with(&config), Redis::start());
    let gateway = Gateway::builder(&nats, &redis)
        .set("nats.user", user)
        .set("nats.password", password)
        .start()
        .await;
    let ticket = redis
        .ticket_json(json!({"user_id": "42", "topics": ["news"]}))
        .await;
    let mut client = Client::open(&gateway, &ticket).await;
    gateway.readyz_lists("warnings", "push_forbidden").await;
    let mut grpc = gateway.grpc().await;
    let status = grpc.push_notification(push("42", "1")).await;
    let status = status.expect_err("NATS forbids it");
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    let broadcast = BroadcastRequest {
        message: b"2".to_vec(),
        ..BroadcastRequest::default()
    };
    grpc.broadcast(broadcast).await.expect("NATS permits it");
    assert_eq!(client.next_data().await, 2);
    let topic = PublishTopicRequest {
        topic: "news".to_owned(),
        message: b"3".to_vec(),
        ..PublishTopicRequest::default()
    };
    grpc.publish_topic(topic).await.expect("NATS permits it");
    assert_eq!(client.next_data().await, 3);
    let asked = GetPresenceRequest {
        user_ids: vec!["42".to_owned()],
    };
    let present = grpc.get_presence(asked).await.expect("NATS permits it");
    assert_eq!(present.into_inner().users["42"].sessions, 1);
}

/// Rights without which sessions can't be served are tried by `usher check`.
#[tokio::test]
async fn a_gateway_that_may_not_hear_users_or_topics_is_told() {
    let (user, password) = Role::Gateway.login();
    for (denied, code) in [("usher.user.*", 69), ("usher.topic.*", 0)] {
        let config = all_but("", &format!("\"{denied}\""));
        let (nats, redis) = tokio::join!(Nats::start_with(&config), Redis::start());
        let builder = Gateway::builder(&nats, &redis)
            .set("nats.user", &user)
            .set("nats.password", &password);
        let (exited, said) = builder.check().await;
        assert_eq!(exited, Some(code), "{said}");
        assert!(said.contains(denied.trim_end_matches('*')), "{said}");
    }
}
