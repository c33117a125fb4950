//! Streams that nothing reads any more: that of broadcasts which versions before 0.2.0 kept
//! beside the stream of users, and in live mode that of durable mode.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Config, StreamError, api::ask, info::info, shape::covers};
use crate::bus::client::Client;

/// The stream of broadcasts of an earlier version.
#[derive(Debug)]
pub struct Leftover {
    /// Its name.
    pub name: String,
    /// The subjects that it takes from the stream of this version.
    pub takes: Vec<String>,
}

/// Looks for it. `None` if there is no such stream.
///
/// # Errors
///
/// [`StreamError`]: NATS does not say.
pub(in crate::bus) async fn leftover(
    client: &Client,
    config: &Config,
) -> Result<Option<Leftover>, StreamError> {
    let name = format!("{}_BROADCASTS", config.name);
    let found = match info(client, "INFO", &name, &json!({})).await {
        Err(StreamError::NotThere(_)) => return Ok(None),
        found => found?,
    };
    let captures = found.config["subjects"].as_array();
    let captures = captures.map(Vec::as_slice).unwrap_or_default();
    let is_taken = |subject: &Value| captures.iter().any(|pattern| covers(pattern, subject));
    let ours = client.subjects.captured().into_iter();
    let takes = ours.filter(|subject| is_taken(&Value::from(subject.as_str())));
    let takes = takes.collect();
    Ok(Some(Leftover { name, takes }))
}

/// The names of streams that store what is published to users, whoever made them.
///
/// # Errors
///
/// [`StreamError`]: NATS does not say, such as without JetStream.
pub(in crate::bus) async fn storing(client: &Client) -> Result<Vec<String>, StreamError> {
    #[derive(Deserialize)]
    struct Answer {
        streams: Option<Vec<String>>,
    }
    let question = json!({ "subject": client.subjects.all_users() });
    let answer: Answer = ask(client, "STREAM.NAMES", &question).await?;
    Ok(answer.streams.unwrap_or_default())
}
