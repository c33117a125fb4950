//! A real collector of traces: OpenTelemetry's own messages, by `tests/clients/python/otlp.py`.

use std::{path::Path, process::Command};

use serde_json::Value;
use usher::tls::Identity;

use crate::support::{Builder, eventually, process::Process, secrets};

/// A running collector.
pub(super) struct Collector {
    pub(super) process: Process,
    pub(super) port: u16,
    scheme: &'static str,
    /// It has ended; what it was sent stays here.
    ended: bool,
}

impl Collector {
    pub(super) async fn start() -> Self {
        Self::start_at(0).await
    }

    /// On this port; 0 is any that is free.
    pub(super) async fn start_at(port: u16) -> Self {
        Self::run(port, None).await
    }

    /// One that speaks TLS.
    pub(super) async fn encrypted(identity: &Identity) -> Self {
        Self::run(0, Some(identity)).await
    }

    async fn run(port: u16, identity: Option<&Identity>) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let clients = root.join(".servers/python");
        assert!(
            clients.join("opentelemetry").exists(),
            "the collector's messages are not there yet: run \"make test\" once"
        );
        let mut command = Command::new("python3");
        command
            .arg(root.join("tests/clients/python/otlp.py"))
            .arg(format!("127.0.0.1:{port}"))
            .env("PYTHONPATH", clients)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        if let Some(Identity {
            certificate_file,
            key_file,
        }) = identity
        {
            command.args([certificate_file, key_file]);
        }
        let mut process = Process::spawn(command);
        let mut port = None;
        eventually("the collector listens", || {
            let output = process.output();
            let ended = process.try_wait();
            assert!(ended.is_none(), "the collector has ended: {output}");
            let said = output
                .lines()
                .find_map(|line| line.strip_prefix("listening "));
            port = said.and_then(|port| port.parse().ok());
            std::future::ready(port.is_some())
        })
        .await;
        Self {
            process,
            port: port.expect("a port"),
            scheme: match identity {
                None => "http",
                Some(_) => "https",
            },
            ended: false,
        }
    }

    /// A gateway that sends its traces here, and begins so many of its own.
    pub(super) fn of(&self, gateway: Builder, sample_ratio: &str) -> Builder {
        let endpoint = format!("{}://localhost:{}", self.scheme, self.port);
        gateway
            .set("telemetry.otlp_endpoint", endpoint)
            .set("telemetry.sample_ratio", sample_ratio)
    }

    /// Ends it.
    pub(super) fn kill(&mut self) {
        self.process.kill();
        self.ended = true;
    }

    /// All that it was sent so far.
    pub(super) fn spans(&self) -> Vec<Value> {
        let output = self.process.output();
        let lines = output.lines().filter(|line| line.starts_with('{'));
        lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Those of one trace.
    pub(super) fn of_trace(&self, trace: &str) -> Vec<Value> {
        let mut spans = self.spans();
        spans.retain(|span| span["trace"] == trace);
        spans
    }

    /// Waits for spans that are wanted, at least so many.
    pub(super) async fn expect(
        &self,
        what: &str,
        count: usize,
        wanted: impl Fn(&Value) -> bool,
    ) -> Vec<Value> {
        let mut found = Vec::new();
        eventually(what, || {
            found = self.spans();
            found.retain(&wanted);
            std::future::ready(found.len() >= count)
        })
        .await;
        assert_eq!(found.len(), count, "{what}: {found:#?}");
        found
    }

    /// Waits for the only span of this name in a trace.
    pub(super) async fn only(&self, name: &str, trace: &str) -> Value {
        let what = format!("one span {name} of {trace}");
        let wanted = |span: &Value| span["name"] == name && span["trace"] == trace;
        self.expect(&what, 1, wanted).await.remove(0)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if !self.ended {
            self.process.kill();
        }
        if !std::thread::panicking() {
            let output = self.process.output();
            secrets::assert_none_in("what the collector was sent", output.as_bytes());
        }
    }
}
