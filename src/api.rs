//! The API for services: the operations once, and the doors to them.
//!
//! What is published always goes through the bus, never straight to a session of this
//! gateway, so it makes no difference which gateway a service calls.

mod bodies;
mod connection;
mod ending;
mod entrance;
mod failure;
mod frames;
mod grpc;
mod guard;
mod in_flight;
mod json;
mod listener;
mod nats;
mod not_published;
mod operations;
mod peers;

use std::{sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch};

#[cfg(fuzzing)]
pub use self::json::fuzzing;
use self::{
    connection::Connections, entrance::Entrance, guard::Guard, in_flight::InFlight, json::Json,
    peers::Peers,
};
pub use self::{
    failure::Failure,
    listener::LAST_ANSWERS,
    operations::{
        BroadcastOrder, DisconnectOrder, Issued, Operations, PushOrder, TicketOrder, TopicsOrder,
    },
};
use crate::{bus, metrics::Metrics, readiness::Readiness, secret::Secrets, tls::Acceptor};

/// Who may call, and for how long on one connection.
#[derive(Debug, Clone)]
pub struct Config {
    /// One of these must come as `authorization: Bearer`; empty: anyone may call.
    pub tokens: Secrets,
    /// Connections end gracefully after this; `None` for never.
    pub max_connection_age: Option<Duration>,
    /// Bytes of one message.
    pub max_message: usize,
    /// Connections that are open at the same time.
    pub max_connections: usize,
    /// Bytes of requests under way, of all callers together.
    pub max_in_flight_bytes: usize,
}

/// How far the gateway is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub enum Phase {
    /// It stays.
    Serving,
    /// Callers are asked to go elsewhere (GOAWAY); who comes all the same is served.
    Leaving,
    /// Nobody may connect any more, and calls under way are answered.
    Ended,
}

/// Serves the API, health and reflection, and by `service` the service API of NATS, until the phase is [`Phase::Ended`]. Then it
/// closes the listener and returns when the calls under way are answered, after
/// [`LAST_ANSWERS`] at the latest. Dropping the future cuts all connections off.
///
/// # Errors
///
/// Where the descriptions of our services, or the listener's address, cannot be read.
pub async fn serve(
    operations: Operations,
    config: Config,
    listener: TcpListener,
    tls: Option<Acceptor>,
    service: Option<bus::Service>,
    (metrics, readiness): (Arc<Metrics>, Readiness),
    phase: watch::Receiver<Phase>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let guard = Guard::new(config.tokens);
    let in_flight = InFlight::new(config.max_in_flight_bytes, metrics.clone());
    let json = Json::new(json::Parts {
        operations: operations.clone(),
        guard: guard.clone(),
        loopback: listener.local_addr()?.ip().to_canonical().is_loopback(),
        max_message: config.max_message,
        in_flight: in_flight.clone(),
        metrics: metrics.clone(),
    });
    let by_nats = {
        let (operations, metrics, phase) = (operations.clone(), metrics.clone(), phase.clone());
        async {
            if let Some(service) = service {
                nats::serve(operations, service, metrics, phase).await;
            }
        }
    };
    let (routes, reporting) = grpc::routes(operations, metrics.clone(), readiness)?;
    let entrance = Entrance {
        routes,
        json,
        guard,
        max_message: config.max_message,
        in_flight,
        metrics: metrics.clone(),
    };
    let connections = Connections {
        entrance: Arc::new(entrance),
        tls,
        age: config.max_connection_age,
        http: connection::http(),
    };
    let peers = Peers::new(config.max_connections, metrics);
    // In this task, so that the listener does not outlive what says its health.
    let listening = listener::serve(listener, Arc::new(connections), peers, phase);
    let serving = async {
        tokio::join!(listening, by_nats);
    };
    tokio::select! {
        () = serving => Ok(()),
        never = reporting => match never {},
    }
}
