//! The stream of broadcasts that versions before 0.2.0 kept beside the stream of users.

use serde_json::{Value, json};

use super::{Config, shape::covers, upkeep::info};
use crate::bus::client::Client;

/// Such a stream, which nothing reads any more.
#[derive(Debug)]
pub struct Leftover {
    /// Its name.
    pub name: String,
    /// The subjects that it takes from the stream of this version.
    pub takes: Vec<String>,
}

/// Looks for it. None where there is none, or where NATS does not say.
pub(in crate::bus) async fn leftover(client: &Client, config: &Config) -> Option<Leftover> {
    let name = format!("{}_BROADCASTS", config.name);
    let found = info(client, "INFO", &name, &json!({})).await.ok()?;
    let captures = found.config["subjects"].as_array();
    let captures = captures.map(Vec::as_slice).unwrap_or_default();
    let is_taken = |subject: &Value| captures.iter().any(|pattern| covers(pattern, subject));
    let ours = client.subjects.captured().into_iter();
    let takes = ours.filter(|subject| is_taken(&Value::from(subject.as_str())));
    let takes = takes.collect();
    Some(Leftover { name, takes })
}
