//! UNAVAILABLE of a caller's own gRPC library proves nothing; the gateway's own does. Told
//! by Python's grpcio.

use std::{fs, path::Path, process::Command};

use futures_util::StreamExt;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::{
    Gateway, Nats, eventually,
    grpc::{push, pushed},
    process::Process,
    wait::patiently,
    world,
};

/// A program of `tests/clients/python` that calls this gateway.
pub(crate) fn python(script: &str, gateway: &Gateway, arguments: &[&str]) -> Process {
    Process::spawn(command(script, &gateway.grpc, arguments))
}

/// The same that calls this address.
pub(crate) fn command(script: &str, address: &str, arguments: &[&str]) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let clients = root.join(".servers/python");
    assert!(
        clients.exists(),
        "the Python clients are not there yet: run \"make test\" once"
    );
    let mut command = Command::new("python3");
    command
        .arg(root.join("tests/clients/python").join(script))
        .arg(root.join("proto"))
        .arg(address)
        .args(arguments)
        .env("PYTHONPATH", &clients)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Whether the gateway itself says that nothing was published.
pub(crate) fn is_certain(status: &Status) -> bool {
    let info = status.get_details_error_info();
    info.is_some_and(|info| (&*info.reason, &*info.domain) == ("NOT_PUBLISHED", "usher"))
}

/// What a push by grpcio is answered.
async fn answer(mut caller: Process) -> String {
    let status = caller.wait().await;
    let output = caller.output();
    assert!(status.success(), "{output}");
    output.trim().to_owned()
}

/// The next message that NATS passes on to a user's subject.
async fn next(heard: &mut async_nats::Subscriber) -> String {
    let message = patiently("a message", heard.next()).await.expect("one");
    String::from_utf8_lossy(&message.payload).into_owned()
}

async fn hear(nats: &Nats) -> (async_nats::Client, async_nats::Subscriber) {
    let client = nats.operator().await;
    let heard = client.subscribe("usher.user.42").await.expect("taken");
    client.flush().await.expect("flushed");
    eventually("NATS knows of it", || async {
        nats.subscriptions("usher.user.42").await == 1
    })
    .await;
    (client, heard)
}

/// The trap: NATS is frozen, a push is under way, the gateway is killed, NATS thaws.
#[tokio::test]
async fn a_librarys_own_unavailable_may_be_published() {
    let (mut nats, _redis, mut gateway) = world().await;
    let (_client, mut heard) = hear(&nats).await;
    nats.pause();
    let message = "x".repeat(20_000);
    let caller = python("push.py", &gateway, &["42", &message]);
    // The message is with NATS's machine, and NATS has not read it yet.
    eventually("NATS's socket has it", || {
        std::future::ready(unread(nats.port()) >= message.len())
    })
    .await;
    gateway.kill();
    assert_eq!(answer(caller).await, "UNAVAILABLE unknown");
    nats.resume();
    assert_eq!(next(&mut heard).await, message, "it was published");
}

/// The gateway's own says that nothing was published, and nothing is.
#[tokio::test]
async fn the_gateways_own_unavailable_is_certain() {
    let (mut nats, _redis, gateway) = world().await;
    nats.kill();
    gateway
        .metric_becomes("usher_nats_connected{connection=\"push\"}", 0.0)
        .await;
    let caller = python("push.py", &gateway, &["42", "lost"]);
    assert_eq!(answer(caller).await, "UNAVAILABLE certain");
    nats.restart().await;
    let (_client, mut heard) = hear(&nats).await;
    let mut grpc = gateway.grpc().await;
    eventually("pushes pass again", || {
        let mut grpc = grpc.clone();
        async move { grpc.push_notification(push("42", "next")).await.is_ok() }
    })
    .await;
    assert_eq!(next(&mut heard).await, "next", "'lost' was never published");

    // A bad field is as certain; a ticket is no message.
    let bad = grpc.push_notification(push("", "1")).await;
    let bad = bad.expect_err("no user");
    assert!(is_certain(&bad), "{bad:?}");
    let bad = grpc.issue_ticket(super::push::ticket_for("")).await;
    let bad = bad.expect_err("no user");
    assert_eq!(bad.code(), Code::InvalidArgument);
    assert!(!is_certain(&bad), "{bad:?}");
}

/// Nobody can say what becomes of a push while NATS is frozen.
#[tokio::test]
async fn a_push_that_nats_has_not_confirmed_is_not_certain() {
    let (mut nats, _redis, gateway) = world().await;
    pushed(&mut gateway.grpc().await, push("42", "1")).await;
    nats.pause();
    let caller = python("push.py", &gateway, &["42", "2"]);
    assert_eq!(answer(caller).await, "DEADLINE_EXCEEDED unknown");
}

/// Bytes that wait in the sockets of a local port for its process to read them
/// (`/proc/net/tcp`: local address in hex, state, queues in hex).
fn unread(port: u16) -> usize {
    let port = format!(":{port:04X}");
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let lines: Vec<String> = tables
        .into_iter()
        .flatten()
        .flat_map(|table| table.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let queues = lines.iter().filter_map(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let is_here = columns.next()?.ends_with(&port);
        let queues = columns.nth(2)?;
        let (_, unread) = queues.split_once(':')?;
        let unread = usize::from_str_radix(unread, 16).ok()?;
        is_here.then_some(unread)
    });
    queues.max().unwrap_or(0)
}
