//! `examples/publishers`, run as they stand there with the rights of the example file.

use std::{fs, path::Path, process::Command};

use serde_json::json;
use tempfile::TempDir;

use crate::{
    durable::api,
    happened::hears,
    support::{
        Client, Gateway, Nats, Redis, eventually,
        nats::Role,
        process::{Process, server},
        servers,
    },
};

/// An id with bytes that a subject escapes.
const USER: &str = "zoë@example.com";
const AWAY: &str = "a.way@example.com";
const ORDER: &str = r#"{"order":123}"#;

/// A language's examples, ready to run.
enum Examples {
    Python,
    /// A copy of the folder, beside the packages that `npm install` would fetch.
    Node(TempDir),
    /// Where `make examples-go` has built them.
    Go(String),
}

impl Examples {
    fn node() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let modules = root.join(".servers/node/node_modules");
        assert!(
            modules.join("@nats-io/jetstream").exists(),
            "the clients are not there yet: run \"make test\" once"
        );
        let folder = TempDir::new().expect("a folder");
        for file in fs::read_dir(root.join("examples/publishers/node")).expect("the examples") {
            let file = file.expect("a file");
            if file.file_type().expect("a type").is_file() {
                fs::copy(file.path(), folder.path().join(file.file_name())).expect("a copy");
            }
        }
        std::os::unix::fs::symlink(modules, folder.path().join("node_modules")).expect("a link");
        Self::Node(folder)
    }

    fn go() -> Self {
        let built = std::env::var("USHER_EXAMPLES_GO");
        Self::Go(built.expect("make examples-go says where they are"))
    }

    /// The one that pushes by Usher's own API: gRPC, or JSON over HTTP.
    fn push_by_api(&self) -> &'static str {
        match self {
            Self::Python => "push_grpc",
            Self::Node(_) => "push_json",
            Self::Go(_) => "pushgrpc",
        }
    }

    fn worker(&self) -> &'static str {
        match self {
            Self::Python | Self::Node(_) => "offline_worker",
            Self::Go(_) => "offlineworker",
        }
    }

    fn command(&self, name: &str) -> Command {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        match self {
            Self::Python => {
                let packages = root.join(".servers/python");
                assert!(
                    packages.join("grpc_status").exists(),
                    "the clients are not there yet: run \"make test\" once"
                );
                let file = format!("examples/publishers/python/{name}.py");
                let mut command = Command::new("python3");
                command
                    .arg(root.join(file))
                    .env("PYTHONPATH", packages)
                    .env("PYTHONDONTWRITEBYTECODE", "1");
                command
            }
            Self::Node(folder) => {
                let mut command = Command::new(server("node"));
                command.arg(folder.path().join(format!("{name}.mjs")));
                command
            }
            Self::Go(folder) => Command::new(Path::new(folder).join(name)),
        }
    }

    /// One that goes by NATS, as this role.
    fn by_nats(&self, name: &str, nats: &Nats, role: Role, arguments: &[&str]) -> Process {
        let (user, password) = role.login();
        let mut command = self.command(name);
        command
            .args(arguments)
            .env("NATS_URL", nats.url())
            .env("NATS_USER", user)
            .env("NATS_PASSWORD", password);
        Process::spawn(command)
    }

    fn push(&self, nats: &Nats, arguments: &[&str]) -> Process {
        self.by_nats("push", nats, Role::Publisher, arguments)
    }

    fn sessions(&self, nats: &Nats, arguments: &[&str]) -> Process {
        self.by_nats("sessions", nats, Role::Caller, arguments)
    }

    /// One that calls a gateway.
    fn by_api(&self, gateway: &Gateway, arguments: &[&str]) -> Process {
        let mut command = self.command(self.push_by_api());
        command
            .args(arguments)
            .env("USHER_GRPC", &gateway.grpc)
            .env("USHER_URL", format!("http://{}", gateway.grpc));
        Process::spawn(command)
    }
}

/// Waits for its end, with this code and this at the beginning of its output.
async fn ends(mut example: Process, code: i32, says: &str) -> String {
    let status = example.wait().await;
    let output = example.output();
    assert!(
        status.code() == Some(code) && output.starts_with(says),
        "{status} instead of {code}, {says:?}:\n{output}"
    );
    output
}

/// Somebody has it queued, nobody has, NATS is away, nobody knows.
async fn in_live_mode(examples: Examples) {
    let (mut nats, redis) = servers().await;
    let mut gateway = Gateway::start(&nats, &redis).await;
    let mut client = Client::open(&gateway, &redis.ticket(USER).await).await;
    ends(
        examples.push(&nats, &[USER, ORDER]),
        0,
        "queued sessions=1\n",
    )
    .await;
    ends(
        examples.by_api(&gateway, &[USER, ORDER]),
        0,
        "queued sessions=1\n",
    )
    .await;
    for _ in 0..2 {
        let event = json!({"event": "order.completed", "data": {"order": 123}});
        assert_eq!(client.next_event().await, event);
    }
    let nobody = "not published: nobody listens";
    ends(examples.push(&nats, &[AWAY, ORDER]), 1, nobody).await;
    let offline = "offline sessions=0\n";
    ends(examples.by_api(&gateway, &[AWAY, ORDER]), 0, offline).await;
    ends(
        examples.by_api(&gateway, &["", ORDER]),
        1,
        "not published: ",
    )
    .await;

    // Where somebody looks on, NATS no longer says that nobody listens.
    let operator = nats.operator().await;
    let looking = hears(&nats, &operator, "usher.user.*").await;
    ends(examples.push(&nats, &[AWAY, ORDER]), 2, "unknown: ").await;
    drop((looking, operator));

    // A role that may not push. Node's library fails the request with it, the others print it.
    let mut forbidden = examples.by_nats("push", &nats, Role::Caller, &[USER, ORDER]);
    let code = forbidden.wait().await.code();
    let output = forbidden.output();
    let is_node = matches!(examples, Examples::Node(_));
    assert_eq!(code, Some(if is_node { 1 } else { 2 }), "{output}");
    assert!(
        output.to_lowercase().contains("permissions violation"),
        "{output}"
    );

    // NATS does not confirm it; NATS is away, and the gateway says that nothing was published.
    nats.pause();
    ends(examples.by_api(&gateway, &[USER, ORDER]), 2, "unknown: ").await;
    nats.kill();
    let disconnected = "usher_nats_connected{connection=\"push\"}";
    gateway.metric_becomes(disconnected, 0.0).await;
    ends(
        examples.by_api(&gateway, &[USER, ORDER]),
        1,
        "not published: ",
    )
    .await;

    // UNAVAILABLE of the gRPC library itself is not certain. That of HTTP is, since Node says
    // that the connection was refused.
    gateway.kill();
    gateway.wait().await;
    let (code, says) = match examples {
        Examples::Node(_) => (1, "not published: no gateway is there"),
        Examples::Python => (2, "unknown: UNAVAILABLE"),
        Examples::Go(_) => (2, "unknown: rpc error: code = Unavailable"),
    };
    ends(examples.by_api(&gateway, &[USER, ORDER]), code, says).await;
}

/// The service reads who asks, and its error is the page's.
async fn answering_calls(examples: Examples) {
    let (nats, redis) = servers().await;
    let gateway = Gateway::start(&nats, &redis).await;
    let mut service = examples.by_nats("answer_calls", &nats, Role::Responder, &[]);
    eventually("the service listens", || {
        assert!(service.try_wait().is_none(), "{}", service.output());
        std::future::ready(service.output().starts_with("listening\n"))
    })
    .await;
    let grants = json!({"user_id": USER, "calls": ["orders.*"]});
    let mut client = Client::open(&gateway, &redis.ticket_json(grants).await).await;
    let call = |order: u32| json!({"id": "7", "call": "orders.cancel", "data": {"order": order}});
    client.send_text(&call(123).to_string()).await;
    let reply = json!({"id": "7", "data": {"cancelled": 123, "by": USER}});
    assert_eq!(client.next_json().await, json!({ "reply": reply }));
    client.send_text(&call(99).to_string()).await;
    let error = json!({"id": "7", "code": "409", "message": "the order has left the house"});
    assert_eq!(client.next_json().await, json!({ "error": error }));
    service.signal(rustix::process::Signal::TERM);
    assert!(service.wait().await.success(), "{}", service.output());
}

async fn presence_and_disconnect(examples: Examples) {
    let (nats, redis) = servers().await;
    let nobody = "no gateway is there";
    ends(examples.sessions(&nats, &["presence", USER]), 1, nobody).await;
    let gateway = Gateway::start(&nats, &redis).await;
    let mut client = Client::open(&gateway, &redis.ticket(USER).await).await;
    // A gateway that has just come does not know yet that it is alone.
    eventually("the answer is complete", || async {
        let mut asked = examples.sessions(&nats, &["presence", USER, AWAY]);
        asked.wait().await.success()
    })
    .await;
    let asking = examples.sessions(&nats, &["presence", USER, AWAY]);
    let found = ends(asking, 0, "{").await;
    let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
    assert_eq!(found["users"][USER]["sessions"], 1, "{found}");
    assert!(found["users"][AWAY].is_null(), "{found}");
    ends(examples.sessions(&nats, &["presence", ""]), 1, "400: ").await;

    let ending = examples.sessions(&nats, &["disconnect", USER, "account closed"]);
    ends(ending, 0, "{").await;
    let goodbye = json!({"reason": "disconnected", "message": "account closed"});
    assert_eq!(client.expect_goodbye().await, goodbye);
    assert_eq!(client.expect_close().await.0, 4100);
}

/// What is stored is told apart from what is not; what found nobody becomes a mobile push, also
/// where the worker was away.
async fn in_durable_mode(examples: Examples) {
    let (nats, redis) = tokio::join!(Nats::keeping(), Redis::start());
    let gateway = Gateway::durable(&nats, &redis).set("offline.events", "true");
    let gateway = gateway.start().await;
    gateway.logs("created the consumer").await;
    let mut client = Client::open(&gateway, &redis.ticket(USER).await).await;

    let worker = |count: &str| examples.by_nats(examples.worker(), &nats, Role::Worker, &[count]);
    let first = worker("1");
    eventually("the worker listens", || {
        std::future::ready(first.output().starts_with("listening\n"))
    })
    .await;
    ends(
        examples.push(&nats, &[AWAY, ORDER, "1"]),
        0,
        "stored seq=1\n",
    )
    .await;
    let output = ends(first, 0, "listening\n").await;
    let sent = format!("mobile push {AWAY} order.completed {ORDER} key=a%2Eway%40example%2Ecom:1");
    assert!(output.contains(&sent), "{output}");

    // Again with the same id: stored once, by whichever way it comes.
    let again = "stored seq=1 duplicate\n";
    ends(examples.push(&nats, &[AWAY, ORDER, "1"]), 0, again).await;
    let again = "dispatched seq=1\n";
    ends(examples.by_api(&gateway, &[AWAY, ORDER, "1"]), 0, again).await;

    // While no worker is there.
    let offline = "offline sessions=0 seq=2\n";
    ends(examples.by_api(&gateway, &[AWAY, ORDER]), 0, offline).await;
    let published = "usher_offline_messages_total{result=\"published\"}";
    gateway.metric_becomes(published, 2.0).await;
    let output = ends(worker("1"), 0, "listening\n").await;
    let sent = format!("mobile push {AWAY} order.completed {ORDER} key=2");
    assert!(output.contains(&sent), "{output}");

    let queued = "queued sessions=1 seq=3\n";
    ends(examples.by_api(&gateway, &[USER, ORDER]), 0, queued).await;
    ends(examples.push(&nats, &[USER, ORDER]), 0, "stored seq=4\n").await;
    for seq in [3, 4] {
        assert_eq!(client.next_event().await["seq"], seq);
    }

    // The stream takes no message of this size any more, and says so.
    let (user, password) = Role::Gateway.login();
    let options = async_nats::ConnectOptions::with_user_and_password(user, password);
    let admin = options.connect(nats.url()).await.expect("a connection");
    let stream = api(&admin, "STREAM.INFO.USHER", &json!({})).await;
    let mut config = stream["config"].clone();
    config["max_msg_size"] = json!(ORDER.len());
    let changed = api(&admin, "STREAM.UPDATE.USHER", &config).await;
    assert!(changed["error"].is_null(), "{changed}");
    let refused = "not published: message size exceeds maximum allowed\n";
    ends(examples.push(&nats, &[USER, ORDER]), 1, refused).await;
    let refused = "not published: ";
    ends(examples.by_api(&gateway, &[USER, ORDER]), 1, refused).await;
}

#[tokio::test]
async fn python_in_live_mode() {
    in_live_mode(Examples::Python).await;
}

#[tokio::test]
async fn python_presence_and_disconnect() {
    presence_and_disconnect(Examples::Python).await;
}

#[tokio::test]
async fn python_answers_calls() {
    answering_calls(Examples::Python).await;
}

#[tokio::test]
async fn node_answers_calls() {
    answering_calls(Examples::node()).await;
}

#[tokio::test]
async fn python_in_durable_mode() {
    in_durable_mode(Examples::Python).await;
}

#[tokio::test]
async fn node_in_live_mode() {
    in_live_mode(Examples::node()).await;
}

#[tokio::test]
async fn node_presence_and_disconnect() {
    presence_and_disconnect(Examples::node()).await;
}

#[tokio::test]
async fn node_in_durable_mode() {
    in_durable_mode(Examples::node()).await;
}

#[tokio::test]
#[ignore = "needs Go: make examples-go"]
async fn go_in_all_modes() {
    in_live_mode(Examples::go()).await;
    presence_and_disconnect(Examples::go()).await;
    in_durable_mode(Examples::go()).await;
}
