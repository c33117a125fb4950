//! What opens a session: a ticket, which is used up, or a token, which is judged.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{refusal::Refusal, request::Shown};
use crate::{
    grants::Grants,
    origin::Origin,
    secret::Secret,
    tickets::{RedeemError, Ticket, Tickets},
    tokens::{EXPIRED, TokenError, Tokens},
    user::UserId,
};

/// Where tickets are, and whose tokens are good.
#[derive(Debug)]
pub struct Credentials {
    /// Where tickets are.
    pub tickets: Tickets,
    /// Whose tokens open sessions; none where no token does.
    pub tokens: Option<Tokens>,
}

/// Something that opens a session, if it is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Credential {
    Ticket(Ticket),
    Token(Secret),
}

/// What a good one says.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) user: UserId,
    /// When the session ends.
    pub(super) expires_at: Option<SystemTime>,
    /// The only origin that may use it.
    pub(super) origin: Option<Origin>,
    /// What the session may do.
    pub(super) grants: Option<Box<Grants>>,
}

impl Credentials {
    /// The one credential of a request. Where tokens open no sessions, they are not looked
    /// at: they may be meant for a proxy.
    pub(super) fn read(&self, shown: Vec<Shown>) -> Result<Credential, Refusal> {
        let counts = |shown: &Shown| self.tokens.is_some() || matches!(shown, Shown::Ticket(_));
        let mut shown = shown.into_iter().filter(counts);
        match (shown.next(), shown.next()) {
            (Some(Shown::Ticket(ticket)), None) => {
                let ticket = Ticket::parse(&ticket).map_err(|_| Refusal::TicketMalformed)?;
                Ok(Credential::Ticket(ticket))
            }
            (Some(Shown::Token(token)), None) => Ok(Credential::Token(Secret::new(token))),
            (None, _) if self.tokens.is_some() => Err(Refusal::CredentialMissing),
            (None, _) => Err(Refusal::TicketMissing),
            (Some(_), Some(_)) => Err(Refusal::BadRequest(
                "pass one ticket or one token, in one place",
            )),
        }
    }

    /// Uses a ticket up, or judges a token.
    ///
    /// Dropping the future may leave a ticket used up.
    pub(super) async fn redeem(&self, credential: Credential) -> Result<Granted, Refusal> {
        match credential {
            Credential::Ticket(ticket) => self.ticket(&ticket).await,
            Credential::Token(token) => self.token(&token.expose()).await,
        }
    }

    async fn ticket(&self, ticket: &Ticket) -> Result<Granted, Refusal> {
        let grant = match self.tickets.redeem(ticket).await {
            Ok(grant) => grant,
            Err(RedeemError::Unknown(reason)) => {
                tracing::debug!(reason, "a ticket opens nothing");
                return Err(Refusal::TicketUnknown);
            }
            Err(RedeemError::Unreadable(reason)) => {
                tracing::warn!(reason, "a ticket was stored that opens nothing");
                return Err(Refusal::TicketUnknown);
            }
            Err(RedeemError::Value(error)) => {
                tracing::warn!(%error, "a ticket was stored that opens nothing");
                return Err(Refusal::TicketUnknown);
            }
            Err(RedeemError::NoStore) => return Err(Refusal::NoTickets),
            Err(RedeemError::Unavailable) => {
                return Err(Refusal::Unavailable("Redis is away; try again"));
            }
        };
        Ok(Granted {
            user: grant.user,
            expires_at: grant.expires_at,
            origin: grant.origin,
            grants: grant.grants.boxed(),
        })
    }

    /// A session ends with its token to the second, so the leeway does not count here.
    async fn token(&self, token: &str) -> Result<Granted, Refusal> {
        let Some(tokens) = &self.tokens else {
            return Err(Refusal::TokenInvalid("tokens open no sessions here"));
        };
        let identity = tokens.verify(token).await?;
        let expires_at = UNIX_EPOCH + Duration::from_secs(identity.exp);
        if expires_at <= SystemTime::now() {
            return Err(Refusal::TokenInvalid(EXPIRED));
        }
        Ok(Granted {
            user: identity.user,
            expires_at: Some(expires_at),
            origin: None,
            grants: identity.grants.boxed(),
        })
    }
}

impl Granted {
    /// Refuses a page of another origin than the ticket was issued for.
    pub(super) fn check_binding(&self, origin: Option<&str>) -> Result<(), Refusal> {
        let Some(bound_to) = &self.origin else {
            return Ok(());
        };
        match origin.map(Origin::parse) {
            Some(Ok(origin)) if origin == *bound_to => Ok(()),
            _ => Err(Refusal::TicketBinding),
        }
    }
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Invalid(why) => Self::TokenInvalid(why),
            TokenError::NoKeys => Self::Unavailable(
                "the keys that tokens are signed with cannot be fetched now; try again",
            ),
        }
    }
}
