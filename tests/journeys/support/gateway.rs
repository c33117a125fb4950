//! The gateway itself: the program as it is built, run as an operator runs it.

use std::{
    borrow::Cow,
    fs,
    process::{Command, ExitStatus},
};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::{
    Nats, Redis, Response, http,
    process::{Process, Reading},
    secrets,
    wait::eventually,
};

/// A running gateway.
pub(crate) struct Gateway {
    process: Process,
    _folder: TempDir,
    /// Where browsers connect: `127.0.0.1:PORT`.
    pub(crate) public: String,
    /// Where services push.
    pub(crate) grpc: String,
    /// Where operators look.
    pub(crate) ops: String,
}

/// A gateway to be: its settings and arguments.
pub(crate) struct Builder {
    settings: Vec<(String, String)>,
    config: Option<String>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    descriptors: Option<u32>,
}

impl Gateway {
    /// Starts one with the default settings, and waits until it is ready.
    pub(crate) async fn start(nats: &Nats, redis: &Redis) -> Self {
        Self::builder(nats, redis).start().await
    }

    /// One that has these servers, and any free ports.
    pub(crate) fn builder(nats: &Nats, redis: &Redis) -> Builder {
        Self::without_redis(nats).set("redis.url", redis.url())
    }

    /// One that has no Redis; it needs `tickets.jwt.connect`.
    pub(crate) fn without_redis(nats: &Nats) -> Builder {
        let builder = Builder::new()
            .set("nats.url", nats.url())
            .set("redis.url", "");
        match nats.gateways_login() {
            None => builder,
            Some((user, password)) => builder
                .set("nats.user", user)
                .set("nats.password", password),
        }
    }

    /// The same in durable mode.
    pub(crate) fn durable(nats: &Nats, redis: &Redis) -> Builder {
        Self::builder(nats, redis)
            .set("durable.enabled", "true")
            .set("durable.max_bytes", "64MiB")
    }

    /// Its process id.
    #[allow(dead_code, reason = "what it holds is looked at under load alone")]
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// All that it has printed so far.
    pub(crate) fn log(&self) -> String {
        self.process.output()
    }

    /// Asks the operators' listener.
    pub(crate) async fn ops_get(&self, path: &str) -> Response {
        http::get(&self.ops, path, &[]).await
    }

    /// The status of `/readyz`.
    pub(crate) async fn readyz(&self) -> u16 {
        self.ops_get("/readyz").await.status
    }

    /// Waits until `/readyz` lists this finding under `reasons` or `warnings`.
    pub(crate) async fn readyz_lists(&self, list: &str, finding: &str) {
        let what = format!("/readyz has {finding} among its {list}");
        eventually(&what, || async {
            let answer = self.ops_get("/readyz").await.json();
            let found = answer[list].as_array();
            found.is_some_and(|found| found.iter().any(|one| one == finding))
        })
        .await;
    }

    /// Waits until it says that it is ready.
    pub(crate) async fn becomes_ready(&self) {
        eventually("/readyz is 200", || async { self.readyz().await == 200 }).await;
    }

    /// Waits until it says that it is not ready.
    pub(crate) async fn becomes_unready(&self) {
        eventually("/readyz is 503", || async { self.readyz().await == 503 }).await;
    }

    /// All metrics, as Prometheus reads them.
    pub(crate) async fn metrics(&self) -> String {
        let response = self.ops_get("/metrics").await;
        assert_eq!(response.status, 200, "{response:?}");
        response.text()
    }

    /// The sum of the samples that have this name and, at least, these labels:
    /// `usher_sessions` or `usher_sessions{transport="websocket"}`. Nothing
    /// counted yet is 0.
    pub(crate) async fn metric(&self, wanted: &str) -> f64 {
        let (name, labels) = parse_sample(wanted);
        self.metrics()
            .await
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.rsplit_once(' '))
            .filter(|(sample, _)| {
                let (found, found_labels) = parse_sample(sample);
                found == name && labels.iter().all(|label| found_labels.contains(label))
            })
            .map(|(_, value)| value.parse::<f64>().expect("a sample is a number"))
            .fold(0.0, |sum, value| sum + value)
    }

    /// Waits until a metric has a value.
    pub(crate) async fn metric_becomes(&self, wanted: &str, value: f64) {
        let what = format!("{wanted} is {value}");
        eventually(&what, || async { self.metric(wanted).await == value }).await;
    }

    /// `/status`.
    pub(crate) async fn status(&self) -> Value {
        self.ops_get("/status").await.json()
    }

    /// SIGTERM, as Kubernetes ends it.
    pub(crate) fn terminate(&mut self) {
        self.process.signal(Signal::TERM);
    }

    /// Any signal.
    pub(crate) fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Reads its log in another way from now on.
    pub(crate) fn read_log(&self, reading: Reading) {
        self.process.read(reading);
    }

    /// Waits until its log has this.
    pub(crate) async fn logs(&self, text: &str) {
        eventually(&format!("the log has {text:?}"), || async {
            self.log().contains(text)
        })
        .await;
    }

    /// SIGINT, as a terminal ends it.
    pub(crate) fn interrupt(&mut self) {
        self.process.signal(Signal::INT);
    }

    /// SIGKILL, as a power cut would end it.
    pub(crate) fn kill(&mut self) {
        self.process.signal(Signal::KILL);
    }

    /// SIGSTOP, as a machine that is paused stops it; returns when it stands still.
    pub(crate) fn pause(&mut self) {
        self.process.pause();
    }

    /// SIGCONT: ends a [`Gateway::pause`].
    pub(crate) fn resume(&mut self) {
        self.process.resume();
    }

    /// Waits until it has ended, for a bounded time.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        self.process.wait().await
    }

    /// Its exit status, if it has ended.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait()
    }

    /// Reads the three addresses from its start-up log.
    async fn finds_its_listeners(&mut self) {
        let process = &mut self.process;
        let mut found = [const { None }; 3];
        eventually("the gateway listens", || {
            let log = process.output();
            found = ["public", "grpc", "ops"].map(|listener| address(&log, listener));
            if let Some(status) = process.try_wait() {
                panic!("the gateway ended with {status}:\n{log}");
            }
            std::future::ready(found.iter().all(Option::is_some))
        })
        .await;
        [self.public, self.grpc, self.ops] = found.map(Option::unwrap_or_default);
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.process.kill();
        let log = self.process.output();
        if std::thread::panicking() {
            eprintln!("--- the end of the gateway's log:\n{}---", end_of(&log));
        } else {
            secrets::assert_none_in("what the gateway printed", log.as_bytes());
        }
    }
}

impl Builder {
    /// One that has no servers yet.
    pub(crate) fn new() -> Self {
        let log = std::env::var("USHER_TEST_LOG").unwrap_or_else(|_| "info".to_owned());
        Self {
            settings: Vec::new(),
            config: None,
            arguments: Vec::new(),
            environment: Vec::new(),
            descriptors: None,
        }
        .set("public.listen", "127.0.0.1:0")
        .set("grpc.listen", "127.0.0.1:0")
        .set("ops.listen", "127.0.0.1:0")
        // A busy machine is no reason to lose Redis.
        .set("redis.timeout", "5s")
        .set("log.format", "json")
        .set("log.filter", log)
    }

    /// Gives a key of the configuration a value, by the environment.
    pub(crate) fn set(mut self, key: &str, value: impl Into<String>) -> Self {
        self.settings.retain(|(other, _)| other != key);
        self.settings.push((key.to_owned(), value.into()));
        self
    }

    /// Gives it another variable of the environment.
    pub(crate) fn environment(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Lets it have so few files open.
    pub(crate) fn descriptors(mut self, most: u32) -> Self {
        self.descriptors = Some(most);
        self
    }

    /// Gives it a configuration file.
    pub(crate) fn config(mut self, text: &str) -> Self {
        self.config = Some(text.to_owned());
        self
    }

    /// Gives `usher serve` another argument.
    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Starts it, and waits until it is ready.
    pub(crate) async fn start(self) -> Gateway {
        let gateway = self.start_unready().await;
        gateway.becomes_ready().await;
        gateway
    }

    /// Starts it, and waits until it listens.
    pub(crate) async fn start_unready(self) -> Gateway {
        let (process, folder) = self.spawn("serve");
        let mut gateway = Gateway {
            process,
            _folder: folder,
            public: String::new(),
            grpc: String::new(),
            ops: String::new(),
        };
        gateway.finds_its_listeners().await;
        gateway
    }

    /// Starts one that is expected not to: how it ends, and what it says.
    pub(crate) async fn fails(self) -> (Option<i32>, String) {
        self.ends("serve").await
    }

    /// Runs `usher check` with the same settings: its exit code, and what it says.
    pub(crate) async fn check(self) -> (Option<i32>, String) {
        self.ends("check").await
    }

    /// Starts one, and waits for nothing.
    pub(crate) fn begin(self) -> (Process, TempDir) {
        self.spawn("serve")
    }

    async fn ends(self, command: &str) -> (Option<i32>, String) {
        let (mut process, _folder) = self.spawn(command);
        let status = process.wait().await;
        (status.code(), process.output())
    }

    fn spawn(self, name: &str) -> (Process, TempDir) {
        let folder = TempDir::new().expect("a folder");
        let program = env!("CARGO_BIN_EXE_usher");
        let mut command = match self.descriptors {
            None => Command::new(program),
            Some(most) => {
                let mut shell = Command::new("sh");
                let lowered = format!("ulimit -n {most} && exec \"$0\" \"$@\"");
                shell.args(["-c", &lowered, program]);
                shell
            }
        };
        command.current_dir(folder.path()).arg(name);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("USHER_") {
                command.env_remove(name);
            }
        }
        if let Some(text) = &self.config {
            let file = folder.path().join("usher.toml");
            fs::write(&file, text).expect("a configuration file");
            command.arg("--config").arg(file);
        }
        for (key, value) in &self.settings {
            command.env(
                format!("USHER_{}", key.replace('.', "__").to_uppercase()),
                value,
            );
        }
        command.envs(self.environment.iter().cloned());
        command.args(&self.arguments);
        (Process::spawn(command), folder)
    }
}

/// As much of a log as somebody reads: what failed must not be lost before it.
fn end_of(log: &str) -> Cow<'_, str> {
    const SHOWN: usize = 32 << 10;
    String::from_utf8_lossy(&log.as_bytes()[log.len().saturating_sub(SHOWN)..])
}

/// Where the log says that a listener was bound.
fn address(log: &str, listener: &str) -> Option<String> {
    log.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|line| line["message"] == "listening" && line["listener"] == listener)
        .and_then(|line| line["address"].as_str().map(str::to_owned))
}

/// A sample's name and its `label="value"` parts. No value of ours has a comma.
fn parse_sample(sample: &str) -> (&str, Vec<&str>) {
    match sample.split_once('{') {
        Some((name, labels)) => (name, labels.trim_end_matches('}').split(',').collect()),
        None => (sample, Vec::new()),
    }
}
