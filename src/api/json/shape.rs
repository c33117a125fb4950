//! The JSON of requests and of answers. Fields are named as in the proto.

use std::time::{Duration, UNIX_EPOCH};

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    reading::{Few, seconds, some},
    refusal::Refusal,
};
use crate::{
    api::{BroadcastOrder, Issued, PushOrder, TicketOrder, TopicsOrder},
    bus::{Published, Receipt},
    grants::{Lists, MILLISECONDS},
};

/// The usual alphabet (RFC 4648 §4); `=` at the end may be left out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// `POST /v1/push`, and an entry of a batch.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Push<'a> {
    user_id: String,
    #[serde(default)]
    event: String,
    #[serde(default)]
    message_id: String,
    #[serde(default)]
    receipt: bool,
    #[serde(borrow, default, deserialize_with = "some")]
    data: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "some")]
    base64: Option<String>,
}

impl Push<'_> {
    /// The push, as operations take it; `key` is what the header says.
    pub(super) fn order(self, body: &Bytes, key: Option<String>) -> Result<PushOrder, Refusal> {
        Ok(PushOrder {
            user_id: self.user_id,
            event: self.event,
            message_id: message_id(self.message_id, key)?,
            payload: payload(body, self.data, self.base64)?,
            receipt: self.receipt,
            ..PushOrder::default()
        })
    }
}

/// `POST /v1/broadcast`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Broadcast<'a> {
    #[serde(default)]
    event: String,
    #[serde(default)]
    message_id: String,
    #[serde(borrow, default, deserialize_with = "some")]
    data: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "some")]
    base64: Option<String>,
}

impl Broadcast<'_> {
    /// The broadcast, as operations take it; `key` is what the header says.
    pub(super) fn order(
        self,
        body: &Bytes,
        key: Option<String>,
    ) -> Result<BroadcastOrder, Refusal> {
        Ok(BroadcastOrder {
            event: self.event,
            message_id: message_id(self.message_id, key)?,
            payload: payload(body, self.data, self.base64)?,
            ..BroadcastOrder::default()
        })
    }
}

/// The message's bytes. Data are passed on as they stand in the body, byte for byte.
fn payload(
    body: &Bytes,
    data: Option<&RawValue>,
    base64: Option<String>,
) -> Result<Bytes, Refusal> {
    match (data, base64) {
        (Some(_), Some(_)) => Err(Refusal::bad("give data or base64, not both")),
        (Some(data), None) => Ok(body.slice_ref(data.get().as_bytes())),
        (None, Some(text)) => match BASE64.decode(text) {
            Ok(bytes) => Ok(bytes.into()),
            Err(error) => Err(Refusal::bad(format!(
                "base64 is not base64 of the usual alphabet: {error}"
            ))),
        },
        (None, None) => Ok(Bytes::new()),
    }
}

fn message_id(field: String, key: Option<String>) -> Result<String, Refusal> {
    match key {
        Some(key) if field.is_empty() || field == key => Ok(key),
        Some(_) => Err(Refusal::bad(
            "message_id and Idempotency-Key differ; give one of them",
        )),
        None => Ok(field),
    }
}

/// A push that went well.
#[derive(Debug, Serialize)]
pub(super) struct Pushed {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
}

impl From<Published> for Pushed {
    fn from(Published { seq, receipt }: Published) -> Self {
        let (status, sessions) = match receipt {
            None => ("dispatched", None),
            Some(Receipt::Queued(sessions)) => ("queued", Some(sessions)),
            Some(Receipt::Offline) => ("offline", Some(0)),
        };
        Self {
            status,
            sessions,
            seq,
        }
    }
}

/// A broadcast that went well.
#[derive(Debug, Serialize)]
pub(super) struct Broadcasted {
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
}

impl From<Published> for Broadcasted {
    fn from(Published { seq, .. }: Published) -> Self {
        Self { seq }
    }
}

/// `POST /v1/tickets`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ticket {
    user_id: String,
    #[serde(default, deserialize_with = "seconds")]
    ttl: Option<u64>,
    #[serde(default, deserialize_with = "seconds")]
    expires_at: Option<u64>,
    #[serde(default)]
    origin: String,
    #[serde(default)]
    topics: Vec<String>,
    #[serde(default)]
    may_follow: Vec<String>,
    #[serde(default)]
    may_follow_prefix: Vec<String>,
    #[serde(default)]
    calls: Vec<String>,
}

impl Ticket {
    /// The ticket, as operations take it.
    pub(super) fn order(self) -> Result<TicketOrder, Refusal> {
        let expires_at = match self.expires_at {
            Some(MILLISECONDS..) => {
                return Err(Refusal::bad(
                    "expires_at is 10^11 or above, as milliseconds are; write Unix seconds",
                ));
            }
            seconds => seconds.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds)),
        };
        Ok(TicketOrder {
            user_id: self.user_id,
            ttl: self.ttl.map(Duration::from_secs),
            expires_at,
            origin: self.origin,
            grants: Lists {
                topics: self.topics,
                may_follow: self.may_follow,
                may_follow_prefix: self.may_follow_prefix,
                calls: self.calls,
            },
        })
    }
}

/// A ticket, and the whole seconds for which it waits.
#[derive(Serialize)]
pub(super) struct Ticketed {
    ticket: String,
    expires_in: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<String>,
}

impl From<Issued> for Ticketed {
    fn from(issued: Issued) -> Self {
        Self {
            ticket: issued.ticket.expose().to_owned(),
            expires_in: issued.expires_in.as_secs(),
            position: issued.position.map(|position| position.to_string()),
        }
    }
}

/// `POST /v1/presence`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Asked {
    pub(in crate::api) user_ids: Few<String>,
}

/// `POST /v1/users/USER/topics`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Topics {
    #[serde(default, deserialize_with = "some")]
    user_id: Option<String>,
    #[serde(default)]
    follow: Vec<String>,
    #[serde(default)]
    unfollow: Vec<String>,
}

impl Topics {
    /// The change, as operations take it, for the user of the path.
    pub(super) fn order(self, user_id: String) -> Result<TopicsOrder, Refusal> {
        if self.user_id.is_some_and(|other| other != user_id) {
            return Err(Refusal::bad(
                "user_id is not the user of the path; leave it out",
            ));
        }
        Ok(TopicsOrder {
            user_id,
            follow: self.follow,
            unfollow: self.unfollow,
        })
    }
}
