//! A drain cuts no push: callers of foreign gRPC libraries push without a pause while
//! one gateway after the other is drained at the same address.

use std::{
    collections::HashMap,
    process::Command,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::StreamExt;
use rustix::process::Signal;

use crate::grpc_bounds::raw_h2;
use crate::grpc_unavailable::{command, python};
use crate::support::{
    Client, Gateway, Nats, Redis, eventually,
    grpc::{push, pushed},
    process::{Process, free_port},
    servers,
    wait::patiently,
};

/// Each with a connection of its own.
const CALLERS: u32 = 20;
const DRAINS: usize = 10;
/// Calls that are answered between two drains, at least.
const BETWEEN: usize = 60;

/// How often each message was published.
type Published = Arc<Mutex<HashMap<String, u32>>>;

/// Who connects while the gateway drains is served, and asked to go soon; one that does
/// not go holds up no end.
#[tokio::test]
async fn who_comes_during_a_drain_is_served_and_asked_to_go() {
    let (nats, redis) = servers().await;
    let mut gateway = Gateway::builder(&nats, &redis)
        .set("drain.delay", "0s")
        .set("drain.window", "6s")
        .start()
        .await;
    let sessions = hold_sessions(&gateway, &redis).await;
    let mut before = raw_h2::connect(&gateway.grpc).await;
    // It takes no notice of a GOAWAY: that is answered by a PING's answer at least.
    let mut stubborn = raw_h2::connect(&gateway.grpc).await;
    gateway.metric_becomes("usher_grpc_connections", 2.0).await;
    gateway.terminate();
    for stream in [&mut before, &mut stubborn] {
        let goaway = raw_h2::read_until(stream, raw_h2::GOAWAY).await;
        goaway.expect("a GOAWAY at once");
    }
    for number in 0..2 {
        let mut during = raw_h2::connect(&gateway.grpc).await;
        pushed(&mut gateway.grpc().await, push("42", number.to_string())).await;
        let goaway = raw_h2::read_until(&mut during, raw_h2::GOAWAY).await;
        goaway.expect("a GOAWAY soon");
        assert!(gateway.has_ended().is_none(), "{}", gateway.log());
    }
    let status = gateway.wait().await;
    assert!(status.success(), "{status}");
    drop((sessions, stubborn));
}

/// Python's grpcio.
#[tokio::test]
async fn grpcio_loses_no_push_in_ten_drains() {
    ten_drains(|address| command("drain.py", address, &[&CALLERS.to_string()])).await;
}

/// The same over streams of pushes.
#[tokio::test]
async fn grpcios_streams_lose_no_push_in_ten_drains() {
    let output = ten_drains(|address| command("stream.py", address, &["forever", "drain"])).await;
    // Streams that pushes went through ended in good order; others found nobody.
    for end in ends(&output) {
        let good = ["UNAVAILABLE:certain", "OK:certain"].contains(&end.0) || end.1 == 0;
        assert!(good, "{end:?}");
    }
}

/// The same while connections grow old.
#[tokio::test]
async fn grpcios_streams_lose_no_push_when_connections_grow_old() {
    let (nats, redis) = servers().await;
    let published = record(&nats).await;
    let gateway = Gateway::builder(&nats, &redis)
        .set("grpc.max_connection_age", "1s")
        .start()
        .await;
    let mut load = python("stream.py", &gateway, &["forever", "drain"]);
    eventually("three connections have grown old", || {
        assert!(load.try_wait().is_none(), "{}", load.output());
        let ended = load.output().matches("end:UNAVAILABLE:certain:").count();
        std::future::ready(ended >= 3)
    })
    .await;
    load.signal(Signal::TERM);
    let status = load.wait().await;
    let output = load.output();
    assert!(status.success() && output.ends_with("over\n"), "{output}");
    all_arrived(&nats, &published).await;
    judge(&output, &published);
    for end in ends(&output) {
        let good = ["UNAVAILABLE:certain", "OK:certain"].contains(&end.0) && end.1 > 0;
        assert!(good, "{end:?}");
    }
}

/// How each stream ended, and how many answers it had before.
fn ends(output: &str) -> Vec<(&str, u64)> {
    let ends = output.lines().filter_map(|line| line.strip_prefix("end:"));
    ends.map(|line| {
        let (end, answers) = line.rsplit_once(':').expect("a number of answers");
        (end, answers.parse().expect("a number"))
    })
    .collect()
}

/// grpc-go, where `make drain-go` has built its client.
#[tokio::test]
#[ignore = "needs Go: make drain-go"]
async fn grpc_go_loses_no_push_in_ten_drains() {
    let client = std::env::var("USHER_DRAIN_GO").expect("make drain-go says where its client is");
    ten_drains(|address| {
        let mut command = Command::new(&client);
        command.args([address, &CALLERS.to_string()]);
        command
    })
    .await;
}

/// Returns what the callers printed.
async fn ten_drains(client: impl FnOnce(&str) -> Command) -> String {
    let (nats, redis) = servers().await;
    let published = record(&nats).await;
    let address = format!("127.0.0.1:{}", free_port());
    let start = async || {
        let gateway = Gateway::builder(&nats, &redis)
            .set("grpc.listen", &address)
            .set("drain.delay", "300ms")
            .set("drain.window", "700ms")
            .start()
            .await;
        let sessions = hold_sessions(&gateway, &redis).await;
        (gateway, sessions)
    };
    let (mut gateway, mut sessions) = start().await;
    let mut load = Process::spawn(client(&address));
    for _ in 0..DRAINS {
        let before = answered(&load);
        eventually("pushes are answered", || {
            assert!(load.try_wait().is_none(), "{}", load.output());
            std::future::ready(answered(&load) >= before + BETWEEN)
        })
        .await;
        gateway.terminate();
        let status = gateway.wait().await;
        assert!(status.success(), "{status}");
        drop(sessions);
        (gateway, sessions) = start().await;
    }
    load.signal(Signal::TERM);
    let status = load.wait().await;
    let output = load.output();
    assert!(status.success() && output.ends_with("over\n"), "{output}");
    all_arrived(&nats, &published).await;
    judge(&output, &published);
    drop((gateway, sessions));
    output
}

/// Sessions that the drain closes across its window.
async fn hold_sessions(gateway: &Gateway, redis: &Redis) -> Vec<Client> {
    let mut sessions = Vec::new();
    for user in ["a", "b", "c"] {
        sessions.push(Client::open(gateway, &redis.ticket(user).await).await);
    }
    sessions
}

/// Hears all that is pushed. Its interest also keeps NATS from saying that nobody is
/// there, so that each call waits 250 ms for receipts: there are always calls under way.
async fn record(nats: &Nats) -> Published {
    let published = Published::default();
    let record = published.clone();
    let client = nats.operator().await;
    let mut heard = client.subscribe("usher.user.drain").await.expect("taken");
    client.flush().await.expect("flushed");
    tokio::spawn(async move {
        let _client = client;
        while let Some(message) = heard.next().await {
            let name = String::from_utf8_lossy(&message.payload).into_owned();
            let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
            *record.entry(name).or_default() += 1;
        }
    });
    eventually("the recorder is there", || async {
        nats.subscriptions("usher.user.drain").await == 1
    })
    .await;
    published
}

/// What was published before this has been recorded when it returns.
async fn all_arrived(nats: &Nats, published: &Published) {
    nats.publish("usher.user.drain", "the last").await;
    patiently("the last message", async {
        eventually("it is heard", || {
            let record = published.lock().unwrap_or_else(PoisonError::into_inner);
            std::future::ready(record.contains_key("the last"))
        })
        .await;
    })
    .await;
}

/// The calls that were answered OK so far.
fn answered(load: &Process) -> usize {
    load.output()
        .lines()
        .filter(|line| line.ends_with(" OK"))
        .count()
}

/// A call that failed has published nothing, and one that did not has published once.
fn judge(output: &str, published: &Published) {
    let published = published.lock().unwrap_or_else(PoisonError::into_inner);
    let calls = output.lines().filter_map(|line| line.split_once(' '));
    let mut wrong = Vec::new();
    for (name, status) in calls {
        let times = published.get(name).copied().unwrap_or(0);
        if times != u32::from(status == "OK") {
            wrong.push(format!("{name}: {status}, published {times} times"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} calls:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
