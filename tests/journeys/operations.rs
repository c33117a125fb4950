//! What an operator sees: start, health, faults, metrics, and the way out.

mod hints;
mod start;

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{
    Client, Frame, Gateway, Nats, Redis, eventually, gateway::Builder, grpc, http,
    process::free_port, servers, world,
};

#[tokio::test]
async fn health_is_shown_to_operators_and_to_load_balancers() {
    let (_nats, _redis, gateway) = world().await;
    for address in [&gateway.ops, &gateway.public] {
        for path in ["/healthz", "/readyz"] {
            let answer = http::get(address, path, &[]).await;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
        }
    }
    assert!(gateway.status().await.is_object());
    let metrics = gateway.ops_get("/metrics").await;
    assert!(
        metrics
            .header("content-type")
            .is_some_and(|v| v.starts_with("text/plain"))
    );
}

#[tokio::test]
async fn a_gateway_starts_without_nats_and_becomes_ready_with_it() {
    let (mut nats, redis) = servers().await;
    nats.kill();
    let gateway = Gateway::builder(&nats, &redis).start_unready().await;
    assert_eq!(gateway.ops_get("/healthz").await.status, 200);
    not_ready_for(&gateway, "nats").await;
    let ticket = redis.ticket("42").await;
    Client::builder(&gateway, &ticket)
        .refused()
        .await
        .assert_refused(503, "unavailable");
    assert!(redis.exists(&ticket).await);
    nats.restart().await;
    gateway.becomes_ready().await;
    Client::open(&gateway, &ticket).await;
}

#[tokio::test]
async fn a_gateway_starts_without_redis_and_becomes_ready_with_it() {
    let (nats, mut redis) = servers().await;
    redis.kill();
    let gateway = Gateway::builder(&nats, &redis).start_unready().await;
    gateway
        .metric_becomes("usher_nats_connected{connection=\"interest\"}", 1.0)
        .await;
    not_ready_for(&gateway, "redis").await;
    redis.restart().await;
    gateway.becomes_ready().await;
    Client::open(&gateway, &redis.ticket("42").await).await;
}

async fn not_ready_for(gateway: &Gateway, reason: &str) {
    let answer = gateway.ops_get("/readyz").await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.json().to_string().contains(reason), "{answer:?}");
    // The public listener tells the status only.
    let public = http::get(&gateway.public, "/readyz", &[]).await;
    assert_eq!(public.status, 503, "{public:?}");
    assert!(!public.text().contains(reason), "{public:?}");
}

#[tokio::test]
async fn an_outage_of_nats_takes_no_gateway_out_of_service() {
    let (mut nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    nats.kill();
    gateway
        .metric_becomes("usher_nats_connected{connection=\"interest\"}", 0.0)
        .await;
    assert_eq!(gateway.readyz().await, 200);
    nats.restart().await;
    assert_eq!(client.expect_gap().await["reason"], "bus_lost");
}

#[tokio::test]
async fn unless_the_operator_wants_it_so() {
    let (mut nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("ops.nats_grace", "500ms")
        .start()
        .await;
    nats.kill();
    gateway.becomes_unready().await;
    not_ready_for(&gateway, "nats").await;
    nats.restart().await;
    gateway.becomes_ready().await;
}

#[tokio::test]
async fn when_nats_comes_back_sessions_are_told_of_the_gap() {
    let (mut nats, redis, gateway) = world().await;
    let mut framed = Client::open(&gateway, &redis.ticket("42").await).await;
    let ticket = redis.ticket("42").await;
    let mut raw = Client::builder(&gateway, &ticket)
        .protocols(&["usher.raw.v1"])
        .open()
        .await;
    nats.stop().await;
    nats.restart().await;
    assert_eq!(framed.expect_gap().await["reason"], "bus_lost");
    // The one that cannot be told is closed, sometime in the next seconds.
    assert_eq!(raw.expect_close().await, (4003, "bus_lost".to_owned()));
    nats.publish("usher.user.42", "1").await;
    assert_eq!(framed.next_data().await, 1);
}

/// A server that is there and answers nothing is away too; whether or not that
/// is noticed while it lasts, nothing may be lost in silence.
#[tokio::test]
async fn a_frozen_nats_loses_nothing_in_silence() {
    let (mut nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let publisher = nats.client().await;
    nats.pause();
    publisher
        .publish("usher.user.42", "1".into())
        .await
        .expect("queued");
    client.quiet_for(Duration::from_secs(1)).await;
    nats.resume();
    loop {
        let frame = client.next_json().await;
        if frame["data"] == 1 || frame["gap"].is_object() {
            break;
        }
    }
}

#[tokio::test]
async fn every_metric_of_the_contract_is_there() {
    let (nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    nats.publish("usher.user.42", "1").await;
    client.next_data().await;
    client.close(1000).await;
    gateway.metric_becomes("usher_sessions", 0.0).await;
    let mut pusher = gateway.grpc().await;
    grpc::pushed(&mut pusher, grpc::push("42", "1")).await;

    let metrics = gateway.metrics().await;
    for family in [
        "usher_build_info",
        "usher_sessions",
        "usher_users",
        "usher_admissions_total",
        "usher_messages_received_total",
        "usher_messages_delivered_total",
        "usher_messages_dropped_total",
        "usher_session_closes_total",
        "usher_delivery_seconds",
        "usher_subscriptions",
        "usher_topics",
        "usher_topic_changes_total",
        "usher_queued_bytes",
        "usher_tasks",
        "usher_nats_connected",
        "usher_gateways",
        "usher_gateways_lost_total",
        "usher_control_calls_total",
        "usher_service_requests_total",
        "usher_redis_command_seconds",
        "usher_grpc_requests_total",
        "usher_draining",
        "usher_ready",
        "process_resident_memory_bytes",
        "process_open_fds",
    ] {
        let line = format!("# TYPE {family} ");
        assert!(
            metrics.lines().any(|found| found.starts_with(&line)),
            "{family} in\n{metrics}"
        );
    }
    assert_eq!(
        gateway
            .metric("usher_sessions{transport=\"websocket\"}")
            .await,
        0.0
    );
    assert_eq!(
        gateway
            .metric("usher_messages_delivered_total{transport=\"websocket\"}")
            .await,
        1.0
    );
    assert!(!metrics.contains("\"42\""), "no label carries a user");
    assert!(!metrics.contains("127.0.0.1"), "nor an address");
}

/// As Kubernetes ends a pod: not ready at once, newcomers still let in while
/// the load balancer looks away, then sent away, then sessions closed.
#[tokio::test]
async fn a_gateway_drains_in_the_contracts_order() {
    let (nats, redis) = servers().await;
    let mut gateway = Gateway::builder(&nats, &redis)
        .set("drain.delay", "1500ms")
        .set("drain.window", "2s")
        .start()
        .await;
    let mut first = Client::open(&gateway, &redis.ticket("1").await).await;
    gateway.terminate();
    gateway.becomes_unready().await;
    let answer = gateway.ops_get("/readyz").await;
    assert!(answer.json().to_string().contains("draining"), "{answer:?}");
    assert_eq!(gateway.ops_get("/healthz").await.status, 200);
    assert_eq!(gateway.metric("usher_draining").await, 1.0);
    assert_eq!(gateway.metric("usher_ready").await, 0.0);
    let finding = r#"usher_findings{reason="draining"}"#;
    assert_eq!(gateway.metric(finding).await, 1.0);

    let mut late = Client::open(&gateway, &redis.ticket("2").await).await;

    // A ticket of its own for each try: those that come in early use one up.
    eventually("newcomers are sent away", || async {
        let ticket = redis.ticket("3").await;
        match Client::try_open(&gateway, &ticket).await {
            Ok(_) => false,
            Err(refusal) => {
                refusal.assert_refused(503, "draining");
                assert!(
                    redis.exists(&ticket).await,
                    "its ticket is for another gateway"
                );
                true
            }
        }
    })
    .await;

    // Messages arrive until the end.
    nats.publish("usher.broadcast", "1").await;
    for client in [&mut first, &mut late] {
        let mut last = client.next_json().await;
        if last["data"] == 1 {
            last = client.next_json().await;
        }
        assert_eq!(last["goodbye"]["reason"], "drain");
        assert_eq!(client.expect_close().await, (1012, "drain".to_owned()));
    }
    assert_eq!(gateway.wait().await.code(), Some(0));
    assert_eq!(nats.subscriptions("usher.user.1").await, 0);
}

#[tokio::test]
async fn without_sessions_a_drain_is_short() {
    let (nats, redis) = servers().await;
    for interrupt in [false, true] {
        let builder = Gateway::builder(&nats, &redis).set("drain.delay", "100ms");
        let mut gateway = builder.set("drain.window", "60s").start().await;
        if interrupt {
            gateway.interrupt();
        } else {
            gateway.terminate();
        }
        assert_eq!(gateway.wait().await.code(), Some(0));
    }
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("drain.delay", "60s");
    let mut gateway = builder.set("drain.window", "60s").start().await;
    let _session = Client::open(&gateway, &redis.ticket("42").await).await;
    gateway.terminate();
    gateway.becomes_unready().await;
    assert!(gateway.has_ended().is_none());
    gateway.terminate();
    gateway.wait().await;
}

#[tokio::test]
async fn a_gateway_that_never_was_ready_drains_too() {
    let builder = Builder::new()
        .set("nats.url", format!("nats://127.0.0.1:{}", free_port()))
        .set("redis.url", format!("redis://127.0.0.1:{}", free_port()))
        .set("drain.delay", "0s");
    let mut gateway = builder.start_unready().await;
    assert_eq!(gateway.readyz().await, 503);
    gateway.terminate();
    assert_eq!(gateway.wait().await.code(), Some(0));
}

#[tokio::test]
async fn secrets_are_in_no_log() {
    let nats = Nats::start_with("authorization { token: \"a-token-that-nobody-may-see\" }").await;
    let redis = Redis::start().await;
    let url = nats
        .url()
        .replace("nats://", "nats://a-token-that-nobody-may-see@");
    let gateway = Gateway::builder(&nats, &redis)
        .set("nats.url", url)
        .set("grpc.tokens", "another-token-that-nobody-may-see")
        .start()
        .await;
    Client::open(&gateway, &redis.ticket("42").await).await;
    let status = gateway.status().await.to_string();
    for text in [gateway.log(), status, gateway.metrics().await] {
        assert!(!text.contains("token-that-nobody"), "{text}");
    }
}

#[tokio::test]
async fn sessions_are_closed_across_the_window() {
    let (nats, redis) = servers().await;
    let builder = Gateway::builder(&nats, &redis).set("drain.delay", "0s");
    let mut gateway = builder.set("drain.window", "2s").start().await;
    let mut sessions = Vec::new();
    for user in 0..20 {
        sessions.push(Client::open(&gateway, &redis.ticket(&user.to_string()).await).await);
    }
    gateway.terminate();
    let start = Instant::now();
    let closes = sessions.into_iter().map(|mut session| async move {
        while !matches!(session.next_frame().await, Frame::Closed(..)) {}
        start.elapsed()
    });
    let mut times = futures_util::future::join_all(closes).await;
    times.sort();
    assert!(
        times[10] > Duration::from_millis(500),
        "evenly, not all at once: {times:?}"
    );
    assert_eq!(gateway.wait().await.code(), Some(0));
}
