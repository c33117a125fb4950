//! Seeing to the consumer: creating it, mending it, and saying what is wrong with it. As with
//! the stream, its configuration is kept as JSON, so that a field which this version does not
//! know stays as it is.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::bus::{
    client::Client,
    stream::{
        Config, StreamError,
        api::{ask, found},
        info::info,
        upkeep::Reach,
    },
};

/// Its name: all gateways share it.
pub(in crate::bus) const NAME: &str = "usher-offline";
/// How long a message may go without an acknowledgement. After that its gateway has ended, and the
/// message is delivered to another one. Far more than it takes to ask for it.
const ACK_WAIT: Duration = Duration::from_secs(10);
/// Messages that all gateways together look at, at the same time.
const MAX_ACK_PENDING: u64 = 4096;
/// Pulls that wait; a gateway has one.
const MAX_WAITING: u64 = 512;

/// The consumer as it is now, and the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bus) struct Found {
    /// The stream's first message.
    pub(super) first: u64,
    /// The stream's last message, before the consumer was asked.
    pub(super) last: u64,
    /// The last message that was delivered for the first time.
    pub(super) delivered: u64,
    /// Messages that were not delivered yet.
    pub(super) pending: u64,
}

/// Why no events of what nobody was given are published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsumerError {
    /// It cannot be asked for.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The stream deletes what consumers have acknowledged.
    #[error(
        "offline.events needs a stream with limits retention, and the stream {0} has {1}; \
         JetStream does not change that, the stream has to be made anew"
    )]
    Retention(String, String),
    /// There is none, and this gateway must not create it.
    #[error(
        "the stream {0} has no consumer {NAME}, and durable.manage_stream is off; \
         `usher check --apply` creates it"
    )]
    Missing(String),
    /// It is not what Usher needs.
    #[error(
        "the consumer {NAME} of the stream {stream} has {field} {found} and needs {wanted}; \
         `usher check --apply` mends it where JetStream can change that, else delete the \
         consumer, and Usher makes it anew"
    )]
    Different {
        /// Whose consumer it is.
        stream: String,
        /// What is wrong with it.
        field: &'static str,
        /// What it is.
        found: Value,
        /// What it has to be.
        wanted: Value,
    },
}

#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default)]
    config: Value,
    #[serde(default)]
    delivered: Delivered,
    #[serde(default)]
    num_pending: u64,
}

#[derive(Debug, Default, Deserialize)]
struct Delivered {
    #[serde(default)]
    stream_seq: u64,
}

/// Looks at the consumer; creates and mends it where `reach` allows that.
///
/// # Errors
///
/// [`ConsumerError`] says what to do.
pub(in crate::bus) async fn see_to(
    client: &Client,
    config: &Config,
    reach: Reach,
) -> Result<Found, ConsumerError> {
    let stream = &config.name;
    let kept = info(client, "INFO", stream, &json!({})).await?;
    let retention = kept.config["retention"].as_str().unwrap_or("limits");
    if retention != "limits" {
        return Err(ConsumerError::Retention(
            stream.clone(),
            retention.to_owned(),
        ));
    }
    let wanted = wanted(&client.subjects.all_users());
    let may_change = reach != Reach::Nothing;
    let mut found = match consumer(client, stream).await? {
        Some(found) => found,
        None if may_change => {
            let created = create(client, stream, &wanted).await?;
            tracing::info!(%stream, consumer = NAME, "created the consumer");
            created
        }
        None => return Err(ConsumerError::Missing(stream.clone())),
    };
    if may_change && difference(&wanted, &found.config).is_some() {
        let mended = create(client, stream, &mended(&wanted, &found.config)).await;
        match mended {
            Ok(mended) => found = mended,
            Err(error) => {
                tracing::warn!(%stream, consumer = NAME, %error, "JetStream does not change the consumer");
            }
        }
    }
    if let Some(field) = difference(&wanted, &found.config) {
        return Err(ConsumerError::Different {
            stream: stream.clone(),
            field,
            found: found.config[field].clone(),
            wanted: wanted[field].clone(),
        });
    }
    Ok(Found {
        first: kept.state.first_seq,
        last: kept.state.last_seq,
        delivered: found.delivered.stream_seq,
        pending: found.num_pending,
    })
}

async fn consumer(client: &Client, stream: &str) -> Result<Option<Answer>, StreamError> {
    let what = format!("CONSUMER.INFO.{stream}.{NAME}");
    found(ask(client, &what, &json!({})).await)
}

/// Creates the consumer, or changes the one that is there.
async fn create(client: &Client, stream: &str, config: &Value) -> Result<Answer, StreamError> {
    let what = format!("CONSUMER.CREATE.{stream}.{NAME}");
    let body = json!({ "stream_name": stream, "config": config });
    let created = ask(client, &what, &body).await;
    created.map_err(|error| error.of_stream(stream))
}

/// Where it begins is what happens from its creation on.
fn wanted(users: &str) -> Value {
    json!({
        "name": NAME,
        "durable_name": NAME,
        "description": "Usher: messages to users, for usher.offline.USER",
        "deliver_policy": "new",
        "ack_policy": "explicit",
        "ack_wait": u64::try_from(ACK_WAIT.as_nanos()).unwrap_or(u64::MAX),
        // Retention ends it: a message that is gone is not delivered again.
        "max_deliver": -1,
        "filter_subject": users,
        "replay_policy": "instant",
        "max_ack_pending": MAX_ACK_PENDING,
        "max_waiting": MAX_WAITING,
    })
}

/// The first field that has to be another one. What an operator may want to change, such as
/// how much is under way at the same time, may stay.
fn difference(wanted: &Value, found: &Value) -> Option<&'static str> {
    let equal = ["ack_policy", "filter_subject", "max_deliver"];
    let absent = ["deliver_subject", "filter_subjects", "headers_only"];
    let differs = |field: &&&str| wanted[**field] != found[**field];
    let there = |field: &&&str| {
        let value = &found[**field];
        !value.is_null() && value != false && value.as_str() != Some("")
    };
    let equal = equal.iter().find(differs);
    equal.or_else(|| absent.iter().find(there)).copied()
}

/// The configuration with what has to be changed, and all else kept.
fn mended(wanted: &Value, found: &Value) -> Value {
    let mut mended = found.clone();
    while let Some(field) = difference(wanted, &mended) {
        match (wanted.get(field), mended.as_object_mut()) {
            (Some(value), _) => mended[field] = value.clone(),
            (None, Some(fields)) => drop(fields.remove(field)),
            (None, None) => break,
        }
    }
    mended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_is_mended_and_the_rest_is_kept() {
        let wanted = wanted("usher.user.*");
        assert_eq!(difference(&wanted, &wanted), None);
        let mut found = wanted.clone();
        found["max_ack_pending"] = 20.into();
        found["a_field_of_the_future"] = 7.into();
        assert_eq!(difference(&wanted, &found), None);
        for (field, value) in [
            ("filter_subject", json!("usher.>")),
            ("ack_policy", json!("none")),
            ("max_deliver", json!(3)),
            ("deliver_subject", json!("x")),
            ("filter_subjects", json!(["a", "b"])),
            ("headers_only", json!(true)),
        ] {
            let mut other = found.clone();
            other[field] = value;
            assert_eq!(difference(&wanted, &other), Some(field));
            assert_eq!(mended(&wanted, &other), found);
        }
    }
}
