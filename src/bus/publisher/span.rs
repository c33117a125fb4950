//! The span of a push that is recorded.

use super::{PublishError, Published, Push, Receipt};
use crate::{message::EventName, telemetry::Span};

/// A push is recorded in this span.
pub(super) fn enter(span: &mut Span, push: &mut Push) {
    let event = push.event.as_ref().map_or("message", EventName::as_str);
    span.set("usher.event", event.to_owned());
    span.set("usher.payload_bytes", push.payload.len());
    span.set_state(push.caller.state.as_deref());
    push.caller.parent = span.parent();
    // For a caller that goes meanwhile.
    span.fail("the caller has gone; whether it was published is unknown");
}

/// What became of it.
pub(super) fn conclude(span: &mut Span, published: &Result<Published, PublishError>) {
    let published = match published {
        Ok(published) => published,
        Err(error) => return span.fail(error.name()),
    };
    span.succeed();
    if let Some(seq) = published.seq {
        span.set("usher.seq", seq);
    }
    if let Some(receipt) = published.receipt {
        let sessions = match receipt {
            Receipt::Queued(sessions) => sessions,
            Receipt::Offline => 0,
        };
        span.set("usher.sessions", u64::from(sessions));
    }
}
