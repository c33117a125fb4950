//! Messages that are too large, or too many.

use std::time::Duration;

use futures_util::future::join_all;

use crate::{auditor::To, client::Order, world::World};

/// A large message.
const LARGE: usize = 24 * 1024;
/// So many of them as the kernel does not keep for a client that does not read.
pub(super) const UNREAD: usize = 350;
/// More than a frame may hold.
pub(super) const TOO_LARGE: usize = 96 * 1024;

/// Among others, so that each `gap` has a message before it and one after it.
pub(crate) async fn too_large(world: &World, user: usize) {
    let topics = world.clients_of(To::User(user));
    let topics = topics.map(|client| To::Topic(world.scale.who(client).channels.topic));
    for to in [To::User(user), To::All].into_iter().chain(topics.take(1)) {
        world.extra.send(to, 0).await;
        for _ in 0..2 {
            world.extra.send(to, TOO_LARGE).await;
        }
        world.extra.send(to, 0).await;
    }
}

pub(super) async fn slow(world: &World, user: usize, lasts: Duration, messages: usize) {
    for client in world.clients_of(To::User(user)) {
        world.order(client, Order::Pause(lasts));
    }
    flood(world, To::User(user), LARGE, messages).await;
}

/// One after the other they would take too long, and all at once too much.
pub(super) async fn flood(world: &World, to: To, padding: usize, messages: usize) {
    let mut left = messages;
    while left > 0 {
        let now = left.min(100);
        drop(join_all((0..now).map(|_| world.extra.send(to, padding))).await);
        left -= now;
    }
}
