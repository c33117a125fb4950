//! A service that pushes: the client that tonic generates from our proto file.

use tonic::{
    Request,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use usher::proto::{
    DisconnectRequest, DisconnectResponse, GetPresenceRequest, GetPresenceResponse,
    IssueTicketRequest, PushRequest, PushResponse, notification_client::NotificationClient,
};

use super::{Gateway, secret, wait::patiently};

impl Gateway {
    /// A connection to the push listener.
    pub(crate) async fn grpc_channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.grpc)).expect("an address");
        patiently("a gRPC connection", endpoint.connect())
            .await
            .expect("a gRPC connection")
    }

    /// Whether the health of this service is SERVING.
    pub(crate) async fn serves(&self, service: &str) -> bool {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let mut health = HealthClient::new(self.grpc_channel().await);
        let answer = patiently("a health", health.check(request)).await;
        answer.expect("a health").into_inner().status() == ServingStatus::Serving
    }

    /// The push API.
    pub(crate) async fn grpc(&self) -> NotificationClient<Channel> {
        NotificationClient::new(self.grpc_channel().await)
    }
}

/// A push of these bytes to this user, and nothing else asked.
pub(crate) fn push(user: &str, message: impl Into<Vec<u8>>) -> PushRequest {
    PushRequest {
        user_id: user.to_owned(),
        message: message.into(),
        ..PushRequest::default()
    }
}

/// The same, with a receipt.
pub(crate) fn push_with_receipt(user: &str, message: impl Into<Vec<u8>>) -> PushRequest {
    PushRequest {
        receipt: true,
        ..push(user, message)
    }
}

/// Pushes, and expects to be told that it went well.
pub(crate) async fn pushed(
    client: &mut NotificationClient<Channel>,
    request: PushRequest,
) -> PushResponse {
    patiently("a push", client.push_notification(request))
        .await
        .expect("a push")
        .into_inner()
}

/// Has a ticket issued.
pub(crate) async fn issue(
    client: &mut NotificationClient<Channel>,
    request: IssueTicketRequest,
) -> String {
    let response = patiently("a ticket", client.issue_ticket(request))
        .await
        .expect("a ticket");
    secret(response.into_inner().ticket)
}

/// Asks which of these users are online.
pub(crate) async fn presence<T: AsRef<str>>(
    client: &mut NotificationClient<Channel>,
    users: &[T],
) -> Result<GetPresenceResponse, tonic::Status> {
    let request = GetPresenceRequest {
        user_ids: users.iter().map(|user| user.as_ref().to_owned()).collect(),
    };
    let answer = patiently("a presence", client.get_presence(request)).await;
    answer.map(tonic::Response::into_inner)
}

/// Ends a user's sessions.
pub(crate) async fn disconnect(
    client: &mut NotificationClient<Channel>,
    user: &str,
    reconnect: bool,
    reason: &str,
) -> Result<DisconnectResponse, tonic::Status> {
    let request = DisconnectRequest {
        user_id: user.to_owned(),
        reconnect,
        reason: reason.to_owned(),
    };
    let answer = patiently("a disconnect", client.disconnect(request)).await;
    answer.map(tonic::Response::into_inner)
}

/// The request with a bearer token.
pub(crate) fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value = MetadataValue::try_from(format!("Bearer {token}")).expect("a token");
    request.metadata_mut().insert("authorization", value);
    request
}
