//! The README's own commands and programs, run as they stand there. Only the addresses are those
//! of the test.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use rustix::process::Pid;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    browser::{LIMIT, has_package, node, prints, remember_tickets},
    support::{
        Client, Gateway, Nats, Redis,
        gateway::Builder,
        process::{Process, bounded, free_port, server},
        secret,
        wait::PATIENCE,
        world,
    },
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

/// The lines of a chapter's shell blocks that begin with this word. A line that ends with a
/// backslash goes on in the next one.
fn lines(chapter: &str, word: &str) -> Vec<String> {
    let text = blocks(chapter, "sh").concat().replace("\\\n", " ");
    text.lines()
        .filter(|line| line.starts_with(word))
        .map(str::to_owned)
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

/// A shell line with `usher` standing for the program as it is built, and this gateway in place
/// of those of `make run` and `make up`.
fn shell(gateway: &Gateway, line: &str) -> Command {
    let line = line
        .replace("127.0.0.1:9090", &gateway.grpc)
        .replace("127.0.0.1:9091", &gateway.grpc)
        .replace("127.0.0.1:8081", &gateway.public);
    // The shell becomes the program, so that the end of the one is the end of the other.
    let line = line.replacen("usher ", "exec \"$USHER\" ", 1);
    let mut command = Command::new("bash");
    command
        .args(["-c", &line])
        .env("USHER", env!("CARGO_BIN_EXE_usher"))
        .env("USHER_GRPC__LISTEN", &gateway.grpc)
        .env("USHER_PUBLIC__LISTEN", &gateway.public);
    command
}

/// What a line prints that ends well.
async fn says(gateway: &Gateway, line: &str) -> String {
    let output = run(line, shell(gateway, line)).await;
    assert!(output.status.success(), "{line}: {output:?}");
    let said = String::from_utf8(output.stdout).expect("text");
    said.trim().to_owned()
}

#[tokio::test]
async fn the_first_message_is_as_the_readme_says() {
    let gateway = Builder::new()
        .argument("--embedded")
        .argument("--demo")
        .start()
        .await;
    let ticket = says(&gateway, "usher ticket alice").await;
    let mut alice = Client::open(&gateway, &secret(&ticket)).await;

    let mut ran = 0;
    for line in lines("The first message", "usher ") {
        if line.starts_with("usher listen") {
            continue; // it goes on until Ctrl-C; see the journeys below
        }
        let answer = says(&gateway, &line).await;
        ran += 1;
        if line.contains("push alice") {
            assert_eq!(answer, r#"{"status":"queued","sessions":1}"#);
            let event = json!({"event": "order.completed", "data": {"order": 123}});
            assert_eq!(alice.next_event().await, event);
        } else if line.starts_with("usher ticket") {
            secret(&answer);
        }
    }
    assert_eq!(ran, 3, "push, ticket and a help");
}

/// One line follows a user, the next one pushes.
#[tokio::test]
async fn the_real_thing_is_as_the_readme_says() {
    let (_nats, _redis, gateway) = world().await;
    let lines = lines("The real thing", "usher ");
    let [listen, push] = &lines[..] else {
        panic!("{lines:?}")
    };
    let mut listener = Process::spawn(shell(&gateway, listen));
    prints(&mut listener, "welcome", |line| line.contains("welcome")).await;
    let answer = says(&gateway, push).await;
    assert_eq!(answer, r#"{"status":"queued","sessions":1}"#);
    let event = r#"{"event":"message","data":{"order":124}}"#;
    prints(&mut listener, event, |line| line == event).await;
}

#[tokio::test]
async fn its_programs_publish() {
    // As `make up` has it: nobody logs in.
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let gateway = Gateway::start(&nats, &redis).await;
    let mut client = Client::open(&gateway, &redis.ticket("42").await).await;
    let event = json!({"event": "order.completed", "data": {"order": 123}});
    let program = |kind| {
        let text = blocks("Publish", kind).concat();
        assert!(text.contains("nats://127.0.0.1:4222"), "{text}");
        text.replace("nats://127.0.0.1:4222", &nats.url())
    };

    let mut python = Command::new("python3");
    python
        .args(["-c", &program("python")])
        .env("PYTHONPATH", root().join(".servers/python"));
    let output = run("python3", python).await;
    assert!(output.status.success(), "run \"make test\": {output:?}");
    assert_eq!(client.next_event().await, event);

    has_package("@nats-io/transport-node");
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("publish.mjs");
    fs::write(&file, program("js")).expect("a file");
    let modules = root().join(".servers/node/node_modules");
    std::os::unix::fs::symlink(modules, folder.path().join("node_modules")).expect("a link");
    let mut script = Command::new(server("node"));
    script.arg(file);
    let output = run("node", script).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(client.next_event().await, event);

    let lines = lines("Publish", "curl ");
    assert_eq!(lines.len(), 1, "{lines:?}");
    let answer = says(&gateway, &lines[0]).await;
    assert_eq!(answer, r#"{"status":"queued","sessions":1}"#);
    assert_eq!(client.next_event().await, event);
}

/// The page of `examples/page` in a browser, and its backend.
#[tokio::test]
async fn its_page_shows_a_message() {
    has_package("playwright-core");
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}/");
    let gateway = Builder::new()
        .set("public.allowed_origins", url.trim_end_matches('/'))
        .argument("--embedded")
        .argument("--demo")
        .start()
        .await;
    let backends = lines("In the browser", "python3 ");
    let server_py = backends[0].split_whitespace().nth(1).expect("a file");
    let mut backend = Command::new("python3");
    backend
        .arg(root().join(server_py))
        .arg(port.to_string())
        .env("USHER_URL", format!("http://{}", gateway.grpc));
    let mut backend = Process::spawn(backend);
    let open = format!("open {url}");
    prints(&mut backend, &open, |line| line == open).await;

    let mut script = node("readme.mjs");
    script
        .arg(&url)
        .arg(server("chromium"))
        .arg(&gateway.public);
    let mut page = Process::spawn(script);
    prints(&mut page, "open", |line| line == "open").await;
    let pushes = lines("In the browser", "usher ");
    assert_eq!(pushes.len(), 1, "{pushes:?}");
    says(&gateway, &pushes[0]).await;
    let status = page.wait_for(LIMIT).await;
    assert!(status.success(), "{}", page.output());
    let shown = r#"order.completed: {"order":123}"#;
    assert!(
        page.output().ends_with(&format!("{shown}\n")),
        "{}",
        page.output()
    );
    assert_eq!(remember_tickets(&page), 1, "{}", page.output());
}

/// A message that nobody was there to see comes to who asks for it.
#[tokio::test]
async fn nothing_is_missed_as_the_readme_says() {
    let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
    let gateway = Gateway::durable(&nats, &redis).start().await;
    let lines = lines("Durable mode", "usher ");
    let [push, listen] = &lines[..] else {
        panic!("{lines:?}")
    };
    let answer = says(&gateway, push).await;
    assert_eq!(answer, r#"{"status":"dispatched","seq":1}"#);
    let mut listener = Process::spawn(shell(&gateway, listen));
    let event = r#""data":{"order":123}"#;
    prints(&mut listener, event, |line| line.contains(event)).await;
    prints(&mut listener, "complete", |line| {
        line.contains("\"resume\":\"complete\"")
    })
    .await;
}
