//! Rights that are withdrawn and given back while the gateway's connections stay.

use futures_util::StreamExt as _;
use serde_json::json;
use tonic::Code;
use usher::proto::GetPresenceRequest;

use super::all_but;
use crate::support::{
    Client, Gateway, Nats, Redis, eventually,
    grpc::{push, push_with_receipt, pushed},
    nats::Role,
    wait::patiently,
};

const ECHO: &str = "\"usher.live.user.*\"";

async fn permit(nats: &mut Nats, config: &str) {
    nats.write_config(config);
    nats.reload().await;
}

async fn pushes_pass(gateway: &Gateway) {
    let grpc = gateway.grpc().await;
    eventually("pushes pass", || {
        let mut grpc = grpc.clone();
        async move { grpc.push_notification(push("42", "1")).await.is_ok() }
    })
    .await;
    eventually("nothing is warned of", || async {
        let answer = gateway.ops_get("/readyz").await.json();
        answer["warnings"].as_array().is_some_and(Vec::is_empty)
    })
    .await;
}

/// The gateway may not publish its echo, or may not hear it: from the start, and later on.
#[tokio::test]
async fn pushes_pass_whenever_the_echo_is_permitted() {
    let (user, password) = Role::Gateway.login();
    let all = all_but("", "");
    for denied in [all_but(ECHO, ""), all_but("", ECHO)] {
        let (mut nats, redis) = tokio::join!(Nats::start_with(&denied), Redis::start());
        let gateway = Gateway::builder(&nats, &redis)
            .set("nats.user", &user)
            .set("nats.password", &password)
            .start()
            .await;
        gateway.readyz_lists("warnings", "push_forbidden").await;
        permit(&mut nats, &all).await;
        pushes_pass(&gateway).await;

        permit(&mut nats, &denied).await;
        let mut grpc = gateway.grpc().await;
        // More than there are echoes at the same time.
        for number in 0..6 {
            let refused = grpc.push_notification(push("42", number.to_string()));
            let code = refused.await.expect_err("no echo comes back").code();
            let known = code == Code::DeadlineExceeded || code == Code::PermissionDenied;
            assert!(known, "{code:?}");
        }
        gateway.readyz_lists("warnings", "push_forbidden").await;
        let refused = grpc.push_notification(push("42", "1")).await;
        let refused = refused.expect_err("it is forbidden");
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
        permit(&mut nats, &all).await;
        pushes_pass(&gateway).await;
        pushed(&mut grpc, push("42", "1")).await;
    }
}

/// Rights to hear broadcasts, other gateways and callers: given, withdrawn and given back while
/// the connections stay. NATS ends a subscription that it forbids, and never begins it again.
#[tokio::test]
async fn what_may_be_heard_again_is_heard() {
    let (user, password) = Role::Gateway.login();
    let all = all_but("", "");
    let hears =
        "\"usher.broadcast\", \"usher.gateways\", \"usher.control\", \"usher.api.presence\"";
    let denied = all_but("", hears);
    let (mut nats, redis) = tokio::join!(Nats::start_with(&denied), Redis::start());
    let gateway = Gateway::builder(&nats, &redis)
        .set("nats.user", &user)
        .set("nats.password", &password)
        .start()
        .await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let mut grpc = gateway.grpc().await;
    let other = async_nats::ConnectOptions::with_user_and_password(user, password);
    let other = other.connect(nats.url()).await.expect("a connection");
    for number in 0..2 {
        for finding in ["broadcast_forbidden", "control_forbidden"] {
            gateway.readyz_lists("warnings", finding).await;
        }
        permit(&mut nats, &all).await;
        pushes_pass(&gateway).await;
        client.next_data().await;

        let body = number.to_string();
        let published = other.publish("usher.broadcast", body.into()).await;
        published.expect("handed over");
        assert_eq!(client.next_data().await, number);
        let asked = GetPresenceRequest {
            user_ids: vec!["42".to_owned()],
        };
        let present = grpc.get_presence(asked).await.expect("NATS permits it");
        assert_eq!(present.into_inner().users["42"].sessions, 1);
        eventually("the service answers", || async {
            let body = json!({"user_ids": ["42"]}).to_string();
            let asked = other.request("usher.api.presence", body.into());
            asked.await.is_ok()
        })
        .await;
        permit(&mut nats, &denied).await;
    }
}

/// Rights to push to users and to ask all gateways, withdrawn and given back while the connections
/// stay. The warnings come at the first refusal. They go without another question.
#[tokio::test]
async fn what_may_be_published_again_is_published() {
    let (user, password) = Role::Gateway.login();
    let all = all_but("", "");
    let denied = all_but("\"usher.user.*\", \"usher.control\"", "");
    let (mut nats, redis) = tokio::join!(Nats::start_with(&all), Redis::start());
    let gateway = Gateway::builder(&nats, &redis)
        .set("nats.user", user)
        .set("nats.password", password)
        .start()
        .await;
    let mut grpc = gateway.grpc().await;
    pushed(&mut grpc, push("42", "1")).await;
    permit(&mut nats, &denied).await;
    let refused = grpc.push_notification(push("42", "1")).await;
    let refused = refused.expect_err("it is forbidden");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    gateway.readyz_lists("warnings", "push_forbidden").await;
    let asked = GetPresenceRequest {
        user_ids: vec!["42".to_owned()],
    };
    let asked = grpc.get_presence(asked).await;
    asked.expect_err("the question is forbidden");
    gateway.readyz_lists("warnings", "control_forbidden").await;
    permit(&mut nats, &all).await;
    pushes_pass(&gateway).await;
}

/// Waits until a push's receipt counts so many sessions.
async fn receipts_count(gateway: &Gateway, sessions: u32) {
    let grpc = gateway.grpc().await;
    eventually("receipts count the sessions", || {
        let mut grpc = grpc.clone();
        async move {
            let pushed = grpc.push_notification(push_with_receipt("42", "1")).await;
            pushed.is_ok_and(|pushed| pushed.into_inner().sessions == sessions)
        }
    })
    .await;
}

/// The same of the inboxes, to which all answers come: of gateways, of sessions, of services.
#[tokio::test]
async fn answers_come_again_when_they_may() {
    let (user, password) = Role::Gateway.login();
    let (all, denied) = (all_but("", ""), all_but("", "\"_INBOX.>\""));
    let (mut nats, redis) = tokio::join!(Nats::start_with(&denied), Redis::start());
    let gateway = Gateway::builder(&nats, &redis)
        .set("nats.user", &user)
        .set("nats.password", &password)
        .set("calls.timeout", "1s")
        .start()
        .await;
    let other = async_nats::ConnectOptions::with_user_and_password(user, password);
    let other = other.connect(nats.url()).await.expect("a connection");
    let mut asked = other.subscribe("usher.call.a").await.expect("asked");
    let service = tokio::spawn(async move {
        while let Some(call) = asked.next().await {
            if let Some(reply) = call.reply {
                let _ = other.publish(reply, "1".into()).await;
            }
        }
    });
    let ticket = json!({"user_id": "42", "calls": ["a"]});
    let mut client = Client::open(&gateway, &redis.ticket_json(ticket).await).await;
    for _ in 0..2 {
        permit(&mut nats, &all).await;
        receipts_count(&gateway, 1).await;
        patiently("a call is answered", async {
            let call = r#"{"id":"7","call":"a","data":1}"#;
            client.send_text(call).await;
            loop {
                let frame = client.next_json().await;
                if frame.get("reply").is_some() {
                    return;
                }
                // It took too long: the service's answer was not heard.
                if frame.get("error").is_some() {
                    client.send_text(call).await;
                }
            }
        })
        .await;
        permit(&mut nats, &denied).await;
        receipts_count(&gateway, 0).await;
    }
    service.abort();
}
