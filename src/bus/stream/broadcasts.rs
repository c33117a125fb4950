//! The second stream, which keeps more broadcasts than the first one does.
//!
//! It captures what the first one republishes, with the headers that say where a message
//! is there. So what it has shows by itself whether anything is missing between: each
//! names the broadcast before it. Its own sequences grow with those of the first one, so a
//! place is found by halving.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Bounds, Found, Look, Read, Stream, StreamError, number, read::message, shape};
use crate::bus::wire::ServerMessage;

#[derive(Debug, Deserialize)]
struct Info {
    config: Option<Value>,
    state: Option<State>,
}

#[derive(Debug, Deserialize)]
struct State {
    first_seq: u64,
    last_seq: u64,
}

/// The broadcasts after a sequence of the first stream, which may have lost some; `first`
/// is what it has.
pub(super) async fn read(
    stream: &Stream,
    after: u64,
    bounds: Bounds,
    look: &Look,
    first: Read,
) -> Result<Read, StreamError> {
    let config = &stream.0.config;
    // What went for its age or for want of room is in neither of them.
    if config.max_broadcasts <= config.max_messages_per_user || !look.has_all_after(after) {
        return Ok(first);
    }
    let name = stream.broadcasts_name();
    let info = stream
        .ask(&format!("STREAM.INFO.{name}"), &json!({}))
        .await?;
    let Info {
        config: Some(config),
        state: Some(state),
    } = info
    else {
        return Ok(first);
    };
    if shape::epoch(&config) != Some(&look.epoch) {
        return Ok(first);
    }
    let Some(start) = find(stream, &name, &state, after).await? else {
        return Ok(first);
    };
    let subject = format!("$JS.API.DIRECT.GET.{name}");
    let body = json!({
        "seq": start,
        "next_by_subj": stream.0.subjects.heard_broadcast(),
        "batch": bounds.messages,
        "max_bytes": bounds.bytes,
    });
    let count = bounds.messages + 1;
    let mut replies = stream.0.caller.ask(&subject, &body, count).await?;
    let mut second = Read {
        intact: true,
        anchored: false,
        found: Vec::new(),
        more: 0,
    };
    let mut ends = after;
    loop {
        let reply = replies.next().await?;
        if reply.headers.status().is_some() {
            break;
        }
        second.more = number(&reply, "Nats-Num-Pending").unwrap_or(0);
        let Some((seq, prev)) = place(stream, &reply) else {
            continue;
        };
        second.intact &= prev <= ends && seq > ends;
        ends = seq;
        let message = message(&reply, true);
        second.found.push(Found { seq, message });
    }
    if second.more == 0 {
        // What it does not have yet, the first one has: with no hole between, where that
        // begins before this ends.
        second.intact &= first.found.first().is_some_and(|found| found.seq <= ends);
        let rest = first.found.into_iter().filter(|found| found.seq > ends);
        let rest: Vec<_> = rest.collect();
        second.more = if rest.is_empty() { 0 } else { first.more };
        second.found.extend(rest);
    }
    Ok(second)
}

/// The sequence, in the second stream, of its first message that comes after a sequence of
/// the first one; none where there is none.
async fn find(
    stream: &Stream,
    name: &str,
    state: &State,
    after: u64,
) -> Result<Option<u64>, StreamError> {
    let (mut low, mut high) = (state.first_seq, state.last_seq + 1);
    let mut found = None;
    while low < high {
        let middle = low + (high - low) / 2;
        match next(stream, name, middle).await? {
            Some((here, there)) if there <= after => low = here.max(middle) + 1,
            Some((here, _)) => {
                found = Some(here);
                high = middle;
            }
            None => high = middle,
        }
    }
    Ok(found)
}

/// The first message at or after a sequence of the second stream: its sequences in both.
async fn next(stream: &Stream, name: &str, seq: u64) -> Result<Option<(u64, u64)>, StreamError> {
    let subject = format!("$JS.API.DIRECT.GET.{name}");
    let broadcast = stream.0.subjects.heard_broadcast();
    let body = json!({ "seq": seq, "next_by_subj": broadcast });
    let reply = stream.call(&subject, &body).await?;
    if reply.headers.status().is_some() {
        return Ok(None);
    }
    let there = place(stream, &reply).map(|(seq, _)| seq);
    Ok(number(&reply, "Nats-Sequence").zip(there))
}

/// Where a message is in the first stream, and where the one before it is.
fn place(stream: &Stream, message: &ServerMessage) -> Option<(u64, u64)> {
    let anchor = ("Nats-Stream", &*stream.0.config.name);
    let number = |name| message.headers.behind(anchor, name)?.parse().ok();
    Some((number("Nats-Sequence")?, number("Nats-Last-Sequence")?))
}
