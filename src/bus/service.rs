//! The connection for the service API of NATS (ADR-32). Anyone who may publish there writes to
//! it, and async-nats drops a connection over an odd header: so it carries nothing else, and an
//! odd header of a caller cuts no push.

use std::time::Duration;

use async_nats::Event;
use futures_util::future::OptionFuture;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Config,
    client::options::{addresses, connect},
    health::Health,
    servers::Servers,
};
use crate::jitter;

/// Events of async-nats that wait to be told to operators.
const EVENTS: usize = 128;
/// What async-nats holds: of each kind of request as many, and of answers.
const QUEUE: usize = 256;
/// A connection leaves a server in lame-duck mode within this: callers find the service at other
/// gateways meanwhile, which leave at moments of their own.
const LEAVES: Duration = Duration::from_millis(500);
/// Then another server has taken it within this, or it is lost.
const MOVES: Duration = Duration::from_secs(2);

/// The connection, and what is said on it. The service itself is the API's.
#[derive(Debug)]
pub struct Service {
    /// Connected, or about to be; it comes back by itself.
    pub nats: async_nats::Client,
    /// What its endpoints' subjects begin with: `usher.api`.
    pub prefix: String,
    /// This gateway's name.
    pub gateway: String,
}

/// Connects for as long as the result is polled.
pub(super) async fn start(
    config: &Config,
    servers: Servers,
    health: Health,
) -> Result<(Service, impl Future<Output = ()> + Send + 'static), async_nats::Error> {
    let (sender, events) = mpsc::channel(EVENTS);
    let nats = connect(config, &servers, ("service", QUEUE, QUEUE), sender).await?;
    let watching = watch(nats.clone(), servers, health, events);
    let service = Service {
        nats,
        prefix: config.subjects().api(),
        gateway: config.name.clone(),
    };
    Ok((service, watching))
}

/// Tells operators what becomes of the connection, and it what other servers there are. Ends
/// only when async-nats's own task has ended, which nothing can mend.
async fn watch(
    nats: async_nats::Client,
    servers: Servers,
    health: Health,
    mut events: mpsc::Receiver<Event>,
) {
    let mut changes = servers.changes();
    // While it moves to another server: until when that is no loss.
    let mut moving: Option<Instant> = None;
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            Some(()) = OptionFuture::from(moving.map(sleep_until)) => {
                moving = None;
                health.down(&"no other server has taken the connection");
                continue;
            }
            Ok(()) = changes.changed() => {
                let (nats, servers) = (nats.clone(), addresses(&servers.all()));
                // It waits while async-nats looks for a server.
                tokio::spawn(async move { nats.set_server_pool(&servers[..]).await });
                continue;
            }
        };
        match event {
            Some(Event::Connected) => {
                moving = None;
                let info = nats.server_info();
                health.up(&info.server_name, &info.version);
            }
            Some(Event::Disconnected) if moving.is_some() => {}
            Some(Event::Disconnected) => health.down(&"the connection broke"),
            Some(Event::ServerError(error)) => health.refused(&error.to_string()),
            Some(Event::LameDuckMode) if moving.is_none() => {
                moving = Some(Instant::now() + LEAVES + MOVES);
                health.retiring(&nats.server_info().server_name);
                let nats = nats.clone();
                tokio::spawn(async move {
                    sleep(jitter::between(Duration::ZERO, LEAVES)).await;
                    nats.force_reconnect().await
                });
            }
            Some(_) => {}
            None => return,
        }
    }
}
