//! The only NATS server shuts down as a lame duck: gateways find no other to move to.

use async_nats::jetstream::{self, stream};
use tonic::Code;

use crate::{
    grpc_unavailable::is_certain,
    support::{
        Gateway, Nats, Redis, eventually,
        grpc::{push, pushed},
    },
};

const RETIRES: &str =
    "jetstream: enabled\nlame_duck_grace_period: \"1s\"\nlame_duck_duration: \"30s\"\n";

/// A push meanwhile is not published, and not when the server is back either.
#[tokio::test]
async fn a_push_without_any_server_is_never_published() {
    let (mut nats, redis) = tokio::join!(Nats::start_with(RETIRES), Redis::start());
    let gateway = Gateway::start(&nats, &redis).await;
    // It has what NATS takes from a gateway as soon as that is back.
    let all = stream::Config {
        name: "ALL".to_owned(),
        subjects: vec!["usher.user.42".to_owned()],
        ..stream::Config::default()
    };
    let keeping = jetstream::new(nats.client().await);
    keeping.create_stream(all).await.expect("a stream");
    let mut grpc = gateway.grpc().await;
    pushed(&mut grpc, push("42", "before")).await;

    nats.retire();
    eventually("nats-server has ended", || {
        std::future::ready(nats.has_ended())
    })
    .await;
    eventually("the health of pushes is NOT_SERVING", || async {
        !gateway.serves("usher.v1.Notification").await
    })
    .await;
    let refused = grpc.push_notification(push("42", "meanwhile")).await;
    let refused = refused.expect_err("there is no server");
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(is_certain(&refused), "{refused:?}");

    nats.restart().await;
    eventually("pushes pass again", || {
        let mut grpc = grpc.clone();
        async move { grpc.push_notification(push("42", "after")).await.is_ok() }
    })
    .await;
    let kept = jetstream::new(nats.client().await).get_stream("ALL").await;
    let kept = kept.expect("the stream");
    let mut published = Vec::new();
    for seq in 1..=kept.cached_info().state.last_sequence {
        let message = kept.get_raw_message(seq).await.expect("a message");
        published.push(String::from_utf8_lossy(&message.payload).into_owned());
    }
    published.dedup();
    assert_eq!(published, ["before", "after"]);
}
