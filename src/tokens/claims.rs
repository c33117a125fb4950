//! What the claims of a token must say, and what they say.

use std::time::Duration;

use serde_json::{Map, Value};

use super::TokenError;
use crate::{
    grants::{Grants, Lists, texts},
    user::{USER_ID_RULE, UserId},
};

/// The latest time, in seconds since 1970: nobody's clock goes further than the year 9999.
const LATEST: u64 = 253_402_300_799;

/// What a good token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Who it is.
    pub user: UserId,
    /// When the token expires, in Unix seconds.
    pub exp: u64,
    /// When the session ends, in Unix seconds: `exp`, or, if that has just passed, the end of
    /// the leeway.
    pub expires_at: u64,
    /// What its claims grant.
    pub grants: Grants,
}

/// The claims that grant something; `None`: no claim does.
#[derive(Debug, Clone, Default)]
pub struct GrantClaims {
    /// Topics that are followed from the beginning.
    pub topics: Option<String>,
    /// Topics that may be followed.
    pub may_follow: Option<String>,
    /// What topics that may be followed begin with.
    pub may_follow_prefix: Option<String>,
    /// Calls that may be made.
    pub calls: Option<String>,
}

/// What claims are read, beside the times.
#[derive(Debug)]
pub(super) struct Claims {
    /// `iss` must be this.
    pub(super) issuer: Option<String>,
    /// The claim that names the audience, and what it must name.
    pub(super) audience: Option<(String, String)>,
    /// The claim that is the user id.
    pub(super) user: String,
    /// The claims that grant something.
    pub(super) grants: GrantClaims,
    /// How far clocks may differ.
    pub(super) leeway: Duration,
}

impl Claims {
    /// Judges the claims of a token whose signature and times are good.
    pub(super) fn read(&self, claims: &Map<String, Value>) -> Result<Identity, TokenError> {
        self.check_issuer(claims.get("iss"))?;
        self.check_audience(claims)?;
        let exp = claims.get("exp").and_then(Value::as_f64).unwrap_or(0.0);
        // From a float it never wraps.
        let exp = (exp as u64).min(LATEST);
        let now = jsonwebtoken::get_current_timestamp();
        Ok(Identity {
            user: self.user(claims)?,
            exp,
            expires_at: match exp > now {
                true => exp,
                false => exp + self.leeway.as_secs(),
            },
            grants: self.grants(claims)?,
        })
    }

    /// An issuer is one text (RFC 7519, 4.1.1): in a list of them nobody knows which has
    /// signed.
    fn check_issuer(&self, claim: Option<&Value>) -> Result<(), TokenError> {
        let found = match claim {
            None | Some(Value::Null) => None,
            Some(Value::String(issuer)) => Some(issuer),
            Some(_) => return Err(TokenError::Invalid("its issuer (iss) is not one text")),
        };
        match (&self.issuer, found) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(TokenError::Invalid("it has no issuer (iss)")),
            (Some(wanted), Some(found)) if wanted == found => Ok(()),
            _ => Err(TokenError::Invalid(
                "its issuer (iss) is not the one that this gateway trusts",
            )),
        }
    }

    fn check_audience(&self, claims: &Map<String, Value>) -> Result<(), TokenError> {
        let Some((claim, wanted)) = &self.audience else {
            return Ok(());
        };
        let named = match claims.get(claim) {
            Some(Value::String(named)) => named == wanted,
            Some(Value::Array(named)) => {
                named.iter().all(Value::is_string) && named.iter().any(|named| named == wanted)
            }
            _ => false,
        };
        match (named, &claim[..]) {
            (true, _) => Ok(()),
            (false, "aud") => Err(TokenError::Invalid(
                "its audience (aud) does not include tickets.jwt.audience",
            )),
            (false, _) => Err(TokenError::Invalid(
                "its claim tickets.jwt.audience_claim does not name tickets.jwt.audience",
            )),
        }
    }

    fn user(&self, claims: &Map<String, Value>) -> Result<UserId, TokenError> {
        let user = match claims.get(&self.user) {
            Some(Value::String(user)) => user.clone(),
            // Many number their users.
            Some(Value::Number(number)) if !number.is_f64() => number.to_string(),
            _ => {
                return Err(TokenError::Invalid(
                    "it has no claim tickets.jwt.user_claim that is a text or a whole number",
                ));
            }
        };
        UserId::parse(&user).map_err(|_| TokenError::Invalid(USER_ID_RULE))
    }

    fn grants(&self, claims: &Map<String, Value>) -> Result<Grants, TokenError> {
        let list = |name: &Option<String>, field| {
            let value = name.as_ref().and_then(|name| claims.get(name));
            let list = value.map_or(Ok(Vec::new()), texts);
            list.map_err(|_| malformed(field))
        };
        let GrantClaims {
            topics,
            may_follow,
            may_follow_prefix,
            calls,
        } = &self.grants;
        let lists = Lists {
            topics: list(topics, "topics")?,
            may_follow: list(may_follow, "may_follow")?,
            may_follow_prefix: list(may_follow_prefix, "may_follow_prefix")?,
            calls: list(calls, "calls")?,
        };
        Grants::parse(&lists).map_err(|error| malformed(error.field))
    }
}

fn malformed(field: &str) -> TokenError {
    TokenError::Invalid(match field {
        "topics" => "its claim tickets.jwt.topics_claim is not a list of at most 256 topics",
        "may_follow" => {
            "its claim tickets.jwt.may_follow_claim is not a list of at most 256 topics"
        }
        "may_follow_prefix" => {
            "its claim tickets.jwt.may_follow_prefix_claim is not a list of at most 256 \
             beginnings of topics"
        }
        _ => "its claim tickets.jwt.calls_claim is not a list of at most 256 names of calls",
    })
}
