//! Calls while something is away, forbidden, or about to end.

use serde_json::json;

use super::service::{Service, answer, call, caller, fails, works};
use crate::support::{Gateway, Nats, Redis, eventually, servers};

const CONNECTED: &str = "usher_nats_connected{connection=\"calls\"}";

/// What was not sent is told from what may have been done.
#[tokio::test]
async fn without_nats_a_call_is_unavailable_and_one_under_way_has_no_answer() {
    let (mut nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("calls.timeout", "10m")
        .start()
        .await;
    let mut service = Service::of(&nats, "a").await;
    let mut client = caller(&gateway, &redis, "42").await;
    call(&mut client, "1", "a", json!(1)).await;
    service.next().await;
    nats.kill();
    let message = fails(&mut client, "1", "timeout").await;
    assert!(message.contains("was lost"), "{message}");
    gateway.metric_becomes(CONNECTED, 0.0).await;
    call(&mut client, "2", "a", json!(1)).await;
    let message = fails(&mut client, "2", "unavailable").await;
    assert!(message.contains("not sent"), "{message}");
    client.send_text(r#"{"call":"a"}"#).await;
    let unavailable = "usher_calls_total{result=\"unavailable\"}";
    gateway.metric_becomes(unavailable, 2.0).await;
    assert_eq!(
        gateway.readyz().await,
        200,
        "an outage of NATS takes no gateway away"
    );

    nats.restart().await;
    gateway.metric_becomes(CONNECTED, 1.0).await;
    let mut service = Service::of(&nats, "a").await;
    client.expect_gap().await;
    works(&mut client, &mut service, "a").await;
}

/// A hanging server shows within 10 s; a call that waits for it ends in its own time.
#[tokio::test]
async fn a_call_ends_in_its_time_where_nats_hangs() {
    let (mut nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("calls.timeout", "300ms")
        .start()
        .await;
    let mut client = caller(&gateway, &redis, "42").await;
    let service = Service::of(&nats, "a").await;
    nats.pause();
    call(&mut client, "1", "a", json!(1)).await;
    fails(&mut client, "1", "timeout").await;
    nats.resume();
    drop(service);
}

#[tokio::test]
async fn a_drain_ends_sessions_with_their_calls() {
    let (nats, redis) = servers().await;
    let mut gateway = Gateway::builder(&nats, &redis)
        .set("calls.timeout", "10m")
        .set("drain.delay", "0s")
        .set("drain.window", "100ms")
        .start()
        .await;
    let mut service = Service::of(&nats, "a").await;
    let mut client = caller(&gateway, &redis, "42").await;
    call(&mut client, "1", "a", json!(1)).await;
    let waiting = service.next().await;
    gateway.terminate();
    assert_eq!(client.expect_goodbye().await["reason"], "drain");
    assert_eq!(client.expect_close().await.0, 1012);
    assert_eq!(gateway.wait().await.code(), Some(0));
    service.answer(&waiting, "nobody waits").await;
}

/// A gateway that may not publish calls says so at once, and in `usher check`.
#[tokio::test]
async fn without_the_right_to_publish_calls_they_are_unavailable() {
    let (mut nats, redis) = servers().await;
    let permissions = include_str!("../../../examples/nats-permissions.conf");
    let lacking = permissions.replace("    \"usher.call.>\"\n    \"$JS", "    \"$JS");
    assert_ne!(lacking, permissions);
    nats.write_config(&lacking);
    nats.reload().await;
    let gateway = Gateway::builder(&nats, &redis).set("calls.timeout", "10m");
    let gateway = gateway.start().await;
    let mut client = caller(&gateway, &redis, "42").await;
    for id in ["1", "2"] {
        call(&mut client, id, "a", json!(1)).await;
        let message = fails(&mut client, id, "unavailable").await;
        assert!(message.contains("usher check"), "{message}");
    }
    let (code, said) = Gateway::builder(&nats, &redis).check().await;
    assert_eq!(code, Some(0), "all else works: {said}");
    assert!(
        said.contains("usher.call.$check") && said.contains("calls are answered"),
        "{said}"
    );
    nats.write_config(permissions);
    nats.reload().await;
    let (code, said) = Gateway::builder(&nats, &redis).check().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("usher.call"), "{said}");
}

/// `usher check` is heard by services on `usher.call.>`, and nothing comes of it.
#[tokio::test]
async fn the_check_asks_no_service_for_an_answer() {
    let (nats, redis) = servers().await;
    let mut all = Service::of(&nats, ">").await;
    let (code, said) = Gateway::builder(&nats, &redis).check().await;
    assert_eq!(code, Some(0), "{said}");
    let heard = all.next().await;
    assert_eq!(heard.subject.as_str(), "usher.call.$check");
    assert!(
        heard.reply.is_none() && heard.payload.is_empty(),
        "{heard:?}"
    );
}

/// Every update of a cluster does this to each gateway.
#[tokio::test]
async fn a_call_under_way_survives_a_server_that_retires() {
    let mut nodes = Nats::cluster(2).await;
    let redis = Redis::start().await;
    let gateway = Gateway::builder(&nodes[0], &redis)
        .set("calls.timeout", "30s")
        .set("session.frames_per_second", "100000")
        .start()
        .await;
    let mut service = Service::of(&nodes[1], "a").await;
    let mut client = caller(&gateway, &redis, "42").await;
    // Until the first server knows of the service.
    loop {
        call(&mut client, "0", "a", json!(1)).await;
        tokio::select! {
            asked = service.next() => {
                service.answer(&asked, "1").await;
                assert_eq!(answer(&mut client).await.0, "0");
                break;
            }
            _ = fails(&mut client, "0", "no_responders") => {}
        }
    }
    call(&mut client, "1", "a", json!(1)).await;
    let waiting = service.next().await;
    nodes[0].retire();
    eventually("calls have moved", || async {
        gateway.log().lines().any(|line| {
            line.contains("moved to another server") && line.contains("\"connection\":\"calls\"")
        })
    })
    .await;
    works(&mut client, &mut service, "a").await;
    service
        .answer(&waiting, "\"from the server that was left\"")
        .await;
    assert_eq!(answer(&mut client).await.0, "1");
}
