//! Keys by https, within bounds.

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{
    Request, StatusCode,
    body::Bytes,
    client::conn::http1,
    header::{ACCEPT, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::time::timeout;
use url::{Position, Url};

use super::{Location, Remote, keys::Keys};
use crate::{reach, tls::ClientFiles};

/// From the look-up of the name to the last byte.
const LIMIT: Duration = Duration::from_secs(5);
/// The largest answer in bytes: more keys than anybody has.
const MAX_BODY: usize = 256 * 1024;

/// How many characters are read of a text in a document of somebody else's, for people to see.
const SHOWN: usize = 200;

/// What an issuer says of itself (OpenID Connect Discovery 1.0, 3), as far as it is read.
#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

/// The keys that are there now.
///
/// # Errors
///
/// Why there are none, in words.
pub(super) async fn keys(remote: &Remote) -> Result<Keys, String> {
    let url = match &remote.location {
        Location::Jwks(url) => url.clone(),
        Location::Oidc(issuer) => discover(issuer, &remote.tls).await?,
    };
    let body = fetch(&url, &remote.tls).await?;
    Keys::from_jwks(&body).ok_or_else(|| "it answers no JSON Web Key Set".to_owned())
}

/// Where an issuer publishes its keys. The document must be the issuer's own (OpenID Connect
/// Discovery 1.0, 4.3), or somebody else could vouch for its users.
async fn discover(issuer: &str, tls: &ClientFiles) -> Result<Url, String> {
    let url = format!(
        "{}/.well-known/openid-configuration",
        issuer.trim_end_matches('/')
    );
    let document = Url::parse(&url).map_err(in_words)?;
    let body = fetch(&document, tls).await?;
    let discovered: Discovered = serde_json::from_slice(&body)
        .map_err(|_| format!("{url} is no OpenID configuration with an issuer and a jwks_uri"))?;
    if discovered.issuer != issuer {
        return Err(format!(
            "{url} is the configuration of another issuer, {:?}; write that one if it is yours",
            shown(&discovered.issuer)
        ));
    }
    let good = |url: &Url| {
        let open = url.username().is_empty() && url.password().is_none();
        url.scheme() == "https" && url.has_host() && open
    };
    let jwks = Url::parse(&discovered.jwks_uri).ok().filter(good);
    jwks.ok_or_else(|| {
        format!(
            "{url} names a jwks_uri that is no https URL: {:?}",
            shown(&discovered.jwks_uri)
        )
    })
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

/// What the URL answers. Redirects are not followed.
async fn fetch(url: &Url, tls: &ClientFiles) -> Result<Bytes, String> {
    timeout(LIMIT, get(url, tls))
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} s", LIMIT.as_secs())))
}

async fn get(url: &Url, tls: &ClientFiles) -> Result<Bytes, String> {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(443);
    let stream = reach::connect(host, port).await.map_err(in_words)?;
    let connector = tls.load().map_err(in_words)?;
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
