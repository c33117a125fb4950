//! Calls of clients: requests to `usher.call.NAME`, which services answer.
//!
//! Strangers write the answers, so calls have a connection of our own, which no odd header can
//! cut off, and which carries nothing else.

mod error;
mod headers;
mod progress;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use ulid::Ulid;

pub use self::error::CallError;
use self::{headers::Asked, progress::Progress};
use super::{Subjects, caller::Caller, client::Outgoing};
use crate::{
    grants::CallName,
    metrics::Metrics,
    telemetry::{Operation, Tracer},
    user::UserId,
};

/// The name of the call that the gateway answers by itself, where it has a demo.
const ECHO: &str = "demo.echo";

/// The bounds of calls.
#[derive(Debug, Clone)]
pub struct Config {
    /// How long a call may take.
    pub timeout: Duration,
    /// Calls under way of one session.
    pub max_in_flight: usize,
    /// Calls under way of this gateway.
    pub max_total: usize,
    /// Whether this gateway answers `demo.echo` by itself, with the data of the call.
    pub echoes: bool,
}

/// Makes calls. Clones share the connection and the bounds.
#[derive(Debug, Clone)]
pub struct Calls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: Config,
    /// `None` without NATS.
    caller: Option<Caller>,
    subjects: Subjects,
    gateway: String,
    permits: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    tracer: Tracer,
}

/// The calls of one session, which share its bound. Make it with the session's first call.
#[derive(Debug, Clone)]
pub struct SessionCalls {
    calls: Calls,
    user: UserId,
    session: Ulid,
    permits: Arc<Semaphore>,
}

/// What a call under way holds.
type Permits = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Calls {
    pub(super) fn new(
        config: Config,
        caller: Option<Caller>,
        subjects: Subjects,
        gateway: &str,
        (metrics, tracer): (Arc<Metrics>, Tracer),
    ) -> Self {
        Self(Arc::new(Shared {
            permits: Arc::new(Semaphore::new(config.max_total)),
            config,
            caller,
            subjects,
            gateway: gateway.to_owned(),
            metrics,
            tracer,
        }))
    }

    /// Calls without NATS: nobody answers any but `demo.echo`.
    pub fn embedded(config: Config, metrics: Arc<Metrics>, tracer: Tracer) -> Self {
        Self::new(config, None, Subjects::new(""), "", (metrics, tracer))
    }

    /// The calls of one session.
    pub fn of(&self, user: UserId, session: Ulid) -> SessionCalls {
        SessionCalls {
            permits: Arc::new(Semaphore::new(self.0.config.max_in_flight)),
            calls: self.clone(),
            user,
            session,
        }
    }

    /// Counts a call that the session's ticket or token does not grant, or whose name breaks
    /// the rule.
    pub fn forbidden(&self) {
        self.0.metrics.calls.count("forbidden");
    }
}

impl Shared {
    /// Whether this gateway answers the call by itself.
    fn echoes(&self, name: &CallName) -> bool {
        self.config.echoes && name.as_str() == ECHO
    }
}

impl SessionCalls {
    /// Makes a call, which the caller has checked to be granted, and returns the answer's
    /// payload. The call begins, and counts in its bounds, when this function is called; the
    /// request leaves when the future is polled. Dropping the future forgets the call; a
    /// service may do it all the same.
    ///
    /// # Errors
    ///
    /// [`CallError`]
    pub fn call(
        &self,
        name: &CallName,
        data: Bytes,
    ) -> impl Future<Output = Result<Bytes, CallError>> + Send + use<> {
        let permits = self.permits();
        let (session, name) = (self.clone(), name.clone());
        let mut progress = Progress::begin(&session.calls.0.metrics);
        async move {
            let outcome = match permits {
                Ok(_permits) => session.ask(&name, data).await,
                Err(error) => Err(error),
            };
            progress.end(match &outcome {
                Ok(_) => "ok",
                Err(error) => error.result(),
            });
            outcome
        }
    }

    /// Makes a call that nobody waits for: it is published without a reply subject. What
    /// becomes of it shows in the metrics alone.
    pub fn tell(&self, name: &CallName, data: Bytes) -> impl Future<Output = ()> + Send + use<> {
        let permits = self.permits();
        let (session, name) = (self.clone(), name.clone());
        let mut progress = Progress::begin(&session.calls.0.metrics);
        async move {
            let outcome = match permits {
                Ok(_permits) => session.publish(&name, data).await,
                Err(error) => Err(error),
            };
            progress.end(match &outcome {
                Ok(()) => "published",
                Err(error) => error.result(),
            });
        }
    }

    fn permits(&self) -> Result<Permits, CallError> {
        let of_session = self.permits.clone().try_acquire_owned();
        let of_session = of_session.map_err(|_| CallError::TooManyOfSession)?;
        let of_gateway = self.calls.0.permits.clone().try_acquire_owned();
        let of_gateway = of_gateway.map_err(|_| CallError::TooManyOfGateway)?;
        Ok((of_session, of_gateway))
    }

    async fn ask(&self, name: &CallName, data: Bytes) -> Result<Bytes, CallError> {
        let shared = &self.calls.0;
        if shared.echoes(name) {
            return Ok(data);
        }
        let Some(caller) = &shared.caller else {
            return Err(CallError::NoResponders);
        };
        let trace = shared.tracer.follow(None);
        let mut span = shared.tracer.span(Operation::Call, trace);
        if let Some(span) = &mut span {
            span.set("usher.call", name.as_str().to_owned());
            span.set("usher.result", "client_gone");
        }
        let deadline = Instant::now() + shared.config.timeout;
        let parent = span.as_ref().and_then(|span| span.parent());
        let request = self.request(name, data, parent.map(|parent| parent.to_string()));
        let answer = caller.request(request, deadline).await;
        let answer = answer.map_err(CallError::from).and_then(error::read);
        if let Some(span) = &mut span {
            match &answer {
                Ok(_) => span.set("usher.result", "ok"),
                Err(error) => {
                    span.set("usher.result", error.result());
                    span.fail("the call has no answer, or an error");
                }
            }
        }
        answer
    }

    async fn publish(&self, name: &CallName, data: Bytes) -> Result<(), CallError> {
        let shared = &self.calls.0;
        let caller = shared.caller.as_ref();
        let Some(caller) = caller.filter(|_| !shared.echoes(name)) else {
            return Ok(());
        };
        let deadline = Instant::now() + shared.config.timeout;
        let request = self.request(name, data, None);
        Ok(caller.publish(request, deadline).await?)
    }

    fn request(&self, name: &CallName, data: Bytes, trace: Option<String>) -> Outgoing {
        let shared = &self.calls.0;
        let asked = Asked {
            user: &self.user,
            session: self.session,
            gateway: &shared.gateway,
            deadline: SystemTime::now() + shared.config.timeout,
            trace,
        };
        Outgoing {
            subject: shared.subjects.call(name),
            headers: asked.headers(),
            payload: data,
        }
    }
}
