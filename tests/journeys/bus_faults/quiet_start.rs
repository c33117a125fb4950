//! A start with all servers up is no outage, and the log tells of none.

use crate::support::{Gateway, Nats, Redis};

/// In the moment before the connection to the stream is there, durable mode cannot work
/// yet; that is no error.
#[tokio::test]
async fn a_start_in_durable_mode_logs_no_error() {
    let (nats, redis) = tokio::join!(Nats::keeping(), Redis::start());
    for start in 0..60 {
        let gateway = Gateway::durable(&nats, &redis).start().await;
        let log = gateway.log();
        for line in log.lines() {
            let is = |level: &str| line.contains(&format!(r#""level":"{level}""#));
            let outage = is("ERROR") || is("WARN") && line.contains("NATS");
            assert!(!outage, "start {start}: {line}");
        }
    }
}
