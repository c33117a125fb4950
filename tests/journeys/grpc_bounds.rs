//! The push listener under callers that mean harm, or merely hang: each bound bites, is
//! counted, and keeps no good caller out.

mod connections;
mod floods;
mod messages;
pub(crate) mod raw_h2;
mod renewed;

use tonic::transport::Endpoint;
use usher::proto::notification_client::NotificationClient;

use crate::support::{
    Gateway,
    grpc::{push, with_token},
    wait::patiently,
};

const TOKEN: &str = "a-token-that-is-long-enough";

/// Whether a push with the token gets through, on a connection of its own.
async fn pushes(gateway: &Gateway) -> bool {
    pushes_at(&gateway.grpc).await
}

async fn pushes_at(address: &str) -> bool {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let Ok(channel) = patiently("a connection", endpoint.connect()).await else {
        return false;
    };
    let mut caller = NotificationClient::new(channel);
    let answer = caller.push_notification(with_token(push("42", "1"), TOKEN));
    patiently("an answer", answer).await.is_ok()
}

/// A bound has closed so many connections.
fn cut(reason: &str) -> String {
    format!("usher_grpc_connections_cut_total{{reason={reason:?}}}")
}

/// A bound has refused so many calls.
fn refused(reason: &str) -> String {
    format!("usher_grpc_refused_total{{reason={reason:?}}}")
}
