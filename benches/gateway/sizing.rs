//! `usher bench` against a fresh gateway, for the figures of `docs/sizing.md`.

use std::process::Command;

use serde_json::Value;

use crate::{
    Outcome,
    parts::Bench,
    servers::{Gateway, JetStream},
};

/// How long each row publishes: the gateway counts CPU in whole seconds.
const DURATION: &str = "40s";
/// The payload where a row names none.
const PAYLOAD: &str = "256B";
/// What is measured, and how `usher bench` is asked for it.
const ROWS: [(&str, &str); 7] = [
    ("1,000 sessions", "--sessions 1000 --rate 2000"),
    ("10,000 sessions", "--sessions 10000 --rate 2000"),
    ("the same, 5,000 a second", "--sessions 10000 --rate 5000"),
    (
        "the same, 4 KiB each",
        "--sessions 10000 --rate 2000 --payload 4KiB",
    ),
    ("broadcasts", "--sessions 5000 --rate 2 --broadcast"),
    (
        "100 topics, 50 followers each",
        "--sessions 5000 --rate 100 --topics 100",
    ),
    (DURABLE, "--sessions 10000 --rate 2000 --durable"),
];
const DURABLE: &str = "durable mode";

impl Bench {
    /// # Errors
    ///
    /// Where a message was lost or not published, or not all sessions came in.
    pub(crate) fn sizing(&mut self) -> Outcome<()> {
        self.report
            .title("usher bench: 256 bytes where nothing else is said, a fresh gateway each");
        self.report.say(&format!(
            "{:<30} {:>9} {:>9} {:>11} {:>14} {:>8} {:>8} {:>8}",
            "",
            "sessions",
            "messages",
            "deliveries",
            "bytes/session",
            "us each",
            "p50 ms",
            "p99 ms"
        ));
        for (what, arguments) in ROWS {
            let jetstream = (what == DURABLE).then(JetStream::start).transpose()?;
            let gateway = match &jetstream {
                Some(nats) => self.servers.durable_gateway(nats, "file")?,
                None => self.servers.gateway()?,
            };
            let said = ask(&gateway, arguments)?;
            let number = |key: &str| said[key].as_f64().unwrap_or(f64::NAN);
            self.report.say(&format!(
                "{what:<30} {:>9} {:>9} {:>11} {:>14} {:>8.1} {:>8.2} {:>8.2}",
                number("sessions_opened"),
                number("sent"),
                number("received"),
                number("memory_per_session_bytes"),
                number("cpu_seconds_per_delivery") * 1e6,
                number("latency_p50_ms"),
                number("latency_p99_ms"),
            ));
            if number("sessions_opened") < number("sessions_asked") || number("lost") > 0.0 {
                return Err(format!("{what}: {said}").into());
            }
        }
        Ok(())
    }
}

/// What `usher bench` says.
fn ask(gateway: &Gateway, arguments: &str) -> Outcome<Value> {
    let payload = match arguments.contains("--payload") {
        true => &[][..],
        false => &["--payload", PAYLOAD],
    };
    let output = Command::new(env!("CARGO_BIN_EXE_usher"))
        .args(["bench", "--json", "--duration", DURATION])
        .args(arguments.split(' '))
        .args(payload)
        .args(["--grpc", &gateway.grpc.to_string()])
        .args(["--public", &format!("http://{}", gateway.public)])
        .args(["--ops", &format!("http://{}", gateway.ops)])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(format!("usher bench {arguments}: {said}").into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
