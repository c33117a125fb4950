//! The demo page in a real browser: `tests/browser/demo.mjs`; and server-sent events there,
//! `tests/browser/events.mjs`.
//! And the client's rules, case by case, without one: `tests/browser/client.mjs` and
//! `tests/browser/positions.mjs`.

use std::{net::TcpListener, path::Path, process::Command, time::Duration};

use rand::Rng as _;
use tokio::time::{Instant, sleep};

use crate::support::{
    Gateway,
    gateway::Builder,
    process::{self, Process},
    secrets,
};

/// A little more than the script gives itself.
pub(crate) const LIMIT: Duration = Duration::from_secs(130);

#[tokio::test]
async fn the_demo_page_shows_pushes_and_survives_its_gateway() {
    has_package("playwright-core");
    has_package("axe-core");
    let chromium = process::server("chromium");
    let screenshot = Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo.png");

    let listen = format!("127.0.0.1:{}", steady_port());
    let mut gateway = demo(&listen).await;
    let mut command = node("demo.mjs");
    command
        .arg(format!("http://{listen}/"))
        .args([&chromium, &screenshot]);
    let mut script = Process::spawn(command);

    asks(&mut script, "please kill").await;
    remember_tickets(&script);
    gateway.kill();
    gateway.wait().await;
    asks(&mut script, "please start").await;
    drop(gateway);
    let _gateway = demo(&listen).await;

    let status = script.wait_for(LIMIT).await;
    assert!(status.success(), "{}", script.output());
    // Two users, each before and after the outage.
    assert!(remember_tickets(&script) >= 4, "{}", script.output());
}

/// A browser's own client of events repeats the ticket that is used up; the one of
/// `docs/frontend.md` gets a fresh one.
#[tokio::test]
async fn an_event_source_gets_pushes_and_a_page_its_next_ticket() {
    has_package("playwright-core");
    has_package("eventsource");
    let gateway = Builder::new()
        .set("session.max_lifetime", "3s")
        .argument("--embedded")
        .argument("--demo")
        .start()
        .await;
    let mut command = node("events.mjs");
    command
        .arg(format!("http://{}", gateway.public))
        .arg(process::server("chromium"));
    let mut script = Process::spawn(command);
    let status = script.wait_for(LIMIT).await;
    assert!(status.success(), "{}", script.output());
    assert!(remember_tickets(&script) >= 5, "{}", script.output());
}

#[tokio::test]
async fn the_client_keeps_the_rules() {
    for cases in ["client.mjs", "positions.mjs"] {
        let mut script = Process::spawn(node(cases));
        let status = script.wait_for(Duration::from_secs(60)).await;
        assert!(status.success(), "{}", script.output());
    }
}

async fn demo(listen: &str) -> Gateway {
    Builder::new()
        .set("public.listen", listen)
        .argument("--embedded")
        .argument("--demo")
        .start()
        .await
}

/// A script of `tests/browser`, to be run by node.
pub(crate) fn node(script: &str) -> Command {
    let mut command = Command::new(process::server("node"));
    command.arg(root().join("tests/browser").join(script));
    command
}

pub(crate) fn has_package(name: &str) {
    let package = root().join(".servers/node/node_modules").join(name);
    assert!(
        package.exists(),
        "there is no {name} yet: run \"make test\" once"
    );
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Waits until the script prints this line.
async fn asks(script: &mut Process, line: &str) {
    prints(script, line, |said| said == line).await;
}

/// Waits until the script prints such a line.
pub(crate) async fn prints(script: &mut Process, what: &str, is_it: impl Fn(&str) -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !script.output().lines().any(&is_it) {
        if script.try_wait().is_some() {
            let status = script.wait().await;
            panic!("{status} before {what:?}:\n{}", script.output());
        }
        assert!(
            Instant::now() < deadline,
            "no {what:?}:\n{}",
            script.output()
        );
        sleep(Duration::from_millis(20)).await;
    }
}

/// Has the gateways' logs searched for the tickets that the page got.
pub(crate) fn remember_tickets(script: &Process) -> usize {
    let output = script.output();
    output
        .lines()
        .filter_map(|line| line.strip_prefix("ticket "))
        .map(secrets::secret)
        .count()
}

/// A free port that nobody is given by chance while the gateway is away: the
/// kernel chooses from 32768 on.
fn steady_port() -> u16 {
    let mut ports = (0..100).map(|_| rand::rng().random_range(15_000..32_000));
    ports
        .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        .expect("127.0.0.1 has a free port")
}
