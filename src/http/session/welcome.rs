//! The first frame of a session of `usher.v1`.

use bytes::Bytes;
use ulid::Ulid;

use super::Config;
use crate::{
    channel::Topic,
    durable::Opening,
    frame::{Welcome, sse},
    registry::SessionHandle,
};

/// Says where the session begins.
pub(super) fn welcome(
    config: &Config,
    session: Ulid,
    handle: &SessionHandle,
    opening: &Opening,
) -> Bytes {
    let stream = opening.stream.as_ref();
    let topics = handle.topics();
    let welcome = Welcome {
        session: &session.to_string(),
        user: handle.user().as_str(),
        gateway: &config.gateway,
        ping: config.ping_interval,
        epoch: stream.map(|(epoch, _)| &**epoch),
        seq: stream.map(|(_, last)| last.seq),
        at: stream.map(|(_, last)| last.at),
        resume: opening.resume,
        topics: topics.iter().map(Topic::as_str).collect(),
    };
    let welcome = handle.backlog().protocol().frame(&welcome.json());
    match &opening.id {
        Some(id) => sse::with_id(&welcome, id),
        None => welcome,
    }
}
