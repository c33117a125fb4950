//! The values that labels have, and counting under one of them.

use super::Metrics;
use crate::close::CloseReason;

impl Metrics {
    /// A counter that appears with its first count hides that count from
    /// Prometheus's `rate`, so what is known beforehand is there from the start.
    pub(super) fn begin_at_zero(&self) {
        for result in ["sent", "refused", "dropped"] {
            self.receipts.with_label_values(&[result]);
        }
        for reason in [
            "slow_consumer",
            "session_over",
            "not_stored",
            "too_large",
            "malformed",
            "panic",
        ] {
            self.messages_dropped.with_label_values(&[reason]);
        }
        for state in ["online", "offline", "lost"] {
            self.presence_events.with_label_values(&[state]);
        }
        for result in ["given", "published", "skipped", "again"] {
            self.offline_messages.with_label_values(&[result]);
        }
        for op in ["presence", "disconnect", "topics"] {
            let ok = [op, "200"];
            self.service_requests.with_label_values(&ok);
            for result in ["complete", "incomplete", "failed"] {
                self.control_calls.with_label_values(&[op, result]);
            }
        }
        for reason in ["made_anew", "set_back"] {
            self.stream_replaced.with_label_values(&[reason]);
        }
        for reason in ["resumed", "lost", "hole", "slow"] {
            self.catch_ups.with_label_values(&[reason]);
        }
        for reason in [
            "too_slow",
            "too_many_pending",
            "too_many_pending_per_ip",
            "tls",
            "bad_http",
            "head_too_large",
            "connection_lost",
        ] {
            self.connections_cut.with_label_values(&[reason]);
        }
        for reason in [
            "too_many",
            "made_room",
            "too_slow",
            "tls",
            "too_many_frames",
            "overstayed",
        ] {
            self.grpc_connections_cut.with_label_values(&[reason]);
        }
        for reason in [
            "message_too_large",
            "in_flight_bytes",
            "too_slow",
            "too_many_health_checks",
            "too_many_streams",
        ] {
            self.grpc_refused.with_label_values(&[reason]);
        }
        for reason in CloseReason::ALL {
            self.session_closes.with_label_values(&[reason.name()]);
        }
        for result in [
            "admitted",
            "ticket_unknown",
            "token_invalid",
            "unavailable",
            "full",
            "draining",
            "too_many",
        ] {
            self.admissions.with_label_values(&[result]);
        }
        for result in ["ok", "failed"] {
            self.jwks_fetches.with_label_values(&[result]);
            self.file_reloads.with_label_values(&[result]);
        }
        for result in ["sent", "refused", "unsent", "dropped"] {
            self.spans.with_label_values(&[result]);
        }
        let refused = ["token_missing", "token_invalid", "too_many", "unavailable"];
        for result in refused.into_iter().chain(["minted"]) {
            self.mints.with_label_values(&[result]);
        }
        for method in [
            "PushNotification",
            "PushStream",
            "Broadcast",
            "PublishTopic",
            "IssueTicket",
            "GetPresence",
            "Disconnect",
            "UpdateTopics",
        ] {
            self.grpc_requests.with_label_values(&[method, "OK"]);
        }
    }

    /// Whether a connection to NATS works. One that this mode lacks is never named here,
    /// and has no series.
    pub fn nats_connected(&self, connection: &str, works: bool) {
        let gauge = self.nats_connected.with_label_values(&[connection]);
        gauge.set(works.into());
    }

    /// Counts a connection that is cut off before it brought a good request.
    pub fn connections_cut(&self, reason: &str) {
        self.connections_cut.with_label_values(&[reason]).inc();
    }

    /// Counts a connection to the push API that a bound closes.
    pub fn grpc_connections_cut(&self, reason: &str) {
        self.grpc_connections_cut.with_label_values(&[reason]).inc();
    }

    /// Counts a call of the push API that a bound refuses.
    pub fn grpc_refused(&self, reason: &str) {
        self.grpc_refused.with_label_values(&[reason]).inc();
    }

    /// Counts a fetch of the keys that tokens are signed with.
    pub fn jwks_fetches(&self, result: &str) {
        self.jwks_fetches.with_label_values(&[result]).inc();
    }

    /// Counts a SIGHUP.
    pub fn file_reloads(&self, result: &str) {
        self.file_reloads.with_label_values(&[result]).inc();
    }

    /// Counts a publisher's question: `sent`, `refused` or `dropped`.
    pub fn receipts(&self, result: &str) {
        self.receipts.with_label_values(&[result]).inc();
    }

    /// Counts spans of traces: `sent`, `refused`, `unsent` or `dropped`.
    pub fn spans(&self, result: &str, count: usize) {
        self.spans.with_label_values(&[result]).inc_by(count as u64);
    }

    /// Counts a session that is brought up to date from the stream.
    pub fn caught_up(&self, reason: &str) {
        self.catch_ups.with_label_values(&[reason]).inc();
    }

    /// Counts a stream that is not the one that sessions have had messages of.
    pub fn stream_replaced(&self, reason: &str) {
        self.stream_replaced.with_label_values(&[reason]).inc();
    }

    /// Counts what services are told of presence.
    pub fn presence_event(&self, state: &str) {
        self.presence_events.with_label_values(&[state]).inc();
    }

    /// Counts a message that was looked at for `offline.events`.
    pub fn offline_message(&self, result: &str) {
        self.offline_messages.with_label_values(&[result]).inc();
    }

    /// Counts messages that a session gets from the stream later.
    pub fn postponed(&self, messages: usize) {
        self.postponed.inc_by(messages as u64);
    }

    /// Counts messages that a session did not get.
    pub fn dropped(&self, reason: &str, messages: usize) {
        self.messages_dropped
            .with_label_values(&[reason])
            .inc_by(messages as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_messages_are_dropped_is_documented_and_begins_at_zero() {
        let operations = include_str!("../../docs/operations.md");
        let (_, section) = operations
            .split_once("### Messages are dropped")
            .expect("the section");
        let rows = section.lines().take_while(|line| !line.starts_with("###"));
        let reasons = rows.filter_map(|row| row.strip_prefix("| `")?.split_once('`'));
        let mut documented: Vec<_> = reasons.map(|(reason, _)| reason).collect();
        documented.sort_unstable();
        let (text, _) = Metrics::new().render();
        let begun = text.lines().filter_map(|line| {
            let sample = line.strip_prefix("usher_messages_dropped_total{reason=\"")?;
            sample.strip_suffix("\"} 0")
        });
        assert_eq!(documented, begun.collect::<Vec<_>>());
    }
}
