//! The first frame of a session of `usher.v1`.

use std::sync::Arc;

use bytes::Bytes;
use ulid::Ulid;

use super::Config;
use crate::{
    channel::Topic,
    durable::Opening,
    frame::{Proof, Resume, Welcome},
    position::{Begun, Tracker},
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
    let welcome = Welcome {
        session: &session.to_string(),
        user: handle.user().as_str(),
        gateway: &config.gateway,
        ping: config.ping_interval,
        epoch: stream.map(|(epoch, _)| &**epoch),
        seq: stream.map(|(_, last)| last.seq),
        at: stream.map(|(_, last)| last.at),
        resume: opening.resume,
        topics: opening.topics.iter().map(Topic::as_str).collect(),
    };
    handle.backlog().protocol().frame(&welcome.json())
}

/// The client's position after its welcome; `None` in live mode.
pub(super) fn position(opening: &Opening) -> Option<Tracker> {
    let (epoch, Proof { seq, at }) = opening.stream.as_ref()?;
    let begun = match opening.resume {
        Resume::None => Begun::Anew,
        Resume::Complete => Begun::Complete,
        Resume::Gap => Begun::Gap,
    };
    let had = opening.position.clone();
    let mut tracker = had.map(Tracker::new).unwrap_or_default();
    let epoch = Some(Arc::clone(epoch));
    tracker.welcome(epoch, *seq, *at, begun, opening.topics.iter().cloned());
    Some(tracker)
}
