//! What a run has found, for people and for programs.

use std::collections::BTreeMap;

use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use super::plan::Mode;

/// The result. Its keys are part of the contract of `--json`; unknown values are `null`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) mode: Mode,
    pub(super) durable: bool,
    pub(super) interrupted: bool,
    pub(super) sessions_asked: u32,
    pub(super) sessions_opened: u64,
    /// By the gateway's code.
    pub(super) sessions_refused: BTreeMap<String, u64>,
    /// By the close code; only what the gateway closed before the end.
    pub(super) sessions_closed: BTreeMap<u16, u64>,
    pub(super) opening_seconds: f64,
    pub(super) topics: u32,
    pub(super) payload_bytes: usize,
    pub(super) rate_asked: u32,
    pub(super) rate: f64,
    pub(super) publishing_seconds: f64,
    pub(super) sent: u64,
    pub(super) confirmed: u64,
    pub(super) failed: u64,
    pub(super) unknown: u64,
    pub(super) expected: u64,
    pub(super) received: u64,
    pub(super) lost: u64,
    pub(super) duplicates: u64,
    pub(super) gaps: u64,
    pub(super) misdelivered: u64,
    pub(super) seq_first: Option<u64>,
    pub(super) seq_last: Option<u64>,
    #[serde(flatten)]
    pub(super) latency: Latency,
    #[serde(flatten)]
    pub(super) gateway: OfGateway,
}

/// In milliseconds.
#[derive(Debug, Default, Serialize)]
pub(super) struct Latency {
    pub(super) latency_p50_ms: Option<f64>,
    pub(super) latency_p90_ms: Option<f64>,
    pub(super) latency_p99_ms: Option<f64>,
    pub(super) latency_p999_ms: Option<f64>,
    pub(super) latency_max_ms: Option<f64>,
}

/// What `/metrics` of the gateway say.
#[derive(Debug, Default, Serialize)]
pub(super) struct OfGateway {
    /// All that it has, this run's among them.
    pub(super) gateway_sessions: Option<u64>,
    pub(super) memory_idle_bytes: Option<u64>,
    pub(super) memory_with_sessions_bytes: Option<u64>,
    pub(super) memory_peak_bytes: Option<u64>,
    pub(super) memory_after_bytes: Option<u64>,
    pub(super) memory_per_session_bytes: Option<u64>,
    pub(super) cpu_seconds: Option<f64>,
    pub(super) cpu_seconds_per_message: Option<f64>,
    pub(super) cpu_seconds_per_delivery: Option<f64>,
}

const UNKNOWN: &str = "unknown: give --ops";

impl Report {
    /// For people: lines of a table.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            row("sessions", self.sessions()),
            row("messages", self.messages()),
            row("deliveries", self.deliveries()),
            row("latency", self.latency.words()),
            row("memory", self.gateway.memory()),
            row("CPU", self.gateway.cpu()),
        ];
        if let (Some(first), Some(last)) = (self.seq_first, self.seq_last) {
            lines.insert(3, row("stream", format!("seq {first} to {last}")));
        }
        lines
    }

    fn sessions(&self) -> String {
        let mut words = format!(
            "{} of {} opened in {:.1} s",
            HumanCount(self.sessions_opened),
            HumanCount(self.sessions_asked.into()),
            self.opening_seconds
        );
        for (code, count) in &self.sessions_refused {
            words += &format!(", {} refused ({code})", HumanCount(*count));
        }
        for (code, count) in &self.sessions_closed {
            words += &format!(", {} closed ({code})", HumanCount(*count));
        }
        words
    }

    fn messages(&self) -> String {
        let mut words = format!(
            "{} of {} in {:.1} s, {:.0} of {} a second",
            HumanCount(self.sent),
            HumanBytes(self.payload_bytes as u64),
            self.publishing_seconds,
            self.rate,
            HumanCount(self.rate_asked.into()),
        );
        if self.failed > 0 {
            words += &format!(", {} not published", HumanCount(self.failed));
        }
        if self.unknown > 0 {
            words += &format!(", {} unknown", HumanCount(self.unknown));
        }
        words
    }

    fn deliveries(&self) -> String {
        let mut words = format!(
            "{} expected, {} received, {} lost, {} twice, {} gaps",
            HumanCount(self.expected),
            HumanCount(self.received),
            HumanCount(self.lost),
            HumanCount(self.duplicates),
            HumanCount(self.gaps)
        );
        if self.misdelivered > 0 {
            words += &format!(", {} to the wrong session", HumanCount(self.misdelivered));
        }
        words
    }
}

impl Latency {
    pub(super) fn of_micros([p50, p90, p99, p999]: [u64; 4], max: u64) -> Self {
        let in_ms = |micros: u64| Some(micros as f64 / 1000.0);
        Self {
            latency_p50_ms: in_ms(p50),
            latency_p90_ms: in_ms(p90),
            latency_p99_ms: in_ms(p99),
            latency_p999_ms: in_ms(p999),
            latency_max_ms: in_ms(max),
        }
    }

    fn words(&self) -> String {
        let shown = [
            ("p50", self.latency_p50_ms),
            ("p90", self.latency_p90_ms),
            ("p99", self.latency_p99_ms),
            ("p99.9", self.latency_p999_ms),
            ("max", self.latency_max_ms),
        ];
        let shown: Vec<_> = shown
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name} {:.2} ms", value?)))
            .collect();
        match shown.is_empty() {
            true => "unknown: nothing was received".to_owned(),
            false => shown.join(", "),
        }
    }
}

impl OfGateway {
    fn memory(&self) -> String {
        let (Some(idle), Some(with)) = (self.memory_idle_bytes, self.memory_with_sessions_bytes)
        else {
            return UNKNOWN.to_owned();
        };
        let mut words = format!(
            "{} before, {} with the sessions",
            HumanBytes(idle),
            HumanBytes(with)
        );
        if let Some(each) = self.memory_per_session_bytes {
            words += &format!(" ({} each)", HumanBytes(each));
        }
        if let (Some(peak), Some(after)) = (self.memory_peak_bytes, self.memory_after_bytes) {
            words += &format!(
                ", {} at most, {} after",
                HumanBytes(peak),
                HumanBytes(after)
            );
        }
        words
    }

    fn cpu(&self) -> String {
        let Some(seconds) = self.cpu_seconds else {
            return UNKNOWN.to_owned();
        };
        let each = (self.cpu_seconds_per_message, self.cpu_seconds_per_delivery);
        match each {
            (Some(of_message), Some(of_delivery)) => format!(
                "{seconds:.0} s, {:.0} µs a message, {:.0} µs a delivery",
                of_message * 1e6,
                of_delivery * 1e6
            ),
            _ => format!(
                "{seconds:.0} s: it is counted in whole seconds, and a longer run tells more"
            ),
        }
    }
}

fn row(name: &str, words: String) -> String {
    format!("{name:<11}{words}")
}
