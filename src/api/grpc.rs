//! The door for gRPC: `usher.v1.Notification`, health and reflection.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tonic::{Code, Request, Response, Status, service::Routes};

use super::{Failure, Issued, Operations, PushOrder, TicketOrder};
use crate::{
    bus::{Published, Receipt},
    metrics::Metrics,
    proto::{
        self, IssueTicketRequest, IssueTicketResponse, PushRequest, PushResponse, PushStatus,
        notification_server::{Notification, NotificationServer},
    },
    readiness::Readiness,
};

/// As the health service knows the API.
const SERVICE: &str = "usher.v1.Notification";

/// Routes to the services, and what keeps the health up to date for as long as it is polled.
pub(super) fn routes(
    operations: Operations,
    metrics: Arc<Metrics>,
    readiness: Readiness,
) -> Result<(Routes, impl Future<Output = Infallible>), tonic_reflection::server::Error> {
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
    let calls = Calls {
        operations,
        metrics,
    };
    // A larger message does not get so far.
    let notification = NotificationServer::new(calls).max_decoding_message_size(usize::MAX);
    let routes = Routes::new(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(notification)
        .prepare();
    Ok((routes, reporting))
}

/// Calls by gRPC.
struct Calls {
    operations: Operations,
    metrics: Arc<Metrics>,
}

impl Calls {
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
        let order = PushOrder {
            user_id: request.user_id,
            event: request.event,
            message_id: request.message_id,
            payload: request.message.into(),
            receipt: request.receipt,
        };
        let Published { seq, receipt } = self.operations.push(order).await?;
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
        // What is negative breaks the rule as zero does.
        let ttl = |ttl| Duration::try_from(ttl).unwrap_or(Duration::ZERO);
        let at = |at| SystemTime::try_from(at).unwrap_or(SystemTime::UNIX_EPOCH);
        let order = TicketOrder {
            user_id: request.user_id,
            ttl: request.ttl.map(ttl),
            expires_at: request.expires_at.map(at),
            origin: request.origin,
        };
        let Issued { ticket, expires_in } = self.operations.issue(order).await?;
        Ok(IssueTicketResponse {
            ticket: ticket.expose().to_owned(),
            expires_in: prost_types::Duration::try_from(expires_in).ok(),
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
impl Notification for Calls {
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

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let code = match &failure {
            Failure::Invalid { .. } => Code::InvalidArgument,
            Failure::Forbidden(_) => Code::PermissionDenied,
            Failure::Unavailable(_) => Code::Unavailable,
            Failure::Unconfirmed(_) => Code::DeadlineExceeded,
        };
        Self::new(code, failure.to_string())
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
