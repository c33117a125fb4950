//! What a request for a WebSocket says, read before anything is decided on it
//! (RFC 6455, 4.2.1).

use hyper::upgrade::OnUpgrade;
use warp::http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, HeaderName, ORIGIN, SEC_WEBSOCKET_ACCEPT,
        SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING,
        UPGRADE,
    },
};
use warp::reply::{Reply as _, Response};

use super::refusal::Refusal;
use crate::{
    frame::Protocol,
    position::{Position, PositionError},
};

/// Before the ticket in a sub-protocol.
const TICKET_PROTOCOL: &str = "usher.ticket.";

/// A request as it came. No `Debug`: the query may hold a ticket.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) on_upgrade: Option<OnUpgrade>,
}

impl Request {
    /// The page's origin, as [`origin`] reads it.
    pub(super) fn origin(&self) -> Option<&str> {
        origin(&self.headers)
    }

    /// The `Host` header.
    pub(super) fn host(&self) -> Option<&str> {
        self.headers.get(HOST)?.to_str().ok()
    }
}

/// A request that may become a WebSocket.
pub(super) struct Upgrade {
    request: Request,
    on_upgrade: OnUpgrade,
    key: HeaderValue,
    /// The sub-protocol, and whether the client asked for it by name.
    pub(super) protocol: (Protocol, bool),
    pub(super) since: Option<Position>,
}

impl Upgrade {
    /// Checks all that the contract checks before it looks at the gateway's
    /// own state: method, upgrade headers, sub-protocol, `since`.
    pub(super) fn read(mut request: Request) -> Result<Self, Refusal> {
        if request.method != Method::GET {
            return Err(Refusal::MethodNotAllowed("GET"));
        }
        let headers = &request.headers;
        let asks = lists(headers, &UPGRADE, "websocket") && lists(headers, &CONNECTION, "upgrade");
        let version = headers
            .get(SEC_WEBSOCKET_VERSION)
            .map(HeaderValue::as_bytes);
        if !asks || version != Some(b"13") {
            return Err(Refusal::UpgradeRequired);
        }
        if has_body(headers) {
            return Err(Refusal::BadRequest("a request for a WebSocket has no body"));
        }
        let key = match headers.get(SEC_WEBSOCKET_KEY) {
            Some(key) if key.len() == 24 => key.clone(),
            _ => {
                return Err(Refusal::BadRequest(
                    "Sec-WebSocket-Key is not 16 bytes in base64",
                ));
            }
        };
        let on_upgrade = request.on_upgrade.take().ok_or(Refusal::UpgradeRequired)?;
        let protocol = choose(headers)?;
        let since = read_since(&request.query)?;
        if since.is_some() && protocol.0 == Protocol::RawV1 {
            return Err(Refusal::SinceMalformed("usher.raw.v1 has no since"));
        }
        Ok(Self {
            request,
            on_upgrade,
            key,
            protocol,
            since,
        })
    }

    pub(super) fn request(&self) -> &Request {
        &self.request
    }

    /// The ticket, in whichever of the three places it is.
    pub(super) fn ticket(&self) -> Result<String, Refusal> {
        let in_query = query_values(&self.request.query, "ticket");
        let in_protocols = protocols(&self.request.headers)
            .filter_map(|name| name.strip_prefix(TICKET_PROTOCOL).map(str::to_owned));
        let in_header = self
            .request
            .headers
            .get_all(AUTHORIZATION)
            .iter()
            .filter_map(|value| {
                let (scheme, ticket) = value.to_str().ok()?.split_once(' ')?;
                scheme
                    .eq_ignore_ascii_case("usher-ticket")
                    .then(|| ticket.trim().to_owned())
            });
        let mut tickets = in_query.into_iter().chain(in_protocols).chain(in_header);
        let ticket = tickets.next().ok_or(Refusal::TicketMissing)?;
        match tickets.next() {
            None => Ok(ticket),
            Some(_) => Err(Refusal::BadRequest("pass one ticket, in one place")),
        }
    }

    /// The 101, and the future of the upgraded connection.
    pub(super) fn accept(self) -> (Response, OnUpgrade) {
        let accept = tungstenite::handshake::derive_accept_key(self.key.as_bytes());
        let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(
            SEC_WEBSOCKET_ACCEPT,
            HeaderValue::try_from(accept).expect("base64 fits a header"),
        );
        if let (Some(name), true) = (self.protocol.0.name(), self.protocol.1) {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
        }
        (response, self.on_upgrade)
    }
}

/// The `Origin` header; an unreadable one, or a second, is one that nothing allows.
pub(super) fn origin(headers: &HeaderMap) -> Option<&str> {
    let mut origins = headers.get_all(ORIGIN).iter();
    let origin = origins.next()?;
    let readable = origin.to_str().ok().filter(|_| origins.next().is_none());
    Some(readable.unwrap_or("null"))
}

/// The first known sub-protocol in the client's order; the default where none
/// is asked for. A browser drops an upgrade that chose none of what it offered.
fn choose(headers: &HeaderMap) -> Result<(Protocol, bool), Refusal> {
    if !headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        return Ok((Protocol::UsherV1, false));
    }
    protocols(headers)
        .find_map(|name| {
            Protocol::ALL
                .into_iter()
                .find(|known| known.name() == Some(name))
        })
        .map(|protocol| (protocol, true))
        .ok_or(Refusal::ProtocolUnknown)
}

fn read_since(query: &str) -> Result<Option<Position>, Refusal> {
    let values = query_values(query, "since");
    match &values[..] {
        [] => Ok(None),
        [since] => match Position::parse(since) {
            Ok(position) => Ok(Some(position)),
            Err(PositionError) => Err(Refusal::SinceMalformed(
                "since is EPOCH.SEQ, such as k3f9.121, or 0",
            )),
        },
        _ => Err(Refusal::SinceMalformed("pass since once")),
    }
}

fn query_values(query: &str, key: &str) -> Vec<String> {
    form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name == key)
        .map(|(_, value)| value.into_owned())
        .collect()
}

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    tokens(headers, &SEC_WEBSOCKET_PROTOCOL)
}

fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|listed| listed.eq_ignore_ascii_case(token))
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
    headers.contains_key(TRANSFER_ENCODING) || !matches!(length, None | Some(b"0"))
}
