//! What `fuzz/` reaches of this module: bodies of requests, as the paths read them.

use bytes::Bytes;
use serde::Deserialize;

use super::{Asked, batch, refusal::Refusal, shape, whole};
use crate::api::{BroadcastOrder, DisconnectOrder, PushOrder, TicketOrder};

/// What an order is, or why a body is none.
pub type Read<T> = Result<T, String>;

fn told<T>(read: Result<T, Refusal>) -> Read<T> {
    read.map_err(|refusal| refusal.message().into_owned())
}

fn read<'a, T: Deserialize<'a>>(body: &'a Bytes) -> Read<T> {
    told(whole(body))
}

/// Reads a push; `key` is its `Idempotency-Key`.
pub fn push(body: &Bytes, key: Option<String>) -> Read<PushOrder> {
    told(read::<shape::Push<'_>>(body)?.order(body, key))
}

/// Reads a batch of pushes.
pub fn pushes(body: &Bytes) -> Read<Vec<Read<PushOrder>>> {
    let orders = told(batch::orders(body))?;
    Ok(orders.into_iter().map(told).collect())
}

/// Reads a broadcast.
pub fn broadcast(body: &Bytes) -> Read<BroadcastOrder> {
    told(read::<shape::Broadcast<'_>>(body)?.order(body, None))
}

/// Reads a wish for a ticket.
pub fn ticket(body: &Bytes) -> Read<TicketOrder> {
    told(read::<shape::Ticket>(body)?.order())
}

/// Reads of whom it is asked whether they are online.
pub fn presence(body: &Bytes) -> Read<Vec<String>> {
    Ok(read::<Asked>(body)?.user_ids.0)
}

/// Reads whose sessions end.
pub fn disconnect(body: &Bytes) -> Read<DisconnectOrder> {
    read(body)
}
