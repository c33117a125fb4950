//! Rights that are withdrawn and given back while the gateway's connections stay.

use tonic::Code;

use super::all_but;
use crate::support::{
    Gateway, Nats, Redis, eventually,
    grpc::{push, pushed},
    nats::Role,
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
