//! The metrics as text.

use std::sync::LazyLock;

use prometheus::{Encoder as _, IntCounter, TextEncoder};

use super::Metrics;

/// Log lines that could not be written. One for the process, as its log is: lines are
/// written before there are metrics.
pub static LOG_LINES_LOST: LazyLock<IntCounter> = LazyLock::new(|| {
    let help = "Log lines lost: standard error was not read, or not fast enough.";
    IntCounter::new("usher_log_lines_lost_total", help).expect("its name is valid")
});

impl Metrics {
    /// The text that Prometheus scrapes, and its content type.
    pub fn render(&self) -> (String, &'static str) {
        let mut text = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            Ok(()) => {}
            Err(error) => tracing::error!(%error, "metrics cannot be rendered"),
        }
        (
            String::from_utf8_lossy(&text).into_owned(),
            prometheus::TEXT_FORMAT,
        )
    }
}
