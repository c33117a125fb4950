//! What JetStream says about a stream.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{StreamError, api::ask};
use crate::bus::client::Client;

/// The answer to `STREAM.INFO`, `STREAM.CREATE` and `STREAM.UPDATE`.
#[derive(Debug, Deserialize)]
pub(super) struct StreamInfo {
    pub(super) config: Value,
    pub(super) created: String,
    pub(super) state: State,
    cluster: Option<Cluster>,
    /// The server's clock.
    #[serde(default)]
    pub(super) ts: String,
}

/// What is in the stream.
#[derive(Debug, Deserialize)]
pub(super) struct State {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) first_seq: u64,
    #[serde(default)]
    pub(super) first_ts: String,
    pub(super) last_seq: u64,
    pub(super) last_ts: String,
    #[serde(default)]
    pub(super) num_subjects: u64,
    /// With how many messages of each; where they are asked for.
    #[serde(default)]
    pub(super) subjects: BTreeMap<String, u64>,
}

#[derive(Debug, Deserialize)]
struct Cluster {
    leader: Option<String>,
}

impl StreamInfo {
    /// A replica without a leader still answers; its numbers may be stale.
    pub(super) fn has_leader(&self) -> bool {
        let cluster = self.cluster.as_ref();
        cluster.is_none_or(|it| it.leader.as_ref().is_some_and(|leader| !leader.is_empty()))
    }
}

/// Asks about a stream (`INFO`), or for it (`CREATE`, `UPDATE`).
///
/// # Errors
///
/// [`StreamError`]: `NoLeader` where a replica answers `INFO` that knows no leader.
pub(super) async fn info(
    client: &Client,
    verb: &str,
    name: &str,
    body: &Value,
) -> Result<StreamInfo, StreamError> {
    let asked = ask(client, &format!("STREAM.{verb}.{name}"), body).await;
    let info: StreamInfo = asked.map_err(|error| error.of_stream(name))?;
    match verb == "INFO" && !info.has_leader() {
        true => Err(StreamError::NoLeader(name.to_owned())),
        false => Ok(info),
    }
}
