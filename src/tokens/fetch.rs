//! One GET by https, within bounds.

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{
    Request, StatusCode,
    body::Bytes,
    client::conn::http1,
    header::{ACCEPT, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};
use url::{Position, Url};

use crate::tls::ClientFiles;

/// From the look-up of the name to the last byte.
const LIMIT: Duration = Duration::from_secs(5);
/// More keys than anybody has.
const MAX_BODY: usize = 256 * 1024;

/// What the URL answers. Redirects are not followed.
///
/// # Errors
///
/// Why there is no answer, in words.
pub(super) async fn fetch(url: &Url) -> Result<Bytes, String> {
    timeout(LIMIT, get(url))
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} s", LIMIT.as_secs())))
}

async fn get(url: &Url) -> Result<Bytes, String> {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(443);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((bare, port)).await.map_err(in_words)?;
    let connector = ClientFiles::default().load().map_err(in_words)?;
    let stream = connector.connect(host, stream).await.map_err(in_words)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(in_words)?;
    let asking = async {
        let request = Request::get(&url[Position::BeforePath..Position::AfterQuery])
            .header(HOST, &url[Position::BeforeHost..Position::AfterPort])
            .header(ACCEPT, "application/jwk-set+json, application/json")
            .header(USER_AGENT, concat!("usher/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(in_words)?;
        let response = sender.send_request(request).await.map_err(in_words)?;
        if response.status() != StatusCode::OK {
            return Err(format!("it answers {}", response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
        body.map(http_body_util::Collected::to_bytes)
            .map_err(|error| error.to_string())
    };
    tokio::select! {
        answer = asking => answer,
        Err(error) = connection => Err(in_words(error)),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn in_words(error: impl std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
