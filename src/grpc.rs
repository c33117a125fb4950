//! The push API: from a call to a publish on NATS.
//!
//! A push always goes through the bus, never straight to a session of this
//! gateway, so it makes no difference which gateway a service calls.

mod guard;
mod incoming;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use self::{guard::Guard, incoming::incoming};
use tokio::net::TcpListener;
use tonic::{Code, Request, Response, Status, transport::Server};

use tower::layer::layer_fn;

use crate::{
    bus::{PublishError, Published, Publisher, Push, Receipt},
    jitter,
    message::EventName,
    metrics::Metrics,
    origin::Origin,
    proto::{
        self, IssueTicketRequest, IssueTicketResponse, PushRequest, PushResponse, PushStatus,
        notification_server::{Notification, NotificationServer},
    },
    readiness::Readiness,
    secret::Secrets,
    tickets::{Order, Tickets},
    tls::Acceptor,
    user::UserId,
};

/// NATS's `max_payload` is at most 64 MiB; what is too large for the server at
/// hand is refused by its field and limit.
const MAX_REQUEST: usize = 64 * 1024 * 1024 + 64 * 1024;
/// Calls at once on one connection.
const MAX_CALLS: u32 = 1024;
/// A caller that is gone without a word is noticed after twice this.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// As the health service knows the API.
const SERVICE: &str = "usher.v1.Notification";
/// `IssueTicketRequest.ttl`.
const TICKET_TTL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// `PushRequest.message_id`.
const MAX_MESSAGE_ID: usize = 128;

/// Who may call, and for how long on one connection.
#[derive(Debug, Clone)]
pub struct Config {
    /// One of these must come as `authorization: Bearer`; empty: anyone may call.
    pub tokens: Secrets,
    /// Connections end gracefully after this; none for never.
    pub max_connection_age: Option<Duration>,
    /// Of tickets whose request names no TTL.
    pub ticket_ttl: Duration,
}

/// What the calls need.
#[derive(Debug, Clone)]
pub struct Api {
    config: Arc<Config>,
    publisher: Publisher,
    tickets: Tickets,
    metrics: Arc<Metrics>,
}

impl Api {
    /// An API that publishes and issues through these.
    pub fn new(
        config: Config,
        publisher: Publisher,
        tickets: Tickets,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            config: Arc::new(config),
            publisher,
            tickets,
            metrics,
        }
    }

    /// Serves the API, health and reflection until `goodbye`; then tells the
    /// callers to go elsewhere (GOAWAY) and returns when their calls are done.
    /// Who connects after that is served for as long as the process lives.
    ///
    /// # Errors
    ///
    /// Where the listener fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        tls: Option<Acceptor>,
        readiness: Readiness,
        goodbye: impl Future<Output = ()>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let (reporter, health) = tonic_health::server::health_reporter();
        let reporting = async move {
            let read = |readiness: &Readiness| (readiness.is_ready(), readiness.can_push());
            loop {
                let now = read(&readiness);
                let (ready, can_push) = now;
                for (service, serves) in [("", ready), (SERVICE, ready && can_push)] {
                    let status = match serves {
                        true => tonic_health::ServingStatus::Serving,
                        false => tonic_health::ServingStatus::NotServing,
                    };
                    reporter.set_service_status(service, status).await;
                }
                readiness.changed_from(&now, read).await;
            }
        };
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let tokens = self.config.tokens.clone();
        let metrics = self.metrics.clone();
        let guard = layer_fn(move |inner| Guard::new(inner, tokens.clone(), metrics.clone()));
        let mut server = Server::builder()
            .max_concurrent_streams(MAX_CALLS)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE));
        if let Some(age) = self.config.max_connection_age {
            // Spread, so that callers of one start do not return in step.
            let age = jitter::fraction_of(age, 0.9, 1.1);
            // No grace after it: with one, tonic cuts the connection off instead of
            // saying goodbye.
            server = server.max_connection_age(age);
        }
        let router = server
            .layer(guard)
            .add_service(health)
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?)
            .add_service(NotificationServer::new(self).max_decoding_message_size(MAX_REQUEST));
        // tonic stops listening when it says goodbye; a second one on the same
        // socket goes on.
        let listener = listener.into_std()?;
        let after = TcpListener::from_std(listener.try_clone()?)?;
        let after = incoming(after, tls.clone());
        let going_on = router.clone().serve_with_incoming(after);
        let listener = TcpListener::from_std(listener)?;
        let goodbye = async {
            goodbye.await;
            tokio::spawn(async { drop(going_on.await) });
        };
        let serving = router.serve_with_incoming_shutdown(incoming(listener, tls), goodbye);
        // In this task, so that the listener does not outlive what says its health.
        tokio::select! {
            served = serving => Ok(served?),
            never = reporting => never,
        }
    }

    /// Answers a call, and counts it by its outcome.
    async fn call<T, R>(
        &self,
        method: &str,
        request: Request<T>,
        answer: impl AsyncFnOnce(T) -> Result<R, Status>,
    ) -> Result<Response<R>, Status> {
        let mut counted = Counted {
            metrics: &self.metrics,
            method,
            code: Code::Cancelled,
        };
        let outcome = answer(request.into_inner()).await;
        counted.code = outcome.as_ref().err().map_or(Code::Ok, Status::code);
        outcome.map(Response::new)
    }

    async fn push(&self, request: PushRequest) -> Result<PushResponse, Status> {
        let push = Push {
            user: user_id(&request.user_id)?,
            event: match &request.event[..] {
                "" => None,
                name => Some(EventName::parse(name).map_err(|error| invalid("event", error))?),
            },
            message_id: scoped_message_id(&request)?,
            payload: request.message.into(),
        };
        let published = self.publisher.publish(push, request.receipt).await;
        let Published { seq, receipt } = published.map_err(refused)?;
        let (status, sessions) = match receipt {
            None => (PushStatus::Dispatched, 0),
            Some(Receipt::Queued(sessions)) => (PushStatus::Queued, sessions),
            Some(Receipt::Offline) => (PushStatus::Offline, 0),
        };
        Ok(PushResponse {
            status: status.into(),
            sessions,
            seq: seq.unwrap_or(0),
        })
    }

    async fn issue(&self, request: IssueTicketRequest) -> Result<IssueTicketResponse, Status> {
        let ttl = match request.ttl {
            None => self.config.ticket_ttl,
            Some(ttl) => Duration::try_from(ttl)
                .ok()
                .filter(|ttl| (TICKET_TTL.0..=TICKET_TTL.1).contains(ttl))
                .ok_or_else(|| invalid("ttl", "is not between 1 s and 300 s"))?,
        };
        let expires_at = match request.expires_at {
            None => None,
            Some(at) => {
                // In whole seconds, as the ticket has it.
                let at = SystemTime::try_from(at)
                    .ok()
                    .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
                    .filter(|at| UNIX_EPOCH + Duration::from_secs(at.as_secs()) > SystemTime::now())
                    .ok_or_else(|| invalid("expires_at", "is not in the future"))?;
                Some(at.as_secs())
            }
        };
        let origin = match &request.origin[..] {
            "" => None,
            origin => Some(Origin::parse(origin).map_err(|error| invalid("origin", error))?),
        };
        let order = Order {
            user: user_id(&request.user_id)?,
            expires_at,
            origin,
        };
        let ticket =
            self.tickets.issue(&order, ttl).await.map_err(|_| {
                Status::unavailable("Redis is away; no ticket was issued, try again")
            })?;
        Ok(IssueTicketResponse {
            ticket: ticket.expose().to_owned(),
            expires_in: prost_types::Duration::try_from(ttl).ok(),
        })
    }
}

/// Counts a call when it is over, also one whose caller has gone meanwhile.
struct Counted<'a> {
    metrics: &'a Metrics,
    method: &'a str,
    code: Code,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let labels = [self.method, name(self.code)];
        self.metrics.grpc_requests.with_label_values(&labels).inc();
    }
}

#[tonic::async_trait]
impl Notification for Api {
    async fn push_notification(
        &self,
        request: Request<PushRequest>,
    ) -> Result<Response<PushResponse>, Status> {
        self.call("PushNotification", request, async |request| {
            self.push(request).await
        })
        .await
    }

    async fn issue_ticket(
        &self,
        request: Request<IssueTicketRequest>,
    ) -> Result<Response<IssueTicketResponse>, Status> {
        self.call("IssueTicket", request, async |request| {
            self.issue(request).await
        })
        .await
    }
}

/// A code as gRPC's documents write it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[allow(clippy::result_large_err, reason = "tonic's own type")]
fn user_id(text: &str) -> Result<UserId, Status> {
    UserId::parse(text).map_err(|error| invalid("user_id", error))
}

/// NATS drops a duplicate id whoever it was for, so the user is part of it.
#[allow(clippy::result_large_err, reason = "tonic's own type")]
fn scoped_message_id(request: &PushRequest) -> Result<Option<String>, Status> {
    let id = &request.message_id;
    if id.is_empty() {
        return Ok(None);
    }
    if id.len() > MAX_MESSAGE_ID || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(invalid(
            "message_id",
            "is not 1–128 printable ASCII characters without spaces",
        ));
    }
    let user = user_id(&request.user_id)?;
    Ok(Some(format!("{}:{id}", user.subject_token())))
}

fn invalid(field: &str, limit: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("{field} {limit}"))
}

fn refused(error: PublishError) -> Status {
    match error {
        PublishError::Unavailable | PublishError::NotStored(_) => {
            Status::unavailable(error.to_string())
        }
        PublishError::Unconfirmed => Status::deadline_exceeded(error.to_string()),
        PublishError::Forbidden => Status::permission_denied(error.to_string()),
        PublishError::TooLarge { .. } => invalid("message:", error),
    }
}
