//! The push API: from a call to a publish on NATS.
//!
//! A push always goes through the bus, never straight to a session of this
//! gateway, so it makes no difference which gateway a service calls.

mod bodies;
mod connection;
mod ending;
mod entrance;
mod frames;
mod guard;
mod listener;
mod peers;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{net::TcpListener, sync::watch};
use tonic::{Code, Request, Response, Status, service::Routes};

use self::{
    bodies::InFlight, connection::Connections, entrance::Entrance, guard::Guard, peers::Peers,
};
use crate::{
    bus::{PublishError, Published, Publisher, Push, Receipt},
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
    trace::Caller,
    user::UserId,
};

pub use self::listener::LAST_ANSWERS;

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
    /// Bytes of one message.
    pub max_message: usize,
    /// Connections at once.
    pub max_connections: usize,
    /// Bytes of requests under way, of all callers together.
    pub max_in_flight_bytes: usize,
    /// Of tickets whose request names no TTL.
    pub ticket_ttl: Duration,
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

    /// Serves the API, health and reflection until the phase is [`Phase::Ended`]. Then it
    /// closes the listener and returns when the calls under way are answered, after
    /// [`LAST_ANSWERS`] at the latest. Dropping the future cuts all connections off.
    ///
    /// # Errors
    ///
    /// Where the descriptions of our services cannot be read.
    pub async fn serve(
        self,
        listener: TcpListener,
        tls: Option<Acceptor>,
        readiness: Readiness,
        phase: watch::Receiver<Phase>,
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
        let (config, metrics) = (self.config.clone(), self.metrics.clone());
        // A larger message does not get so far.
        let notification = NotificationServer::new(self).max_decoding_message_size(usize::MAX);
        let routes = Routes::new(health)
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?)
            .add_service(notification)
            .prepare();
        let entrance = Entrance {
            routes,
            guard: Guard::new(config.tokens.clone()),
            max_message: config.max_message,
            in_flight: InFlight::new(config.max_in_flight_bytes, metrics.clone()),
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
        tokio::select! {
            () = listener::serve(listener, Arc::new(connections), peers, phase) => Ok(()),
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

    async fn push(&self, request: PushRequest, caller: Caller) -> Result<PushResponse, Status> {
        let push = Push {
            user: user_id(&request.user_id)?,
            event: match &request.event[..] {
                "" => None,
                name => Some(EventName::parse(name).map_err(|error| invalid("event", error))?),
            },
            message_id: scoped_message_id(&request)?,
            payload: request.message.into(),
            caller,
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
        let caller = Caller::of(request.metadata().as_ref());
        self.call("PushNotification", request, async |request| {
            self.push(request, caller).await
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
