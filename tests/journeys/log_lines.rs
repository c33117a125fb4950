//! A log line that can't be written, or not yet, hurts nobody.

use crate::support::{
    Client, Gateway, Nats, Redis, eventually,
    grpc::{push, pushed},
    process::Reading,
    servers,
};

/// A gateway that says much.
async fn talkative(nats: &Nats, redis: &Redis) -> Gateway {
    Gateway::builder(nats, redis)
        .set("log.filter", "trace")
        .set("drain.delay", "0s")
        .set("drain.window", "0s")
        .start()
        .await
}

/// A session opens and gets a message, and an older one gets it too.
async fn carries_messages(gateway: &Gateway, nats: &Nats, redis: &Redis, before: &mut Client) {
    let mut client = Client::open(gateway, &redis.ticket("42").await).await;
    for number in 0..20 {
        nats.publish("usher.user.42", &number.to_string()).await;
        assert_eq!(client.next_data().await, number);
        assert_eq!(before.next_data().await, number);
    }
}

/// As with `usher serve 2>&1 | head -1`, or a log collector that has died.
#[tokio::test]
async fn a_reader_that_is_gone_ends_nothing() {
    let (mut nats, redis) = servers().await;
    let mut gateway = talkative(&nats, &redis).await;
    let mut before = Client::open(&gateway, &redis.ticket("42").await).await;
    gateway.read_log(Reading::Ends);
    for _ in 0..5 {
        carries_messages(&gateway, &nats, &redis, &mut before).await;
    }
    let lost = || gateway.metric("usher_log_lines_lost_total");
    eventually("lines are lost", || async { lost().await > 0.0 }).await;
    // What is said of an outage, by all who keep a connection, is lost too.
    let connected = r#"usher_nats_connected{connection="interest"}"#;
    nats.kill();
    gateway.metric_becomes(connected, 0.0).await;
    nats.restart().await;
    gateway.metric_becomes(connected, 1.0).await;
    gateway.becomes_ready().await;
    drop(before);
    let mut after = Client::open(&gateway, &redis.ticket("42").await).await;
    carries_messages(&gateway, &nats, &redis, &mut after).await;
    gateway.terminate();
    assert_eq!(gateway.wait().await.code(), Some(0));
}

/// As with a log collector that hangs: the pipe is full.
#[tokio::test]
async fn a_reader_that_does_not_read_delays_nothing() {
    let (nats, redis) = servers().await;
    let mut gateway = talkative(&nats, &redis).await;
    let mut before = Client::open(&gateway, &redis.ticket("42").await).await;
    gateway.read_log(Reading::Rests);
    let lost = || gateway.metric("usher_log_lines_lost_total");
    let mut pusher = gateway.grpc().await;
    for pushes in 0.. {
        assert!(pushes < 5000, "a bounded queue takes no more");
        // Of each of its frames a line or several are said.
        pushed(&mut pusher, push("43", "1")).await;
        if pushes % 10 == 0 && lost().await > 0.0 {
            break;
        }
    }
    carries_messages(&gateway, &nats, &redis, &mut before).await;
    // It is said how much was lost, once there is somebody to read it.
    gateway.read_log(Reading::GoesOn);
    gateway.logs("log lines were lost").await;
    gateway.read_log(Reading::Rests);
    carries_messages(&gateway, &nats, &redis, &mut before).await;
    gateway.terminate();
    assert_eq!(gateway.wait().await.code(), Some(0));
}

/// An end that somebody must learn of by the exit code, whoever reads the log.
#[tokio::test]
async fn a_start_that_fails_without_a_reader_has_its_own_exit_code() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_usher"));
    command
        .args(["serve", "--embedded"])
        .env("USHER_PUBLIC__LISTEN", &taken)
        .env("USHER_GRPC__LISTEN", "127.0.0.1:0")
        .env("USHER_OPS__LISTEN", "127.0.0.1:0")
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().expect("usher runs");
    drop(child.stderr.take());
    let status = tokio::task::spawn_blocking(move || child.wait()).await;
    let status = status.expect("waited").expect("it ends");
    assert_eq!(status.code(), Some(1));
}
