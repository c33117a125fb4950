//! `/status/users/USER`: whether a user is online, at which gateways, and what this gateway
//! knows of the user's sessions.

use std::sync::Arc;

use percent_encoding::percent_decode_str;
use serde::Serialize;
use ulid::Ulid;
use warp::{Rejection, http::StatusCode, reply::Response};

use super::{Status, json};
use crate::{
    close::CloseReason,
    control::Users,
    http::{refusal::Refusal, session::Close, transport::Kind},
    message::rfc3339,
    registry::Here,
    user::{USER_ID_RULE, UserId},
};

#[derive(Serialize)]
struct Body {
    user: String,
    /// A session is open at some gateway that has answered, or here.
    online: bool,
    /// On all gateways that have answered.
    sessions: usize,
    gateways: Vec<String>,
    /// Every gateway has answered.
    complete: bool,
    /// Why the other gateways were not asked, or none has answered.
    error: Option<String>,
    here: Vec<Session>,
    closes: Vec<Closed>,
}

#[derive(Serialize)]
struct Session {
    session: String,
    transport: &'static str,
    since: String,
    backlog: Backlog,
    topics: Vec<String>,
}

#[derive(Serialize)]
struct Backlog {
    messages: usize,
    bytes: usize,
}

#[derive(Serialize)]
struct Closed {
    session: String,
    transport: &'static str,
    code: Option<u16>,
    reason: &'static str,
    at: String,
    lived_seconds: f64,
}

/// `/status/users/USER`. The id is percent-encoded.
pub(in crate::http) async fn user(id: String, status: Arc<Status>) -> Result<Response, Rejection> {
    let user = percent_decode_str(&id)
        .decode_utf8()
        .ok()
        .and_then(|id| UserId::parse(&id).ok())
        .ok_or(Refusal::BadRequest(USER_ID_RULE))?;
    Ok(json(&body(&user, &status).await, StatusCode::OK))
}

async fn body(user: &UserId, status: &Status) -> Body {
    let users = Users::parse(&[user.as_str()]).map_err(|error| error.to_string());
    let presence = match users {
        Ok(users) => {
            let presence = status.control.presence(users).await;
            presence.map_err(|error| error.to_string())
        }
        Err(error) => Err(error),
    };
    let closes = status.sessions.closes_of(user);
    let here = status.registry.sessions_here(user);
    let (online, complete, error) = match presence {
        Ok(mut presence) => {
            let online = presence.users.remove(user.as_str());
            (online.unwrap_or_default(), presence.complete, None)
        }
        Err(error) => (Default::default(), false, Some(error)),
    };
    let mut gateways = online.gateways;
    // What this gateway has is certain, whether or not NATS brings the others' answers.
    if !here.is_empty() && !gateways.contains(&status.gateway) {
        gateways.push(status.gateway.clone());
    }
    gateways.sort();
    Body {
        user: user.as_str().to_owned(),
        online: !gateways.is_empty(),
        sessions: here.len().max(online.sessions as usize),
        gateways,
        complete,
        error,
        here: here.into_iter().map(Session::from).collect(),
        closes: closes.iter().map(Closed::from).collect(),
    }
}

impl From<Here> for Session {
    fn from(here: Here) -> Self {
        Self {
            session: here.session.to_string(),
            transport: Kind::of(here.protocol).name(),
            since: began(here.session),
            backlog: Backlog {
                messages: here.messages,
                bytes: here.bytes,
            },
            topics: here.topics.iter().map(|t| t.as_str().to_owned()).collect(),
        }
    }
}

impl From<&Close> for Closed {
    fn from(close: &Close) -> Self {
        Self {
            session: close.session.to_string(),
            transport: close.transport,
            code: close.code,
            reason: CloseReason::name(close.reason),
            at: rfc3339(close.at),
            lived_seconds: close.lived().as_secs_f64(),
        }
    }
}

/// When a session began: its id has the time, in milliseconds.
fn began(session: Ulid) -> String {
    rfc3339(session.datetime())
}
