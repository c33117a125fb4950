//! The metrics as text.

use prometheus::{Encoder as _, TextEncoder};

use super::Metrics;

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
