//! JSON over HTTP, by HTTP/1.1 as curl writes it and by HTTP/2: what gRPC can do, with the
//! same certainty.

mod bad_input;
mod bounds;
mod faults;
mod floods;
mod openapi;
mod pages;
mod paths;

use bytes::Bytes;
use h2::client::SendRequest;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::support::{Gateway, Response, http, wait::patiently};

const TOKEN: &str = "a-token-that-is-long-enough";
pub(crate) const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A request by HTTP/1.1, whole.
fn request(address: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let length = body.len().to_string();
    let mut all = vec![JSON, ("Content-Length", &length[..])];
    all.retain(|(name, _)| {
        !headers
            .iter()
            .any(|(other, _)| other.eq_ignore_ascii_case(name))
    });
    all.extend(headers);
    let head = http::head("POST", address, path, &all);
    [head.as_bytes(), body.as_bytes()].concat()
}

/// Posts a body, on a connection of its own.
pub(crate) async fn post(gateway: &Gateway, path: &str, body: impl ToString) -> Response {
    post_with(gateway, path, &[], body).await
}

/// The same with other headers; one that the request has anyway takes its place.
pub(crate) async fn post_with(
    gateway: &Gateway,
    path: &str,
    headers: &[(&str, &str)],
    body: impl ToString,
) -> Response {
    let request = request(&gateway.grpc, path, headers, &body.to_string());
    http::raw(&gateway.grpc, &request).await
}

/// Posts what is expected to go well, and returns what is answered.
pub(crate) async fn posted(gateway: &Gateway, path: &str, body: impl ToString) -> Value {
    let response = post(gateway, path, body).await;
    assert_eq!(response.status, 200, "{response:?}");
    response.json()
}

/// Checks that this is a refusal, in all that the contract says of it; returns its message.
#[track_caller]
pub(crate) fn refused(response: &Response, status: u16, code: &str) -> String {
    assert_eq!(response.status, status, "{response:?}");
    let body = response.json();
    assert_eq!(body.as_object().map(|body| body.len()), Some(1), "{body}");
    let is = |name, value| assert_eq!(response.header(name), value, "{name}: {response:?}");
    is("content-type", Some("application/json"));
    is("cache-control", Some("no-store"));
    is("access-control-allow-origin", None);
    match status {
        401 => is("www-authenticate", Some("Bearer")),
        405 => assert!(response.header("allow").is_some(), "{response:?}"),
        _ => {}
    }
    failed(&body, code)
}

/// Checks that this is `{"error":…}`, as a batch has it too; returns its message.
#[track_caller]
fn failed(body: &Value, code: &str) -> String {
    let error = &body["error"];
    assert_eq!(error["code"], code, "{body}");
    let message = error["message"].as_str().unwrap_or_default();
    assert!(!message.is_empty(), "{body}");
    message.to_owned()
}

/// So many calls were counted.
fn calls(method: &str, code: &str) -> String {
    format!("usher_grpc_requests_total{{method={method:?},code={code:?}}}")
}

/// A caller by HTTP/2.
#[derive(Clone)]
struct Http2(SendRequest<Bytes>);

impl Http2 {
    async fn connect(gateway: &Gateway) -> Self {
        let stream = TcpStream::connect(&gateway.grpc).await.expect("accepted");
        let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        Self(sender)
    }

    /// Posts a body; returns the status, and what is answered.
    async fn post(&self, path: &str, body: impl ToString) -> (u16, Value) {
        let uri = format!("http://localhost{path}");
        let request = ::http::Request::post(uri)
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {TOKEN}"));
        self.send(
            request.body(()).expect("a request"),
            body.to_string().into(),
        )
        .await
        .expect("an answer")
    }

    async fn send(
        &self,
        request: ::http::Request<()>,
        body: Bytes,
    ) -> Result<(u16, Value), h2::Error> {
        patiently("an answer", async {
            let mut sender = self.0.clone().ready().await?;
            let (answer, mut sending) = sender.send_request(request, body.is_empty())?;
            if !body.is_empty() {
                sending.send_data(body, true)?;
            }
            let (head, mut body) = answer.await?.into_parts();
            let mut whole = Vec::new();
            while let Some(piece) = body.data().await {
                let piece = piece?;
                let _ = body.flow_control().release_capacity(piece.len());
                whole.extend_from_slice(&piece);
            }
            let body = serde_json::from_slice(&whole).unwrap_or_default();
            Ok((head.status.as_u16(), body))
        })
        .await
    }
}
