//! `usher bench`: it counts each delivery, and a loss is no success.

use std::process::Stdio;

use async_nats::Subscriber;
use futures_util::StreamExt as _;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::run::{Running, command, on_a_terminal, run, to_end};
use crate::support::{Gateway, Nats, Redis, eventually, servers, wait::patiently, world};

/// A run that is short, and slow enough for a busy machine.
const SMALL: [&str; 9] = [
    "bench",
    "--sessions",
    "6",
    "--rate",
    "30",
    "--payload",
    "200B",
    "--duration",
    "2s",
];

/// Arguments of a small run with others.
fn small<'a>(gateway: &'a str, others: &[&'a str]) -> Vec<&'a str> {
    [&SMALL[..], &["--ops", gateway], others].concat()
}

/// All that is pushed from now on.
async fn heard(nats: &Nats) -> Subscriber {
    let client = nats.operator().await;
    let heard = client.subscribe("usher.user.>").await.expect("heard");
    client.flush().await.expect("a server");
    heard
}

async fn next(heard: &mut Subscriber) -> async_nats::Message {
    patiently("a push", heard.next()).await.expect("a push")
}

/// Nothing was lost, and so many deliveries came.
#[track_caller]
fn assert_whole(report: &Value, sessions: u64, messages: u64, deliveries: u64) {
    for (key, count) in [
        ("sessions_opened", sessions),
        ("sent", messages),
        ("confirmed", messages),
        ("failed", 0),
        ("expected", deliveries),
        ("received", deliveries),
        ("lost", 0),
        ("duplicates", 0),
        ("gaps", 0),
        ("misdelivered", 0),
    ] {
        assert_eq!(report[key], count, "{key}: {report}");
    }
    assert_eq!(report["sessions_closed"], json!({}), "{report}");
    let p50 = report["latency_p50_ms"].as_f64().expect("a latency");
    let max = report["latency_max_ms"].as_f64().expect("a latency");
    assert!(0.0 < p50 && p50 <= max, "{report}");
}

#[tokio::test]
async fn a_bench_pushes_to_each_of_its_users() {
    let (nats, _redis, gateway) = world().await;
    let mut bystander = heard(&nats).await;
    let ran = run(&gateway, &small(&gateway.ops, &[])).await;
    let report = ran.json();
    assert_eq!(report["mode"], "users");
    assert_eq!(report["durable"], false);
    assert_eq!(report["seq_last"], Value::Null);
    // A machine that stands still for a moment sends fewer.
    let sent = report["sent"].as_u64().expect("a number");
    assert!((6..=60).contains(&sent), "{report}");
    assert_whole(&report, 6, sent, sent);
    assert_eq!(report["gateway_sessions"], 6, "{report}");
    let memory = report["memory_with_sessions_bytes"].as_u64();
    assert!(memory.is_some_and(|bytes| bytes > 1 << 20), "{report}");

    let message = next(&mut bystander).await;
    assert!(
        message.subject.starts_with("usher.user.bench-"),
        "{}",
        message.subject
    );
    assert_eq!(message.payload.len(), 200);
    let payload: Value = serde_json::from_slice(&message.payload).expect("JSON");
    assert!(payload["bench"].is_array(), "{payload}");
    // It has said goodbye to all.
    gateway.metric_becomes("usher_sessions", 0.0).await;
    gateway
        .metric_becomes("usher_session_closes_total{reason=\"client_left\"}", 6.0)
        .await;
}

#[tokio::test]
async fn a_bench_counts_a_broadcast_for_each_session() {
    let (_nats, _redis, gateway) = world().await;
    let report = run(&gateway, &small(&gateway.ops, &["--broadcast"]))
        .await
        .json();
    assert_eq!(report["mode"], "broadcast");
    let sent = report["sent"].as_u64().expect("a number");
    assert_whole(&report, 6, sent, sent * 6);
    gateway
        .metric_becomes("usher_messages_delivered_total", (sent * 6) as f64)
        .await;
}

#[tokio::test]
async fn a_bench_counts_a_topic_for_each_follower() {
    let (_nats, _redis, gateway) = world().await;
    for (topics, followers) in [("3", 2), ("12", 1)] {
        let report = run(&gateway, &small(&gateway.ops, &["--topics", topics]))
            .await
            .json();
        assert_eq!(report["mode"], "topics");
        let sent = report["sent"].as_u64().expect("a number");
        assert_whole(&report, 6, sent, sent * followers);
    }
}

#[tokio::test]
async fn a_bench_reads_the_chains_of_durable_mode() {
    let (nats, redis) = tokio::join!(Nats::keeping(), Redis::start());
    let gateway = Gateway::durable(&nats, &redis).start().await;
    for others in [&["--durable"][..], &["--durable", "--broadcast"]] {
        let report = run(&gateway, &small(&gateway.ops, others)).await.json();
        assert_eq!(report["durable"], true);
        let sent = report["sent"].as_u64().expect("a number");
        let each = if others.len() > 1 { 6 } else { 1 };
        assert_whole(&report, 6, sent, sent * each);
        let [first, last] = ["seq_first", "seq_last"].map(|key| report[key].as_u64());
        let seqs = last.zip(first).map(|(last, first)| last - first + 1);
        assert_eq!(seqs, Some(sent), "{report}");
    }
}

#[tokio::test]
async fn a_bench_that_wants_durable_mode_says_where_it_is_not() {
    let (_nats, _redis, gateway) = world().await;
    let ran = run(&gateway, &small(&gateway.ops, &["--durable"])).await;
    ran.failed(&["not in durable mode", "durable.enabled"]);
    assert_eq!(ran.out, "");
}

#[tokio::test]
async fn a_session_that_is_closed_loses_what_comes_after() {
    let (nats, _redis, gateway) = world().await;
    let mut pushes = heard(&nats).await;
    let mut arguments = small(&gateway.ops, &[]);
    arguments[8] = "60s";
    let bench = Running::start(command(&gateway, &arguments));
    let user = next(&mut pushes).await.subject;
    let user = user.strip_prefix("usher.user.").expect("a user");
    let ended = run(&gateway, &["disconnect", user]).await.json();
    assert_eq!(ended["sessions"], 1);
    // So that the next message to that user has been published.
    let subject = format!("usher.user.{user}");
    while next(&mut pushes).await.subject.as_str() != subject {}
    let (code, report, err) = interrupted(bench).await;
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("deliveries were lost"), "{err}");
    assert_eq!(report["interrupted"], true);
    assert_eq!(report["sessions_closed"], json!({"4100": 1}));
    assert!(report["lost"].as_u64() > Some(0), "{report}");
    assert!(report["received"].as_u64() > Some(0), "{report}");
}

/// Ends a run as Ctrl-C does: its exit code, its report, and what it said.
async fn interrupted(mut bench: Running) -> (Option<i32>, Value, String) {
    bench.signal(Signal::INT);
    let line = bench.line().await;
    let (code, err) = bench.end().await;
    (code, serde_json::from_str(&line).expect("JSON"), err)
}

#[tokio::test]
async fn a_gateway_that_dies_in_the_middle_is_a_loss() {
    let (_nats, _redis, mut gateway) = world().await;
    let mut arguments = small(&gateway.ops, &["--broadcast"]);
    arguments[8] = "60s";
    let mut bench = Running::start(command(&gateway, &arguments));
    eventually("messages are delivered", || async {
        gateway.metric("usher_messages_delivered_total").await > 6.0
    })
    .await;
    gateway.kill();
    let line = bench.line().await;
    let (code, err) = bench.end().await;
    assert_eq!(code, Some(1), "{err}");
    let report: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(report["sessions_closed"], json!({"1006": 6}), "{report}");
    assert!(err.contains("publishing ended early"), "{err}");
}

#[tokio::test]
async fn a_bench_outlives_its_connection() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("grpc.max_connection_age", "1s")
        .start()
        .await;
    for (others, each) in [(&[][..], 1), (&["--broadcast"], 6)] {
        let mut arguments = small(&gateway.ops, others);
        arguments[4] = "300";
        arguments[8] = "5s";
        let report = run(&gateway, &arguments).await.json();
        let sent = report["sent"].as_u64().expect("a number");
        assert_whole(&report, 6, sent, sent * each);
    }
    let streams = "usher_grpc_requests_total{method=\"PushStream\"}";
    assert!(gateway.metric(streams).await >= 2.0);
}

#[tokio::test]
async fn a_bench_that_is_stopped_prints_what_there_is() {
    let (_nats, _redis, gateway) = world().await;
    let mut arguments = small(&gateway.ops, &[]);
    arguments[8] = "60s";
    let bench = Running::start(command(&gateway, &arguments));
    eventually("messages are delivered", || async {
        gateway.metric("usher_messages_delivered_total").await > 6.0
    })
    .await;
    let (code, report, err) = interrupted(bench).await;
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(report["interrupted"], true);
    let sent = report["sent"].as_u64().expect("a number");
    assert!(sent > 6, "{report}");
    assert_whole(&report, 6, sent, sent);
}

#[tokio::test]
async fn a_bench_says_how_many_were_refused() {
    let (nats, redis) = servers().await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("public.max_sessions", "4")
        .start()
        .await;
    let ran = run(&gateway, &small(&gateway.ops, &[])).await;
    let report = ran.json();
    assert_eq!(report["sessions_refused"], json!({"full": 2}), "{report}");
    let sent = report["sent"].as_u64().expect("a number");
    assert_whole(&report, 4, sent, sent);
    assert!(
        ran.err.contains("not every session was opened"),
        "{}",
        ran.err
    );

    // The gateway drops topics beyond its bound, and none of their messages is expected.
    let gateway = Gateway::builder(&nats, &redis)
        .set("topics.max_per_session", "2")
        .start()
        .await;
    let ran = run(&gateway, &small(&gateway.ops, &["--topics", "60"])).await;
    ran.failed(&["no session is opened", "topics.max_per_session"]);
}

#[tokio::test]
async fn a_bench_without_a_gateway_or_its_metrics_says_so() {
    let (_nats, _redis, gateway) = world().await;
    run(&gateway, &small("http://127.0.0.1:1", &[]))
        .await
        .failed(&["http://127.0.0.1:1/metrics", "ops.listen"]);
    let public = format!("http://{}", gateway.public);
    run(&gateway, &small(&public, &[]))
        .await
        .failed(&["it answers 404", "ops.listen"]);
    // Those of the configuration may be away.
    let mut without = command(&gateway, &SMALL);
    without.env("USHER_OPS__LISTEN", "127.0.0.1:1");
    let report = to_end(without, Vec::new()).await.json();
    assert_eq!(report["memory_after_bytes"], Value::Null);
    assert_eq!(report["cpu_seconds"], Value::Null);
}

#[tokio::test]
async fn people_on_a_terminal_get_a_bar_and_a_table() {
    let (_nats, _redis, gateway) = world().await;
    let bench = command(&gateway, &small(&gateway.ops, &[]));
    let (code, shown) = on_a_terminal(bench, Stdio::null()).await;
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("publishing "), "no bar was shown: {shown:?}");
    for row in [
        "sessions   6 of 6 opened in ",
        "lost, 0 twice, 0 gaps",
        "latency    p50 ",
        "memory     ",
        "CPU        ",
    ] {
        assert!(shown.contains(row), "{row:?} is not in {shown:?}");
    }
    let mut without = command(&gateway, &SMALL);
    without.env("USHER_OPS__LISTEN", "127.0.0.1:1");
    let (code, shown) = on_a_terminal(without, Stdio::null()).await;
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("CPU        unknown: give --ops"), "{shown}");
    let in_json = command(&gateway, &small(&gateway.ops, &["--json"]));
    let (code, shown) = on_a_terminal(in_json, Stdio::null()).await;
    assert_eq!(code, Some(0), "{shown}");
    let line = shown.lines().last().expect("a line");
    let start = line.find('{').expect("JSON");
    let report: Value = serde_json::from_str(&line[start..]).expect("JSON");
    assert_eq!(report["lost"], 0);
}
