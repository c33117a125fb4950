//! `examples/recipes`, run as they stand there beside a gateway as `make up` has it.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{ChildStdin, Command},
};

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    durable::api,
    support::{
        Gateway, Nats, Redis, eventually,
        process::{Process, server},
    },
};

/// The servers of `make up`, and one service of a recipe.
struct World {
    nats: Nats,
    _redis: Redis,
    gateway: Gateway,
    service: Process,
}

/// A client of a recipe, and its terminal.
struct Page {
    process: Process,
    input: ChildStdin,
}

fn recipe(file: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("examples/recipes").join(file)
}

async fn prints(process: &mut Process, text: &str) {
    eventually(text, || {
        assert!(
            process.output().contains(text) || process.try_wait().is_none(),
            "it ended without {text:?}:\n{}",
            process.output()
        );
        std::future::ready(process.output().contains(text))
    })
    .await;
}

impl World {
    async fn of(service: &str, arguments: &[&str], durable: bool) -> Self {
        let (nats, redis) = tokio::join!(Nats::keeping_for_all(), Redis::start());
        let gateway = match durable {
            true => Gateway::durable(&nats, &redis),
            false => Gateway::builder(&nats, &redis),
        };
        let gateway = gateway.argument("--demo").start().await;
        let mut command = Command::new("python3");
        command
            .arg(recipe(service))
            .args(arguments)
            .env("NATS_URL", nats.url())
            .env(
                "PYTHONPATH",
                Path::new(env!("CARGO_MANIFEST_DIR")).join(".servers/python"),
            )
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let mut service = Process::spawn(command);
        prints(&mut service, "listening\n").await;
        Self {
            nats,
            _redis: redis,
            gateway,
            service,
        }
    }

    fn page(&self, client: &str, arguments: &[&str]) -> Page {
        let mut command = Command::new(server("node"));
        command
            .args(["--no-warnings", "--experimental-websocket"])
            .arg(recipe(client))
            .args(arguments)
            .env("USHER_URL", format!("http://{}", self.gateway.public));
        let (process, input) = Process::told(command);
        Page { process, input }
    }

    /// The service ends as it should.
    async fn end(mut self) {
        self.service.signal(Signal::TERM);
        let status = self.service.wait().await;
        assert!(status.success(), "{}", self.service.output());
    }
}

impl Page {
    fn says(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("it reads");
    }

    async fn shows(&mut self, text: &str) {
        prints(&mut self.process, text).await;
    }

    /// Ends with the end of its input; returns what it has shown.
    async fn leaves(self) -> String {
        let Self { mut process, input } = self;
        drop(input);
        let status = process.wait().await;
        assert!(status.success(), "{}", process.output());
        process.output()
    }
}

/// Also one who comes later reads what was said; each line once, in both modes.
#[tokio::test]
async fn a_chat_room() {
    for durable in [false, true] {
        let world = World::of("chat.py", &[], durable).await;
        let mut anna = world.page("chat.mjs", &["anna"]);
        anna.says("Hello");
        anna.shows("anna: Hello\n").await;
        let mut bob = world.page("chat.mjs", &["bob"]);
        bob.shows("anna: Hello\n").await;
        bob.says("Hi, anna");
        anna.shows("bob: Hi, anna\n").await;
        anna.says(&"x".repeat(1001));
        anna.shows("400: a message has 1 to 1000 characters\n")
            .await;
        bob.shows("bob: Hi, anna\n").await;
        let both = "anna: Hello\nbob: Hi, anna\n";
        assert_eq!(bob.leaves().await, both);
        let shown = anna.leaves().await;
        assert!(shown.starts_with(both), "{shown}");
        world.end().await;
    }
}

#[tokio::test]
async fn who_is_typing() {
    for durable in [false, true] {
        let world = World::of("whos_typing.py", &[], durable).await;
        let mut bob = world.page("whos_typing.mjs", &["bob"]);
        bob.shows("open\n").await;
        let mut anna = world.page("whos_typing.mjs", &["anna"]);
        for _ in 0..3 {
            anna.says("key");
        }
        bob.shows("anna is typing…\n").await;
        bob.shows("anna has stopped\n").await;
        let shown = anna.leaves().await;
        assert!(!shown.contains("typing"), "nobody is told of oneself");
        let shown = bob.leaves().await;
        assert_eq!(shown.matches("anna is typing…").count(), 1, "{shown}");
        world.end().await;
    }
}

/// Each status once; a page that is loaded in between begins with the present one.
#[tokio::test]
async fn the_status_of_an_order() {
    for durable in [false, true] {
        let world = World::of("orders.py", &["0.5"], durable).await;
        let mut first = world.page("orders.mjs", &["anna"]);
        first.shows("order 1: placed\norder 1: packed\n").await;
        first.process.kill();
        let mut anna = world.page("orders.mjs", &["anna", "1"]);
        let delivered = "order 1: delivered\n";
        anna.shows(delivered).await;
        assert!(anna.process.wait().await.success());
        let output = anna.process.output();
        assert!(output.ends_with(delivered), "{output}");
        assert!(!output.contains("placed"), "{output}");
        for line in output.lines() {
            assert_eq!(output.matches(line).count(), 1, "{output}");
        }
        // It is hers alone.
        let mut bob = world.page("orders.mjs", &["bob", "1"]);
        bob.shows("404: no such order\n").await;
        world.end().await;
    }
}

const ANSWER: &str =
    "You asked: why. Here a model would answer, one token after another. \n(done)\n";

/// A page that is killed in the middle, and one that waits for the whole answer, show the same.
#[tokio::test]
async fn an_answer_token_by_token() {
    let world = World::of("answer.py", &["0.3"], true).await;
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("page.json");
    let file = file.display().to_string();
    let mut first = world.page("answer.mjs", &["anna", "why", &file]);
    first.shows("You asked: why. ").await;
    first.process.kill();
    let before = first.process.output();
    assert!(!before.contains("(done)"), "it was in the middle: {before}");
    // The page misses at least two parts.
    let admin = world.nats.client().await;
    let stored = async || {
        let stream = api(&admin, "STREAM.INFO.USHER", &json!({})).await;
        stream["state"]["messages"].as_u64().expect("a number")
    };
    let had = stored().await;
    eventually("two more parts are stored", || async {
        stored().await >= had + 2
    })
    .await;
    // It begins with what the page had, goes on, and ends.
    let mut again = world.page("answer.mjs", &["anna", "why", &file]);
    again.shows("(done)\n").await;
    assert_eq!(again.process.output(), ANSWER);
    assert!(again.process.wait().await.success());
    // The rest came from the stream: the one call is the question.
    let calls = "usher_calls_total{result=\"ok\"}";
    assert_eq!(world.gateway.metric(calls).await, 1.0);
    world.end().await;
}

#[tokio::test]
async fn an_answer_that_is_stopped() {
    let world = World::of("answer.py", &["0.5"], true).await;
    let mut page = world.page("answer.mjs", &["anna", "why"]);
    page.shows("You asked: ").await;
    page.says("stop");
    page.shows("(stopped)\n").await;
    assert!(!page.process.output().contains("another"));
    assert!(page.process.wait().await.success());
    world.end().await;
}
