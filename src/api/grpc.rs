//! The API over gRPC: `usher.v1.Notification`, health and reflection.

mod codes;
mod pushes;

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::sync::Semaphore;
use tonic::{Code, Request, Response, Status, Streaming, service::Routes};

use self::{
    codes::{name, publishing},
    pushes::{Answers, Pushes},
};
use super::{
    BroadcastOrder, DisconnectOrder, Issued, Operations, PushOrder, TicketOrder, TopicsOrder,
    entrance::Streamed, not_published::not_published,
};
use crate::{
    bus::{Published, Receipt},
    grants::Lists,
    metrics::Metrics,
    proto::{
        self, BroadcastRequest, BroadcastResponse, DisconnectRequest, DisconnectResponse,
        GetPresenceRequest, GetPresenceResponse, IssueTicketRequest, IssueTicketResponse, Presence,
        PublishTopicRequest, PublishTopicResponse, PushRequest, PushResponse, PushStatus,
        PushStreamRequest, UpdateTopicsRequest, UpdateTopicsResponse,
        notification_server::{Notification, NotificationServer},
    },
    readiness::Readiness,
    trace::Caller,
};

/// Streams of pushes that are open at the same time, of all callers together. One that is not
/// read may keep some 8,000 frames waiting.
const MAX_STREAMS: usize = 256;

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
        streams: Arc::new(Semaphore::new(MAX_STREAMS)),
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
    /// Streams of pushes.
    streams: Arc<Semaphore>,
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

    async fn push(&self, request: PushRequest, caller: Caller) -> Result<PushResponse, Status> {
        let published = self.operations.push(push_order(request, caller)).await;
        published.map(push_response).map_err(publishing)
    }

    /// Answers a stream of pushes. Each push is counted, and not the stream.
    fn push_stream(
        &self,
        request: Request<Streaming<PushStreamRequest>>,
    ) -> Result<Answers, Status> {
        let Some(Streamed { held, ending }) = request.extensions().get().cloned() else {
            return Err(Status::internal("the stream has come past the entrance"));
        };
        let Ok(permit) = self.streams.clone().try_acquire_owned() else {
            let labels = [pushes::METHOD, name(Code::ResourceExhausted)];
            self.metrics.grpc_requests.with_label_values(&labels).inc();
            self.metrics.grpc_refused("too_many_streams");
            let says = format!("{MAX_STREAMS} streams are open; nothing was done, try again later");
            return Err(not_published(&Status::resource_exhausted(says)));
        };
        let pushes = Pushes {
            operations: self.operations.clone(),
            metrics: self.metrics.clone(),
            caller: Caller::of(request.metadata().as_ref()),
            pushes: request.into_inner(),
            held,
            ending,
            _permit: permit,
        };
        Ok(pushes.answers())
    }

    async fn broadcast(
        &self,
        request: BroadcastRequest,
        caller: Caller,
    ) -> Result<BroadcastResponse, Status> {
        let order = BroadcastOrder {
            event: request.event,
            message_id: request.message_id,
            payload: request.message.into(),
            caller,
        };
        let published = self.operations.broadcast(order).await;
        let seq = published.map_err(publishing)?.seq.unwrap_or(0);
        Ok(BroadcastResponse { seq })
    }

    async fn publish_topic(
        &self,
        request: PublishTopicRequest,
        caller: Caller,
    ) -> Result<PublishTopicResponse, Status> {
        let order = BroadcastOrder {
            event: request.event,
            message_id: request.message_id,
            payload: request.message.into(),
            caller,
        };
        let published = self.operations.publish_topic(&request.topic, order).await;
        let seq = published.map_err(publishing)?.seq.unwrap_or(0);
        Ok(PublishTopicResponse { seq })
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
            grants: Lists {
                topics: request.topics,
                may_follow: request.may_follow,
                may_follow_prefix: request.may_follow_prefix,
                calls: request.calls,
            },
        };
        let Issued {
            ticket,
            expires_in,
            position,
        } = self.operations.issue(order).await?;
        Ok(IssueTicketResponse {
            ticket: ticket.expose().to_owned(),
            expires_in: prost_types::Duration::try_from(expires_in).ok(),
            position: position
                .map(|position| position.to_string())
                .unwrap_or_default(),
        })
    }
}

fn push_order(request: PushRequest, caller: Caller) -> PushOrder {
    PushOrder {
        user_id: request.user_id,
        event: request.event,
        message_id: request.message_id,
        payload: request.message.into(),
        receipt: request.receipt,
        caller,
    }
}

fn push_response(Published { seq, receipt }: Published) -> PushResponse {
    let (status, sessions) = match receipt {
        None => (PushStatus::Dispatched, 0),
        Some(Receipt::Queued(sessions)) => (PushStatus::Queued, sessions),
        Some(Receipt::Offline) => (PushStatus::Offline, 0),
    };
    PushResponse {
        status: status.into(),
        sessions,
        seq: seq.unwrap_or(0),
    }
}

impl Calls {
    async fn presence(&self, request: GetPresenceRequest) -> Result<GetPresenceResponse, Status> {
        let found = self.operations.presence(&request.user_ids).await?;
        let users = found.users.into_iter().map(|(id, online)| {
            let presence = Presence {
                sessions: online.sessions,
                gateways: online.gateways,
            };
            (id, presence)
        });
        Ok(GetPresenceResponse {
            users: users.collect(),
            complete: found.complete,
        })
    }

    async fn update_topics(
        &self,
        request: UpdateTopicsRequest,
    ) -> Result<UpdateTopicsResponse, Status> {
        let order = TopicsOrder {
            user_id: request.user_id,
            follow: request.follow,
            unfollow: request.unfollow,
        };
        let updated = self.operations.update_topics(order).await?;
        Ok(UpdateTopicsResponse {
            sessions: updated.sessions,
            complete: updated.complete,
        })
    }

    async fn end_sessions(&self, request: DisconnectRequest) -> Result<DisconnectResponse, Status> {
        let order = DisconnectOrder {
            user_id: request.user_id,
            reconnect: request.reconnect,
            reason: request.reason,
        };
        let ended = self.operations.disconnect(order).await?;
        Ok(DisconnectResponse {
            sessions: ended.sessions,
            complete: ended.complete,
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
        let caller = Caller::of(request.metadata().as_ref());
        self.call("PushNotification", request, async |request| {
            self.push(request, caller).await
        })
        .await
    }

    type PushStreamStream = Answers;

    async fn push_stream(
        &self,
        request: Request<Streaming<PushStreamRequest>>,
    ) -> Result<Response<Answers>, Status> {
        Self::push_stream(self, request).map(Response::new)
    }

    async fn broadcast(
        &self,
        request: Request<BroadcastRequest>,
    ) -> Result<Response<BroadcastResponse>, Status> {
        let caller = Caller::of(request.metadata().as_ref());
        self.call("Broadcast", request, async |request| {
            self.broadcast(request, caller).await
        })
        .await
    }

    async fn publish_topic(
        &self,
        request: Request<PublishTopicRequest>,
    ) -> Result<Response<PublishTopicResponse>, Status> {
        let caller = Caller::of(request.metadata().as_ref());
        self.call("PublishTopic", request, async |request| {
            self.publish_topic(request, caller).await
        })
        .await
    }

    async fn update_topics(
        &self,
        request: Request<UpdateTopicsRequest>,
    ) -> Result<Response<UpdateTopicsResponse>, Status> {
        self.call("UpdateTopics", request, async |request| {
            self.update_topics(request).await
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

    async fn get_presence(
        &self,
        request: Request<GetPresenceRequest>,
    ) -> Result<Response<GetPresenceResponse>, Status> {
        self.call("GetPresence", request, async |request| {
            self.presence(request).await
        })
        .await
    }

    async fn disconnect(
        &self,
        request: Request<DisconnectRequest>,
    ) -> Result<Response<DisconnectResponse>, Status> {
        self.call("Disconnect", request, async |request| {
            self.end_sessions(request).await
        })
        .await
    }
}
