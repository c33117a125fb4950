//! What opens a session: a ticket, which is used up, or a token, which is judged.

use std::{
    hash::{BuildHasher as _, RandomState},
    num::NonZeroU64,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

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
    tickets: Tickets,
    tokens: Option<Tokens>,
    hasher: RandomState,
}

/// What a session keeps of its origin, to compare it with that of a later ticket: a hash by
/// keys of this process, so nobody can look for two origins with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OriginMark(NonZeroU64);

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
    /// Where tickets are, and whose tokens open sessions; `None` if no token does.
    pub fn new(tickets: Tickets, tokens: Option<Tokens>) -> Self {
        Self {
            tickets,
            tokens,
            hasher: RandomState::new(),
        }
    }

    /// The one credential of a request. Where tokens open no sessions, they are not looked
    /// at: they may be meant for a proxy.
    ///
    /// # Errors
    ///
    /// 401 [`Refusal::CredentialMissing`] or [`Refusal::TicketMissing`]; 400
    /// [`Refusal::BadRequest`] for more than one; 400 [`Refusal::TicketMalformed`].
    pub(super) fn read(&self, shown: Vec<Shown>) -> Result<Credential, Refusal> {
        let counts = |shown: &Shown| self.tokens.is_some() || matches!(shown, Shown::Ticket(_));
        let mut shown = shown.into_iter().filter(counts);
        match (shown.next(), shown.next()) {
            (Some(shown), None) => Credential::read(shown),
            (None, _) if self.tokens.is_some() => Err(Refusal::CredentialMissing),
            (None, _) => Err(Refusal::TicketMissing),
            (Some(_), Some(_)) => Err(Refusal::BadRequest(
                "pass one ticket or one token, in one place",
            )),
        }
    }

    /// Uses a ticket up, or verifies a token. Dropping the future may leave a ticket used up.
    ///
    /// # Errors
    ///
    /// For a ticket 401 [`Refusal::TicketUnknown`] or [`Refusal::NoTickets`], and 503
    /// [`Refusal::Unavailable`] if Redis is away: the ticket may be used up all the same. For a
    /// token 401 [`Refusal::TokenInvalid`], and 503 [`Refusal::Unavailable`] if the keys can't be
    /// fetched.
    pub(super) async fn redeem(&self, credential: Credential) -> Result<Granted, Refusal> {
        match credential {
            Credential::Ticket(ticket) => self.ticket(&ticket).await,
            Credential::Token(token) => self.token(&token.expose()).await,
        }
    }

    /// What a session keeps of its `Origin` header.
    pub(super) fn mark(&self, origin: Option<&str>) -> Option<OriginMark> {
        let origin = Origin::parse(origin?).ok()?;
        Some(self.mark_of(&origin))
    }

    /// Refuses a session of another origin than the ticket was issued for.
    ///
    /// # Errors
    ///
    /// 403 [`Refusal::TicketBinding`]
    pub(super) fn check_mark(
        &self,
        granted: &Granted,
        mark: Option<OriginMark>,
    ) -> Result<(), Refusal> {
        match &granted.origin {
            Some(bound_to) if Some(self.mark_of(bound_to)) != mark => Err(Refusal::TicketBinding),
            _ => Ok(()),
        }
    }

    fn mark_of(&self, origin: &Origin) -> OriginMark {
        let hash = NonZeroU64::new(self.hasher.hash_one(origin));
        OriginMark(hash.unwrap_or(NonZeroU64::MIN))
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

impl Credential {
    /// Reads a credential. What is wrong with a token shows when it is verified.
    ///
    /// # Errors
    ///
    /// 400 [`Refusal::TicketMalformed`]
    pub(super) fn read(shown: Shown) -> Result<Self, Refusal> {
        match shown {
            Shown::Ticket(ticket) => {
                let ticket = Ticket::parse(&ticket).map_err(|_| Refusal::TicketMalformed)?;
                Ok(Self::Ticket(ticket))
            }
            Shown::Token(token) => Ok(Self::Token(Secret::new(token))),
        }
    }
}

impl Granted {
    /// Refuses a page of another origin than the ticket was issued for.
    ///
    /// # Errors
    ///
    /// 403 [`Refusal::TicketBinding`]: the ticket is used up.
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
