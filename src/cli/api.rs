//! The push API from its other end. `tonic`'s client lives here alone.

use std::{error::Error, io, time::Duration};

use futures_util::Stream;
use h2::Reason;
use hyper_util::rt::TokioIo;
use tokio::time::{sleep, timeout};
use tonic::{
    Code, ConnectError, Request, Response, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;
use tower::service_fn;

use super::{
    connect::{Dialer, GrpcAddress, Token},
    failure::{Failure, Trouble},
    output::{harmless, in_words},
};
use crate::{
    position::Since,
    proto::{
        BroadcastRequest, BroadcastResponse, DisconnectRequest, DisconnectResponse,
        GetPresenceRequest, GetPresenceResponse, IssueTicketRequest, PublishTopicRequest,
        PublishTopicResponse, PushRequest, PushResponse, PushStreamRequest, PushStreamResponse,
        notification_client::NotificationClient,
    },
    tickets::Ticket,
    tls::{self, CertificateFault},
    user::UserId,
};

/// A gateway that isn't there says so sooner, as a rule.
const CONNECT: Duration = Duration::from_secs(5);
/// A gateway answers within its own 2 s and a little more.
const ANSWER: Duration = Duration::from_secs(10);

/// For calls that fell between two connections: the old one goes only when the
/// last answer that it still owes is there.
const PAUSES_MS: [u64; 6] = [1, 5, 20, 100, 500, 2000];

/// A connection to a gateway, made by the first call. Clones share it.
#[derive(Clone)]
pub(super) struct Api {
    client: NotificationClient<Channel>,
    address: String,
    /// What to send as `authorization`, and where that was found.
    bearer: Option<(MetadataValue<Ascii>, &'static str)>,
}

/// A ticket, and how long it waits to be used.
pub(super) struct Issued {
    pub(super) ticket: Ticket,
    pub(super) expires_in: Option<Duration>,
    /// Where the stream ended, in durable mode.
    pub(super) position: Option<String>,
}

/// Why a call came to nothing.
pub(super) struct CallError {
    pub(super) trouble: Trouble,
    pub(super) kind: Kind,
    /// It may have been done all the same.
    pub(super) unknown: bool,
}

/// What a caller may do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nobody there, or nobody who speaks gRPC.
    Unreachable,
    /// A gateway that can't do it now, and may do it later.
    Later,
    /// A gateway that refuses this call: trying again is of no use.
    Never,
}

impl Api {
    pub(super) fn new(
        address: &GrpcAddress,
        encrypted: bool,
        dialer: Dialer,
        token: Option<Token>,
    ) -> Result<Self, Failure> {
        let scheme = if encrypted { "https" } else { "http" };
        let address = address.to_string();
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
            .map_err(|error| Failure::config(format_args!("{address} is no address: {error}")))?
            .connect_timeout(CONNECT);
        let to = address.clone();
        let connector = service_fn(move |_| {
            let (dialer, to) = (dialer.clone(), to.clone());
            async move { dialer.dial(&to).await.map(TokioIo::new) }
        });
        let bearer = match token {
            None => None,
            Some(Token { secret, from }) => {
                let value = MetadataValue::try_from(format!("Bearer {}", secret.expose()));
                // Says nothing of the value, which is a secret.
                let mut value = value.map_err(|_| {
                    Failure::config(format_args!("no header can carry the token of {from}"))
                })?;
                value.set_sensitive(true);
                Some((value, from))
            }
        };
        Ok(Self {
            client: NotificationClient::new(endpoint.connect_with_connector_lazy(connector)),
            address,
            bearer,
        })
    }

    /// Pushes one message.
    pub(super) async fn push(&self, push: PushRequest) -> Result<PushResponse, CallError> {
        let push = &push;
        self.call(async |mut client| {
            let request = self.request(push.clone());
            client.push_notification(request).await
        })
        .await
    }

    /// Opens a stream of pushes, each answered in its order.
    pub(super) async fn push_stream(
        &self,
        pushes: impl Stream<Item = PushStreamRequest> + Send + 'static,
    ) -> Result<Streaming<PushStreamResponse>, CallError> {
        let mut client = self.client.clone();
        let opening = client.push_stream(self.request(pushes));
        match timeout(ANSWER, opening).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.explain(&status)),
            Err(_) => Err(self.unanswered()),
        }
    }

    /// Publishes one message to every session.
    pub(super) async fn broadcast(
        &self,
        message: BroadcastRequest,
    ) -> Result<BroadcastResponse, CallError> {
        let message = &message;
        self.call(async |mut client| client.broadcast(self.request(message.clone())).await)
            .await
    }

    /// Publishes one message to those who follow a topic.
    pub(super) async fn publish_topic(
        &self,
        message: PublishTopicRequest,
    ) -> Result<PublishTopicResponse, CallError> {
        let message = &message;
        self.call(async |mut client| client.publish_topic(self.request(message.clone())).await)
            .await
    }

    /// Has a ticket issued; without a `ttl` it is the gateway's `tickets.ttl`.
    pub(super) async fn issue(
        &self,
        user: &UserId,
        ttl: Option<Duration>,
    ) -> Result<Issued, CallError> {
        self.issue_for(user, ttl, Vec::new()).await
    }

    /// Has a ticket issued for a session that follows these topics from the beginning.
    pub(super) async fn issue_for(
        &self,
        user: &UserId,
        ttl: Option<Duration>,
        topics: Vec<String>,
    ) -> Result<Issued, CallError> {
        let order = &IssueTicketRequest {
            user_id: user.as_str().to_owned(),
            ttl: ttl.and_then(|ttl| ttl.try_into().ok()),
            topics,
            ..IssueTicketRequest::default()
        };
        let answer = self
            .call(async |mut client| client.issue_ticket(self.request(order.clone())).await)
            .await?;
        let ticket = Ticket::parse(&answer.ticket).map_err(|_| CallError {
            trouble: Trouble::new(
                format!("what {} answered is no ticket", self.address),
                "is it a gateway?",
            ),
            kind: Kind::Never,
            unknown: false,
        })?;
        Ok(Issued {
            ticket,
            expires_in: answer.expires_in.and_then(|ttl| ttl.try_into().ok()),
            position: Some(answer.position).filter(|position| Since::parse(position).is_ok()),
        })
    }

    /// Asks which users are online.
    pub(super) async fn presence(
        &self,
        users: GetPresenceRequest,
    ) -> Result<GetPresenceResponse, CallError> {
        let users = &users;
        self.call(async |mut client| client.get_presence(self.request(users.clone())).await)
            .await
    }

    /// Ends a user's sessions.
    pub(super) async fn disconnect(
        &self,
        order: DisconnectRequest,
    ) -> Result<DisconnectResponse, CallError> {
        let order = &order;
        self.call(async |mut client| client.disconnect(self.request(order.clone())).await)
            .await
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some((bearer, _)) = &self.bearer {
            request
                .metadata_mut()
                .insert("authorization", bearer.clone());
        }
        request
    }

    async fn call<T>(
        &self,
        attempt: impl AsyncFn(NotificationClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Result<T, CallError> {
        let calling = async {
            for pause in PAUSES_MS {
                match attempt(self.client.clone()).await {
                    Err(status) if was_never_taken(&status) => {
                        sleep(Duration::from_millis(pause)).await;
                    }
                    outcome => return outcome,
                }
            }
            attempt(self.client.clone()).await
        };
        match timeout(ANSWER, calling).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.explain(&status)),
            Err(_) => Err(self.unanswered()),
        }
    }

    fn unanswered(&self) -> CallError {
        let what = format!("the gateway at {} has not answered", self.address);
        let seconds = ANSWER.as_secs();
        let mend = format!("after {seconds} s nobody knows whether it was done");
        CallError {
            trouble: Trouble::new(what, mend),
            kind: Kind::Unreachable,
            unknown: true,
        }
    }

    /// An error in words.
    pub(super) fn explain(&self, status: &Status) -> CallError {
        let address = &self.address;
        if let Some(source) = status.source() {
            let cause = root(source);
            let mut unknown = false;
            let trouble = if let Some(fault) = causes(source).find_map(tls::certificate_fault) {
                let what = format!("the certificate of {address} is not accepted ({cause})");
                Trouble::new(
                    what,
                    match fault {
                        CertificateFault::IsAnAuthority => {
                            "it is an authority's own certificate; make one with \
                             basicConstraints=CA:FALSE"
                        }
                        CertificateFault::Other => {
                            "is that the right address? If an authority of yours signed it, give \
                             --ca-file FILE"
                        }
                    },
                )
            } else if is_unconnected(source) {
                Trouble::new(
                    format!("no gateway is reached at {address} ({cause})"),
                    "is it running? If it is elsewhere, say where by --grpc HOST:PORT, or \
                     grpc.listen in the configuration",
                )
            } else {
                unknown = true;
                Trouble::new(
                    format!("the connection to {address} broke ({cause})"),
                    "nobody knows whether it was done; is that the gateway's gRPC listener \
                     (grpc.listen), and is it running? If it speaks TLS, give --grpc \
                     https://HOST:PORT",
                )
            };
            return CallError {
                trouble,
                kind: Kind::Unreachable,
                unknown,
            };
        }
        let says = format!(
            "the gateway at {address} says: {}",
            harmless(status.message())
        );
        let (kind, what, mend) = match (status.code(), &self.bearer) {
            (Code::Unauthenticated, None) => (
                Kind::Never,
                format!("the gateway at {address} wants a token"),
                "give --token-file FILE, or set grpc.tokens in the configuration",
            ),
            (Code::Unauthenticated, Some((_, from))) => (
                Kind::Never,
                format!("the gateway at {address} does not know the token of {from}"),
                "it must be one of the gateway's own grpc.tokens",
            ),
            (Code::Unimplemented, _) => (
                Kind::Never,
                says,
                "is it this version of Usher, and its grpc.listen?",
            ),
            (Code::Unavailable | Code::ResourceExhausted, _) => {
                (Kind::Later, says, "`usher check` tells what it reaches")
            }
            (Code::DeadlineExceeded | Code::Cancelled | Code::Aborted, _) => {
                (Kind::Later, says, "")
            }
            _ => (Kind::Never, says, ""),
        };
        CallError {
            trouble: Trouble::new(what, mend),
            kind,
            unknown: leaves_unknown(status.code(), is_unpublished(status)),
        }
    }
}

/// Whether the gateway says that nothing was published.
pub(super) fn is_unpublished(status: &Status) -> bool {
    let info = status.get_error_details().error_info().cloned();
    info.is_some_and(|info| info.reason == "NOT_PUBLISHED" && info.domain == "usher")
}

/// Whether what was asked for may have been done all the same.
pub(super) fn leaves_unknown(code: Code, unpublished: bool) -> bool {
    let refused = [
        Code::InvalidArgument,
        Code::PermissionDenied,
        Code::Unauthenticated,
        Code::Unimplemented,
        Code::ResourceExhausted,
    ];
    !unpublished && !refused.contains(&code)
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::new(error.trouble)
    }
}

/// Whether a call is certain to have done nothing, because the connection was
/// ended in good order before it: after `grpc.max_connection_age`, or in a drain.
/// The next attempt makes a new connection, maybe to another gateway.
fn was_never_taken(status: &Status) -> bool {
    let ended = |cause: &(dyn Error + 'static)| {
        // It never left this process.
        let unsent = cause.downcast_ref::<hyper::Error>();
        // A GOAWAY says which was the last stream that it looks at; this one
        // came after. What it did look at fails otherwise, if it fails.
        let beyond = cause.downcast_ref::<h2::Error>().filter(|error| {
            error.is_go_away() && error.is_remote() && error.reason() == Some(Reason::NO_ERROR)
        });
        unsent.is_some_and(hyper::Error::is_canceled) || beyond.is_some()
    };
    status
        .source()
        .is_some_and(|source| causes(source).any(ended))
}

/// Whether an error stands for a connection that was never made.
fn is_unconnected(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| cause.is::<ConnectError>())
}

/// What is behind all else: what the operating system said, mostly.
fn root(error: &(dyn Error + 'static)) -> String {
    let system = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>());
    match system {
        Some(system) => in_words(system),
        None => causes(error).last().map_or_else(String::new, in_words),
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}
