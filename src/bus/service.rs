//! The connection for the service API of NATS (ADR-32). Anyone who may publish there writes to
//! it, and async-nats drops a connection over an odd header: so it carries nothing else, and an
//! odd header of a caller cuts no push.

use std::{pin::Pin, time::Duration};

use async_nats::Event;
use futures_util::future::OptionFuture;
use tokio::{sync::mpsc, time::sleep};

use super::{
    Config,
    client::options::{addresses, connect},
    health::Health,
    interest::Dialer,
    servers::Servers,
};
use crate::jitter;

/// Events of async-nats that wait to be told to operators.
const EVENTS: usize = 128;
/// What async-nats holds: of each kind of request as many, and of answers.
const QUEUE: usize = 256;
/// A connection leaves a server in lame-duck mode within this, when another server is found:
/// callers find the service at other gateways meanwhile, which leave at moments of their own.
const LEAVES: Duration = Duration::from_millis(500);
/// Then another server has taken it within this, or it is lost.
const MOVES: Duration = Duration::from_secs(2);

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

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
    let dialer = Dialer::new(config.clone(), servers);
    let watching = watch(nats.clone(), dialer, health, events);
    let service = Service {
        nats,
        prefix: config.subjects().api(),
        gateway: config.name.clone(),
    };
    Ok((service, watching))
}

/// Returns when there is another server, at a moment of this gateway's own.
async fn find(dialer: Dialer) {
    drop(dialer.dial().await);
    sleep(jitter::between(Duration::ZERO, LEAVES)).await;
}

async fn go(nats: async_nats::Client) {
    let _ = nats.force_reconnect().await;
    sleep(MOVES).await;
}

/// Tells operators what becomes of the connection, and it what other servers there are. Ends
/// only when async-nats's own task has ended, which nothing can mend.
async fn watch(
    nats: async_nats::Client,
    dialer: Dialer,
    health: Health,
    mut events: mpsc::Receiver<Event>,
) {
    let mut changes = dialer.servers.changes();
    // Looks for another server than one in lame-duck mode.
    let mut leaving: Option<Work> = None;
    // Moves there: meanwhile the connection is not lost.
    let mut moving: Option<Work> = None;
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            Some(()) = OptionFuture::from(leaving.as_mut()) => {
                leaving = None;
                moving = Some(Box::pin(go(nats.clone())));
                continue;
            }
            Some(()) = OptionFuture::from(moving.as_mut()) => {
                moving = None;
                health.down(&"no other server has taken the connection");
                continue;
            }
            Ok(()) = changes.changed() => {
                let (nats, servers) = (nats.clone(), addresses(&dialer.servers.all()));
                // It waits while async-nats looks for a server.
                tokio::spawn(async move { nats.set_server_pool(&servers[..]).await });
                continue;
            }
        };
        match event {
            Some(Event::Connected) => {
                (leaving, moving) = (None, None);
                let info = nats.server_info();
                health.up(&info.server_name, &info.version);
            }
            Some(Event::Disconnected) if moving.is_some() => {}
            Some(Event::Disconnected) => {
                leaving = None;
                health.down(&"the connection broke");
            }
            Some(Event::ServerError(error)) => health.refused(&error.to_string()),
            Some(Event::LameDuckMode) if leaving.is_none() && moving.is_none() => {
                health.retiring(&nats.server_info().server_name);
                leaving = Some(Box::pin(find(dialer.clone())));
            }
            Some(_) => {}
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        bus::example_config,
        metrics::Metrics,
        readiness::{Part, Readiness},
    };

    /// The server in lame-duck mode is the only one.
    #[tokio::test(start_paused = true)]
    async fn a_server_is_not_left_before_another_is_found() {
        let config = example_config();
        let readiness = Readiness::new(Duration::ZERO);
        let metrics = Arc::new(Metrics::new());
        let health = Health::new("service", Part::Service, false, metrics, readiness.clone());
        let servers = Servers::new(&config.servers);
        let (ours, _kept) = mpsc::channel(EVENTS);
        let nats = connect(&config, &servers, ("service", QUEUE, QUEUE), ours);
        let nats = nats.await.expect("a client");
        let (sender, events) = mpsc::channel(EVENTS);
        let watching = watch(nats, Dialer::new(config, servers), health, events);
        let telling = async {
            for event in [Event::Connected, Event::LameDuckMode] {
                sender.send(event).await.expect("it listens");
            }
            sleep(Duration::from_secs(60)).await;
            assert!(
                readiness.is_up(Part::Service),
                "it serves until it is closed"
            );
            sender.send(Event::Disconnected).await.expect("it listens");
            sleep(Duration::from_secs(1)).await;
            assert!(!readiness.is_up(Part::Service));
        };
        tokio::select! {
            () = watching => panic!("it ends with async-nats alone"),
            () = telling => {}
        }
    }
}
