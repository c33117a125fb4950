//! What `make run` prints for somebody who tries Usher out.

use std::process::Command;

use crate::support::{Builder, Client, Gateway, Nats, Redis, eventually, http, process::Process};

const READY: &str = "Usher is ready. ";

/// Piped, so the log is JSON; each hint can be typed as it stands.
#[tokio::test]
async fn hints_can_be_copied_though_the_output_is_piped() {
    let gateway = Builder::new().argument("--embedded").argument("--demo");
    let gateway = gateway.start_unready().await;
    gateway.logs("Ctrl-C stops it.\n").await;
    assert_eq!(
        gateway.readyz().await,
        200,
        "it was said before it was true"
    );
    let log = gateway.log();
    let (lines, hints) = log.split_once(READY).expect("hints");
    assert!(lines.contains(r#""message":"listening""#), "{lines}");
    let page = hints
        .strip_prefix("Open ")
        .and_then(|rest| rest.split(' ').next());
    let page = page.unwrap_or_else(|| panic!("no page: {hints}"));
    assert_eq!(page, format!("http://{}/", gateway.public));
    let answer = http::get(&gateway.public, "/", &[]).await;
    assert_eq!(answer.status, 200);

    let typed = |name: &str| {
        let line = hints.lines().find(|line| line.contains(name));
        let line = line.unwrap_or_else(|| panic!("no {name}: {hints}"));
        let mut command = Command::new("bash");
        // The shell becomes the command.
        command.args(["-c", &format!("exec {}", line.trim())]);
        command
    };
    let listens = Process::spawn(typed(" listen "));
    eventually("it listens", || async {
        listens.output().contains("welcome")
    })
    .await;
    let mut push = Process::spawn(typed(" push "));
    assert!(push.wait().await.success(), "{}", push.output());
    eventually("it arrives", || async {
        listens.output().contains(r#""data":{"order":123}"#)
    })
    .await;
}

/// Nothing is promised that cannot be had yet.
#[tokio::test]
async fn a_demo_without_its_servers_promises_nothing() {
    const PAGE: &str = "the demo's page is served";
    let (mut nats, redis) = tokio::join!(Nats::start(), Redis::start());
    nats.kill();
    let gateway = Gateway::builder(&nats, &redis).argument("--demo");
    let gateway = gateway.start_unready().await;
    gateway.logs("NATS cannot be reached").await;
    gateway.logs("connected to Redis").await;
    assert!(!gateway.log().contains(PAGE), "{}", gateway.log());
    nats.restart().await;
    gateway.logs(PAGE).await;
    assert_eq!(gateway.readyz().await, 200);
    assert!(!gateway.log().contains(READY), "commands are for one alone");
}

/// A log is read by people and by programs, neither of which know Rust.
#[tokio::test]
async fn no_line_shows_how_rust_writes_a_value() {
    let (nats, redis) = tokio::join!(Nats::start(), Redis::start());
    let mut gateway = Gateway::start(&nats, &redis).await;
    let client = Client::open(&gateway, &redis.ticket("42").await).await;
    drop(client);
    gateway.terminate();
    assert!(gateway.wait().await.success());
    let log = gateway.log();
    for sign in ["Some(", "None", "Ok(", "Err(", "\\\"", " { "] {
        assert!(!log.contains(sign), "{sign:?} in\n{log}");
    }
    let limit = log
        .lines()
        .find(|line| line.contains("limit of open files"));
    let limit = serde_json::from_str::<serde_json::Value>(limit.expect("it is said"));
    let limit = limit.expect("JSON");
    for key in ["soft", "soft_before", "hard"] {
        let value = limit[key].as_str().expect("text");
        assert!(
            value == "unlimited" || value.parse::<u64>().is_ok(),
            "{limit}"
        );
    }
}
