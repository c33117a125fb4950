//! What the gateway has outside of itself: NATS and Redis, or what stands for them in this
//! process.

use std::sync::Arc;

use super::{Mode, RunError, reload::Logins, settings, tasks::Tasks};
use crate::{
    bus::{
        self, Calls, Commands, Elsewhere, Interest, Peers, Publisher, Service, Subscriber,
        stream::Stream,
    },
    config::Config,
    metrics::Metrics,
    readiness::Readiness,
    telemetry::Tracer,
    tickets::Tickets,
};

/// All of it.
pub(super) struct Backends<K> {
    pub(super) interest: Interest<K>,
    pub(super) publisher: Publisher,
    /// What clients ask services for.
    pub(super) calls: Calls,
    /// `None` if this gateway is the only one.
    pub(super) shared: Option<Shared>,
    /// In durable mode.
    pub(super) stream: Option<Stream>,
    pub(super) tickets: Tickets,
    /// Secrets that may be replaced.
    pub(super) logins: Option<Logins>,
}

/// What gateways share.
pub(super) struct Shared {
    /// The other gateways.
    pub(super) peers: Peers,
    /// Whether they hold a user, and what services are told of that.
    pub(super) elsewhere: Elsewhere,
    /// The service API.
    pub(super) service: Service,
}

impl<K: Subscriber + Send + 'static> Backends<K> {
    /// Connects, in the background; `tasks` keep it.
    pub(super) async fn new(
        (config, mode, gateway): (&Config, Mode, &str),
        commands: Commands<K>,
        (metrics, readiness, tracer): (&Arc<Metrics>, &Readiness, &Tracer),
        tasks: &mut Tasks,
    ) -> Result<Self, RunError> {
        let mut bus = settings::bus(config, gateway, tracer.clone());
        bus.calls.echoes = mode.demo;
        if mode.embedded {
            tracing::warn!(
                "embedded: messages and tickets stay in this process and end with it; \
                 for trying Usher out, one instance only"
            );
            let (interest, publisher) =
                bus::embedded(&bus.reply_prefix, commands, metrics.clone(), tracer.clone());
            return Ok(Self {
                calls: Calls::embedded(bus.calls, metrics.clone(), tracer.clone()),
                interest,
                publisher,
                shared: None,
                stream: None,
                tickets: Tickets::embedded(config.tickets.accept_plain),
                logins: None,
            });
        }
        // What is good at the start stays in use. `App::bind` has told what is not.
        let _ = (bus.auth.check(), bus.tls.pem());
        let auth = bus.auth.clone();
        let nats = bus::nats(bus, commands, metrics.clone(), readiness.clone());
        let nats = nats.await.map_err(RunError::Bus)?;
        for task in nats.tasks {
            tasks.spawn(task.name, task.future);
        }
        let redis = settings::tickets(config);
        let _ = redis
            .as_ref()
            .and_then(|redis| redis.tls.as_ref()?.pem().ok());
        let logins = Logins {
            nats: auth,
            redis: redis
                .as_ref()
                .map(|redis| [redis.login.clone(), redis.sentinel_login.clone()]),
        };
        let tickets = match redis {
            Some(redis) => {
                let (tickets, keeping) = Tickets::redis(redis, metrics.clone(), readiness.clone());
                tasks.spawn("the keeper of Redis", keeping);
                tickets
            }
            None => {
                tracing::info!("redis.url is empty: tokens alone open sessions");
                Tickets::none()
            }
        };
        Ok(Self {
            interest: nats.interest,
            publisher: nats.publisher,
            calls: nats.calls,
            shared: Some(Shared {
                peers: nats.peers,
                elsewhere: nats.elsewhere,
                service: nats.service,
            }),
            stream: nats.stream,
            tickets,
            logins: Some(logins),
        })
    }
}
