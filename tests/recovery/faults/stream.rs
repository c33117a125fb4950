//! A stream that loses republishes, or that somebody sets back.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::messages::TOO_LARGE;
use crate::{
    auditor::To,
    client::Order,
    manager::{Manager, republish},
    support::{eventually, wait::patiently},
    world::World,
};

/// Messages that are stored and not republished. One of them is too large for a frame.
const LOST: [usize; 3] = [0, TOO_LARGE, 0];
/// For so long a client may take to read a message.
const READ: Duration = Duration::from_secs(3);

/// Messages of one channel are stored and not republished. Then one comes by another channel,
/// and the clients of `whose` leave with it. Nobody publishes meanwhile, so nothing but the
/// stream shows what was lost: not that message, and not the position with which the clients
/// come back.
pub(super) async fn loses_republishes(
    world: &World,
    whose: To,
    (lost, other): (To, To),
    lasts: Duration,
) {
    // NATS answers meanwhile.
    let _nodes = world.nodes.all.lock().await;
    let manager = Manager::new(world.nodes.urls()).await;
    let shut = world.shared.gate.write().await;
    manager.set_republish(Value::Null).await;
    for padding in LOST {
        world.extra.send_alone(lost, padding).await;
    }
    manager.set_republish(republish()).await;
    let shown = world.extra.send_alone(other, 0).await;
    let has_it = || {
        let mut clients = world.clients_of(whose);
        std::future::ready(clients.all(|client| world.shared.has_read(client, shown)))
    };
    // Some may have no session now, and come back for it.
    let _ = timeout(READ, eventually("they have the message", has_it)).await;
    for client in world.clients_of(whose) {
        world.order(client, Order::Away(lasts));
    }
    drop(shut);
}

/// NATS ends, and begins again with what its folder had a while ago. Where the stream is
/// `overtaken`, no gateway reaches NATS before the stream is beyond its former end: then
/// only the times of its messages show what happened.
pub(super) async fn set_back(world: &World, age: Duration, overtaken: bool) {
    let nats = &mut world.nodes.all.lock().await[0];
    let copy = world.copy_of_store(nats).await;
    sleep(age).await;
    let reaches = world.reaches.iter().filter(|_| overtaken);
    let reaches = join_all(reaches.map(|reach| reach.lock())).await;
    if overtaken {
        world.networks.iter().for_each(|network| network.cut());
    }
    let former = world.put_back(nats, &copy).await;
    if overtaken {
        let beyond = async {
            while world.shared.auditor().last() <= former {
                world.publish_to_all().await;
            }
        };
        patiently("the stream is beyond its former end", beyond).await;
        world.networks.iter().for_each(|network| network.mend());
    }
    drop(reaches);
}
