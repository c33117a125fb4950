//! The door: from a request to a seat, in the contract's order of checks.
//!
//! Nothing before the redeeming of the ticket consumes it; after it the ticket
//! is used up whatever follows.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{refusal::Refusal, upgrade::Upgrade};
use crate::{
    metrics::Metrics,
    origin::{AllowedOrigins, Origin},
    registry::{JoinError, Registry, Seat},
    tickets::{Grant, RedeemError, Ticket, Tickets},
};

/// Who may come in.
#[derive(Debug, Clone)]
pub struct Config {
    /// Pages that may open a session.
    pub allowed_origins: AllowedOrigins,
    /// Sessions of this gateway at most.
    pub max_sessions: usize,
}

/// Admits sessions, until it is closed.
#[derive(Debug)]
pub struct Door {
    allowed_origins: AllowedOrigins,
    places: Arc<Semaphore>,
    max_sessions: usize,
    draining: AtomicBool,
    tickets: Tickets,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
}

/// A session that may begin.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) seat: Seat,
    /// One of `max_sessions`.
    pub(super) place: OwnedSemaphorePermit,
    /// When the ticket says that the session ends.
    pub(super) expires_at: Option<SystemTime>,
}

impl Door {
    /// An open door.
    pub fn new(
        config: Config,
        tickets: Tickets,
        registry: Arc<Registry>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            allowed_origins: config.allowed_origins,
            places: Arc::new(Semaphore::new(config.max_sessions)),
            max_sessions: config.max_sessions,
            draining: AtomicBool::new(false),
            tickets,
            registry,
            metrics,
        }
    }

    /// From now on newcomers are answered 503 `draining`.
    pub fn close(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Sessions that are open, or on their way in.
    pub fn held(&self) -> usize {
        self.max_sessions - self.places.available_permits()
    }

    /// All checks after those of the request's own form.
    pub(super) async fn admit(&self, upgrade: &Upgrade) -> Result<Admitted, Refusal> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(Refusal::Draining);
        }
        let place = self
            .places
            .clone()
            .try_acquire_owned()
            .map_err(|_| Refusal::Full)?;
        if !self.registry.is_connected() {
            return Err(Refusal::Unavailable("NATS is away; try again"));
        }
        let origin = upgrade.origin();
        if !self.allowed_origins.allow(origin, upgrade.host()) {
            return Err(Refusal::OriginDenied);
        }
        let ticket = Ticket::parse(&upgrade.ticket()?).map_err(|_| Refusal::TicketMalformed)?;

        let grant = match self.tickets.redeem(&ticket).await {
            Ok(grant) => grant,
            Err(RedeemError::Unknown(reason)) => {
                tracing::debug!(reason, "a ticket opens nothing");
                return Err(Refusal::TicketUnknown);
            }
            Err(RedeemError::Unavailable) => {
                return Err(Refusal::Unavailable("Redis is away; try again"));
            }
        };
        check_binding(&grant, origin)?;
        let seat = match self.registry.join(&grant.user, upgrade.protocol.0).await {
            Ok(seat) => seat,
            Err(JoinError::Forbidden) => {
                return Err(Refusal::Unavailable("NATS forbids this user's subject"));
            }
            Err(JoinError::Unconfirmed) => {
                return Err(Refusal::Unavailable(
                    "NATS did not answer in time; try again",
                ));
            }
        };
        Ok(Admitted {
            seat,
            place,
            expires_at: grant.expires_at,
        })
    }

    /// Counts what became of a request for a session.
    pub(super) fn count<T>(&self, outcome: &Result<T, Refusal>) {
        let result = match outcome {
            Ok(_) => "admitted",
            Err(refusal) => refusal.code(),
        };
        self.metrics.admissions.with_label_values(&[result]).inc();
    }
}

fn check_binding(grant: &Grant, origin: Option<&str>) -> Result<(), Refusal> {
    let Some(bound_to) = &grant.origin else {
        return Ok(());
    };
    match origin.map(Origin::parse) {
        Some(Ok(origin)) if origin == *bound_to => Ok(()),
        _ => Err(Refusal::TicketBinding),
    }
}
