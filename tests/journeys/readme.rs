//! The README's own commands, run as they stand there.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use rustix::process::Pid;
use serde_json::json;

use super::support::{
    Client, Gateway, gateway::Builder, process::bounded, secret, wait::PATIENCE, world,
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The code blocks of a chapter that are of this kind.
fn blocks(chapter: &str, kind: &str) -> Vec<String> {
    let readme = fs::read_to_string(root().join("README.md")).expect("the README");
    let chapter = readme
        .split("\n## ")
        .find(|part| part.starts_with(chapter))
        .unwrap_or_else(|| panic!("no chapter {chapter:?}"));
    chapter
        .split(&format!("```{kind}\n"))
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap_or_default().to_owned())
        .collect()
}

async fn run(what: &str, mut command: Command) -> Output {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{what} does not run: {error}"));
    let pid = Pid::from_child(&child);
    bounded(what, pid, PATIENCE, move || child.wait_with_output())
        .await
        .unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// Runs a shell line with `usher` standing for the program as it is built, and
/// the gateway where its configuration says.
async fn shell(gateway: &Gateway, line: &str) -> Output {
    let script = format!("usher() {{ \"$USHER\" \"$@\"; }}\n{line}");
    let mut command = Command::new("bash");
    command
        .args(["-c", &script])
        .env("USHER", env!("CARGO_BIN_EXE_usher"))
        .env("USHER_GRPC__LISTEN", &gateway.grpc)
        .env("USHER_PUBLIC__LISTEN", &gateway.public);
    run(line, command).await
}

#[tokio::test]
async fn the_first_message_is_as_the_readme_says() {
    let gateway = Builder::new()
        .argument("--embedded")
        .argument("--demo")
        .start()
        .await;
    let ticket = shell(&gateway, "usher ticket alice").await;
    let ticket = secret(String::from_utf8(ticket.stdout).expect("text").trim());
    let mut alice = Client::open(&gateway, &ticket).await;

    let mut ran = 0;
    for line in blocks("The first message", "sh").concat().lines() {
        if !line.starts_with("usher ") || line.contains("listen") {
            continue;
        }
        let output = shell(&gateway, line).await;
        assert!(output.status.success(), "{line}: {output:?}");
        ran += 1;
        if line.contains("push alice") {
            let answer = String::from_utf8_lossy(&output.stdout);
            assert_eq!(answer.trim(), r#"{"status":"queued","sessions":1}"#);
            let event = json!({"event": "order.completed", "data": {"order": 123}});
            assert_eq!(alice.next_event().await, event);
        } else if line.starts_with("usher ticket") {
            secret(String::from_utf8_lossy(&output.stdout).trim());
        }
    }
    assert_eq!(ran, 3, "push, ticket and a help");
}

#[tokio::test]
async fn the_python_lines_publish() {
    let (nats, redis, gateway) = world().await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let script = blocks("The real thing", "python").concat();
    assert!(script.contains("nats://127.0.0.1:4222"), "{script}");
    let script = script.replace("nats://127.0.0.1:4222", &nats.publishers_url());
    let mut python = Command::new("python3");
    python
        .args(["-c", &script])
        .env("PYTHONPATH", root().join(".servers/python"));
    let output = run("python3", python).await;
    assert!(output.status.success(), "run \"make test\": {output:?}");
    let event = json!({"event": "order.completed", "data": {"order": 123}});
    assert_eq!(client.next_event().await, event);
}
