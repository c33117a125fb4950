//! `clients/usher.js`, and the plain means of `docs/frontend.md`, keep their position in a real
//! browser: `tests/browser/resume.mjs`.

use std::path::Path;

use serde_json::{Value, json};
use usher::{
    channel::Channel,
    position::{Begun, Position, Since, Tracker},
};

use super::{loses_what_is_stored, republishes_again, store};
use crate::{
    browser::{LIMIT, has_package, node, prints, remember_tickets},
    support::{
        Gateway, Nats, Redis,
        process::{self, Process},
    },
};

const SUBJECT: &str = "usher.user.42";

async fn world() -> (Nats, Redis, Gateway) {
    has_package("playwright-core");
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let gateway = Gateway::durable(&nats, &redis)
        .set("durable.audit", "24h")
        .set("session.ping_interval", "3s")
        .set("session.max_outgoing_frame", "4KiB")
        .argument("--demo")
        .start()
        .await;
    (nats, redis, gateway)
}

/// What opens sessions, by its function.
const CLIENTS: [&str; 3] = ["usher", "usherSocket", "usherEvents"];

fn browser(gateway: &Gateway, client: &str, since: &[&str]) -> Process {
    let mut command = node("resume.mjs");
    command
        .arg(format!("http://{}", gateway.public))
        .arg(process::server("chromium"))
        .arg(client)
        .args(since);
    Process::spawn(command)
}

/// What stands after this word on the lines that begin with it.
fn said<'a>(output: &'a str, word: &str) -> Vec<&'a str> {
    let lines = output.lines();
    lines
        .filter_map(|line| line.strip_prefix(word)?.strip_prefix(' '))
        .collect()
}

/// Waits until the script has said this.
async fn says(script: &mut Process, line: &str) {
    prints(script, line, |said| said == line).await;
}

async fn ended(script: &mut Process) -> String {
    let status = script.wait_for(LIMIT).await;
    assert!(status.success(), "{}", script.output());
    assert!(remember_tickets(script) > 0);
    script.output()
}

fn position(text: &str) -> Option<Position> {
    match Since::parse(text) {
        Ok(Since::Position(position)) => Some(position),
        _ => None,
    }
}

/// Keeps the position of what a browser printed, and compares it with each that it sent.
fn positions_follow_the_rules(output: &str) {
    let mut tracker = Tracker::default();
    let mut compared = 0;
    for line in output.lines() {
        if let Some(text) = line.strip_prefix("frame ") {
            let frame: Value = serde_json::from_str(text).expect("JSON");
            take_in(&mut tracker, &frame);
        }
        let sent = line.strip_prefix("since ").filter(|sent| *sent != "null");
        if let Some(sent) = sent.or(line.strip_prefix("position ")) {
            let expected = tracker.position().map(ToString::to_string);
            let expected = expected.as_deref().and_then(position);
            assert_eq!(position(sent), expected, "{sent} in\n{output}");
            compared += 1;
        }
    }
    assert!(compared > 1, "{output}");
}

fn take_in(tracker: &mut Tracker, frame: &Value) {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let (welcome, gap) = (&frame["welcome"], &frame["gap"]);
    if let Some(epoch) = welcome["epoch"].as_str() {
        let begun = match welcome["resume"].as_str() {
            Some("complete") => Begun::Complete,
            Some("gap") => Begun::Gap,
            _ => Begun::Anew,
        };
        let (seq, at) = (number(&welcome["seq"]), number(&welcome["at"]));
        tracker.welcome(Some(epoch.into()), seq, at, begun, []);
    }
    for proof in [&frame["live"], &frame["ping"]] {
        if proof["seq"].is_u64() {
            tracker.proof(number(&proof["seq"]), number(&proof["at"]));
        }
    }
    let event = if gap["seq"].is_u64() { gap } else { frame };
    if event["seq"].is_u64() {
        let channel = match event["broadcast"] == true {
            true => Channel::Broadcast,
            false => Channel::User,
        };
        let (seq, prev) = (number(&event["seq"]), number(&event["prev"]));
        tracker.event(channel, seq, prev, number(&event["at"]));
    }
}

/// Waits until a proof has come: then the second look at a join is over.
async fn is_proven(script: &mut Process, seq: u64) {
    prints(script, "a proof", |line| {
        let frame = line.strip_prefix("frame ").unwrap_or("null");
        let frame: Value = serde_json::from_str(frame).expect("JSON");
        frame["ping"]["seq"]
            .as_u64()
            .is_some_and(|proven| proven >= seq)
    })
    .await;
}

/// Messages of the user's are lost on their way, and then a broadcast comes. The browser
/// leaves, comes back, leaves in the middle of the replay, and comes back again: it gets each
/// message once, and the broadcast does not hide those before it.
#[tokio::test]
async fn a_browser_gets_what_a_broadcast_went_past() {
    for client in CLIENTS {
        gets_what_a_broadcast_went_past(client).await;
    }
}

async fn gets_what_a_broadcast_went_past(client: &str) {
    let (nats, _redis, gateway) = world().await;
    let nats = nats.client().await;
    let mut script = browser(&gateway, client, &[]);
    prints(&mut script, "welcome", |line| line.contains("welcome")).await;
    let first = store(&nats, SUBJECT, 1).await;
    is_proven(&mut script, first).await;
    loses_what_is_stored(&nats).await;
    let leave = json!("leave");
    store(&nats, SUBJECT, &leave).await;
    store(&nats, SUBJECT, 3).await;
    republishes_again(&nats).await;
    let broadcast = store(&nats, "usher.broadcast", &leave).await;
    says(&mut script, "event 3").await;
    prints(&mut script, "live", |line| line.contains("\"live\"")).await;
    store(&nats, SUBJECT, json!("end")).await;

    let output = ended(&mut script).await;
    positions_follow_the_rules(&output);
    let events = ["1", "\"leave\"", "\"leave\"", "3", "\"end\""];
    assert_eq!(said(&output, "event"), events, "{output}");
    assert_eq!(said(&output, "gap"), [""; 0], "{output}");
    let sent: Vec<_> = said(&output, "since").into_iter().map(position).collect();
    let [None, Some(once), Some(twice)] = sent.as_slice() else {
        panic!("three connections: {output}");
    };
    let (user, all) = (Channel::User, Channel::Broadcast);
    assert_eq!((once.proven, once.top), (first, broadcast), "{once}");
    assert_eq!((once.of(&user), once.of(&all)), (first, broadcast));
    // It was told `complete`, and keeps the mark of the broadcast.
    assert_eq!((twice.proven, twice.top), (first, broadcast), "{twice}");
    assert_eq!((twice.of(&user), twice.of(&all)), (first + 1, broadcast));
}

/// A message that is too large for a frame is told once: its `gap` moves the mark.
#[tokio::test]
async fn a_browser_is_told_once_of_a_message_that_is_too_large() {
    for client in CLIENTS {
        is_told_once_of_a_message_that_is_too_large(client).await;
    }
}

async fn is_told_once_of_a_message_that_is_too_large(client: &str) {
    let (nats, _redis, gateway) = world().await;
    let nats = nats.client().await;
    let mut script = browser(&gateway, client, &[]);
    prints(&mut script, "welcome", |line| line.contains("welcome")).await;
    let large = json!("x".repeat(5000));
    store(&nats, SUBJECT, &large).await;
    store(&nats, "usher.broadcast", json!("leave")).await;
    prints(&mut script, "live", |line| line.contains("\"live\"")).await;
    store(&nats, SUBJECT, 3).await;
    says(&mut script, "event 3").await;
    // What the gateway brings from the stream is no hole.
    loses_what_is_stored(&nats).await;
    store(&nats, SUBJECT, 4).await;
    store(&nats, SUBJECT, &large).await;
    republishes_again(&nats).await;
    store(&nats, SUBJECT, json!("end")).await;

    let output = ended(&mut script).await;
    positions_follow_the_rules(&output);
    let events = ["\"leave\"", "3", "4", "\"end\""];
    assert_eq!(said(&output, "event"), events, "{output}");
    assert_eq!(said(&output, "gap"), ["too_large"; 2], "{output}");
    assert_eq!(said(&output, "since").len(), 2, "{output}");
}

/// A page stores its position: it goes on from there. One of an earlier version's form is
/// answered by a gap, and then what is kept comes.
#[tokio::test]
async fn a_browser_goes_on_from_a_stored_position() {
    for client in CLIENTS {
        goes_on_from_a_stored_position(client).await;
    }
}

async fn goes_on_from_a_stored_position(client: &str) {
    let (nats, _redis, gateway) = world().await;
    let nats = nats.client().await;
    store(&nats, SUBJECT, 1).await;
    store(&nats, SUBJECT, json!("end")).await;
    let output = ended(&mut browser(&gateway, client, &["0"])).await;
    let stored = said(&output, "position")[0].to_owned();
    let Some(Position { epoch, .. }) = position(&stored) else {
        panic!("{stored}");
    };

    store(&nats, "usher.broadcast", 3).await;
    store(&nats, SUBJECT, json!("end")).await;
    let output = ended(&mut browser(&gateway, client, &[&stored])).await;
    assert_eq!(said(&output, "event"), ["3", "\"end\""], "{output}");
    assert_eq!(said(&output, "gap"), [""; 0], "{output}");

    let output = ended(&mut browser(&gateway, client, &[&format!("{epoch}.1")])).await;
    assert_eq!(said(&output, "event"), ["1", "\"end\""], "{output}");
    assert_eq!(said(&output, "gap"), ["reconnected"], "{output}");
}

/// The demo page goes on from its position when somebody reconnects by hand.
#[tokio::test]
async fn the_demo_page_misses_nothing() {
    let (_nats, _redis, gateway) = world().await;
    let mut command = node("demo.mjs");
    command
        .arg(format!("http://{}/", gateway.public))
        .arg(process::server("chromium"))
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo-durable.png"))
        .arg("durable");
    ended(&mut Process::spawn(command)).await;
}
