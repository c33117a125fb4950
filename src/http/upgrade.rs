//! What a request for a WebSocket says, read before anything is decided on it
//! (RFC 6455, 4.2.1).

use hyper::upgrade::OnUpgrade;
use warp::http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{
        CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};
use warp::reply::{Reply as _, Response};

use super::{
    refusal::Refusal,
    request::{Request, Shown, tokens},
};
use crate::{frame::Protocol, position::Since};

/// Before the ticket in a sub-protocol.
const TICKET_PROTOCOL: &str = "usher.ticket.";
/// Before the token in a sub-protocol.
const TOKEN_PROTOCOL: &str = "usher.token.";

/// What a request says that may become a WebSocket.
pub(super) struct Upgrade {
    on_upgrade: OnUpgrade,
    key: HeaderValue,
    /// The sub-protocol, and whether the client asked for it by name.
    pub(super) protocol: (Protocol, bool),
    pub(super) since: Option<Since>,
}

impl Upgrade {
    /// Checks all that the contract checks between the method and the gateway's own
    /// state: upgrade headers, sub-protocol, `since`. Takes the request's `on_upgrade`.
    ///
    /// # Errors
    ///
    /// In this order: 426 [`Refusal::UpgradeRequired`]; 400 [`Refusal::BadRequest`] for a body or
    /// a bad key; 400 [`Refusal::ProtocolUnknown`]; 400 [`Refusal::SinceMalformed`].
    pub(super) fn read(request: &mut Request) -> Result<Self, Refusal> {
        let mut upgrade = Self::handshake(request, choose)?;
        upgrade.since = request.since()?;
        if upgrade.since.is_some() && upgrade.protocol.0 == Protocol::RawV1 {
            return Err(Refusal::SinceMalformed("usher.raw.v1 has no since"));
        }
        Ok(upgrade)
    }

    /// Reads an upgrade to the Centrifuge protocol, which says the rest after the upgrade.
    ///
    /// # Errors
    ///
    /// As [`Upgrade::read`], without `since`.
    pub(super) fn read_centrifuge(request: &mut Request) -> Result<Self, Refusal> {
        Self::handshake(request, choose_centrifuge)
    }

    fn handshake(
        request: &mut Request,
        choose: fn(&HeaderMap) -> Result<(Protocol, bool), Refusal>,
    ) -> Result<Self, Refusal> {
        let headers = &request.headers;
        let asks = lists(headers, &UPGRADE, "websocket") && lists(headers, &CONNECTION, "upgrade");
        let version = headers
            .get(SEC_WEBSOCKET_VERSION)
            .map(HeaderValue::as_bytes);
        if !asks || version != Some(b"13") {
            return Err(Refusal::UpgradeRequired);
        }
        if request.has_body() {
            return Err(Refusal::BadRequest("a request for a WebSocket has no body"));
        }
        // A proxy may answer for another one of two keys than we do (RFC 6455, 11.3.1).
        let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
        let key = match (keys.next(), keys.next()) {
            (Some(key), None) if key.len() == 24 => key.clone(),
            _ => {
                return Err(Refusal::BadRequest(
                    "send one Sec-WebSocket-Key, 16 bytes in base64",
                ));
            }
        };
        let on_upgrade = request.on_upgrade.take().ok_or(Refusal::UpgradeRequired)?;
        let protocol = choose(headers)?;
        Ok(Self {
            on_upgrade,
            key,
            protocol,
            since: None,
        })
    }

    /// All that a request for a WebSocket shows to be let in, in whichever place.
    pub(super) fn shown(request: &Request) -> Vec<Shown> {
        let in_protocols = protocols(&request.headers).filter_map(|name| {
            let ticket = name.strip_prefix(TICKET_PROTOCOL);
            let ticket = ticket.map(|ticket| Shown::Ticket(ticket.to_owned()));
            ticket.or_else(|| {
                let token = name.strip_prefix(TOKEN_PROTOCOL)?;
                Some(Shown::Token(token.to_owned()))
            })
        });
        request.shown(in_protocols)
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

/// The first known sub-protocol in the client's order; the default where none
/// is asked for. A browser drops an upgrade that chose none of what it offered.
fn choose(headers: &HeaderMap) -> Result<(Protocol, bool), Refusal> {
    if !headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        return Ok((Protocol::UsherV1, false));
    }
    first_of(headers, &[Protocol::UsherV1, Protocol::RawV1])
}

/// The sub-protocol where the Centrifuge protocol is spoken: JSON has no name there.
fn choose_centrifuge(headers: &HeaderMap) -> Result<(Protocol, bool), Refusal> {
    if !headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        return Ok((Protocol::CentrifugeJson, false));
    }
    first_of(headers, &[Protocol::CentrifugeProtobuf]).map_err(|_| {
        Refusal::BadRequest("offer the sub-protocol centrifuge-protobuf, or none for JSON")
    })
}

fn first_of(headers: &HeaderMap, known: &[Protocol]) -> Result<(Protocol, bool), Refusal> {
    protocols(headers)
        .find_map(|name| known.iter().find(|known| known.name() == Some(name)))
        .map(|protocol| (*protocol, true))
        .ok_or(Refusal::ProtocolUnknown)
}

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    tokens(headers, &SEC_WEBSOCKET_PROTOCOL)
}

fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|listed| listed.eq_ignore_ascii_case(token))
}
