//! The users of `examples/nats-permissions.conf`. The whole suite runs with them,
//! so that each may do what it must is shown everywhere; here is what none may.

use async_nats::{Event, ServerError};
use tokio::sync::mpsc;
use tonic::Code;

use crate::support::{
    Client, Gateway, Nats, eventually,
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

    let dumb = with(Role::Operator).await;
    let mut grpc = dumb.grpc().await;
    for request in [push("42", "1"), push_with_receipt("42", "1")] {
        let status = grpc.push_notification(request).await;
        let status = status.expect_err("NATS forbids it");
        assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    }
}
