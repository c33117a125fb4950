//! What the reply to the `connect` of a Centrifuge client says of its session.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use ulid::Ulid;

use super::{
    Config,
    expiry::{LONGEST_NOTICE, SHORTEST_NOTICE},
};
use crate::{
    channel::Channel,
    durable::Opening,
    frame::centrifuge::{self, Begins},
    http::centrifuge::Connect,
    jitter,
    proto::centrifuge::{ConnectResult, NamedSubscription, Reply, SubscribeResult},
    registry::SessionHandle,
};

/// After how many seconds an SDK refreshes its token: 60–90 s before the session ends, at
/// random, so that not all do so at the same time; in the middle of a life that is not longer.
pub(super) fn ttl(expires_at: SystemTime) -> u32 {
    let left = expires_at.duration_since(SystemTime::now());
    let left = left.unwrap_or(Duration::ZERO);
    let after = match left > LONGEST_NOTICE {
        true => left - jitter::between(SHORTEST_NOTICE, LONGEST_NOTICE),
        false => left / 2,
    };
    u32::try_from(after.as_secs().max(1)).unwrap_or(u32::MAX)
}

/// The answer to the `connect` that opened a session.
pub(super) fn connected(
    config: &Config,
    session: Ulid,
    handle: &SessionHandle,
    opening: &Opening,
    (connect, expires_at): (&Connect, Option<SystemTime>),
) -> Bytes {
    let user = handle.user().as_str();
    let topics = opening.topics.iter().cloned().map(Channel::Topic);
    let channels = [Channel::User, Channel::Broadcast].into_iter();
    let subs = channels.chain(topics).map(|channel| {
        let name = centrifuge::name(&channel, user);
        let begins = opening.stream.as_ref().map(|(epoch, last)| {
            let recovered = opening.recovered.get(&name).copied();
            Begins {
                epoch,
                offset: recovered.unwrap_or(last.seq),
                recovered: recovered.is_some(),
            }
        });
        let result = SubscribeResult {
            was_recovering: connect.recovers(&name),
            ..begins.as_ref().map(Begins::result).unwrap_or_default()
        };
        NamedSubscription {
            channel: name,
            result: Some(result),
        }
    });
    let connected = ConnectResult {
        client: session.to_string(),
        subs: subs.collect(),
        expires: connect.by_token,
        ttl: expires_at.filter(|_| connect.by_token).map_or(0, ttl),
        // A client gives up if no ping came for this many seconds and ten more.
        ping: u32::try_from(config.ping_interval.as_secs().max(1)).unwrap_or(u32::MAX),
        pong: true,
        node: config.gateway.clone(),
        ..ConnectResult::default()
    };
    let reply = Reply {
        id: connect.id,
        connect: Some(connected),
        ..Reply::default()
    };
    centrifuge::reply(handle.backlog().protocol(), &reply)
}
