//! A fresh ticket or token prolongs a session: its end and its grants become the new one's.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    command::Id,
    expiry::{in_seconds, instant},
    open::Session,
    talk::Done,
};
use crate::{
    close::CloseReason,
    frame::answer::{self, Code},
    grants::Grants,
    http::{
        credentials::{Credential, Granted},
        refusal::Refusal,
        request::Shown,
        transport::Transport,
    },
    registry::TopicChange,
};

/// Between two refreshes of one session. Each may cost Redis a command, or a login a fetch of
/// its keys.
pub(super) const PAUSE: Duration = Duration::from_secs(5);

impl<T: Transport> Session<T> {
    /// Begins to judge a ticket or a token that the client sends.
    pub(super) fn refresh(&mut self, id: Option<Id>, shown: Shown) {
        let now = Instant::now();
        let talk = self.talk.get_or_insert_default();
        if talk.refreshed.is_some_and(|at| now < at + PAUSE) {
            let says = "a session is refreshed once in 5 s; wait a little";
            return self.refuse(id.as_ref(), Code::TooMany, says);
        }
        talk.refreshed = Some(now);
        let credentials = self.sessions.credentials.clone();
        let origin = self.origin;
        let work = async move {
            let granted = async {
                let credential = Credential::read(shown)?;
                let granted = credentials.redeem(credential).await?;
                credentials.check_mark(&granted, origin)?;
                Ok(granted)
            };
            Done::Refreshed(id, granted.await)
        };
        talk.work.push(Box::pin(work));
    }

    /// Takes over what a fresh ticket or token says, or tells the client why not.
    ///
    /// # Errors
    ///
    /// How the session ends: it is another user's.
    pub(super) fn refreshed(
        &mut self,
        id: Option<&Id>,
        granted: Result<Granted, Refusal>,
    ) -> Result<(), CloseReason> {
        let granted = match granted {
            Ok(granted) => granted,
            Err(refusal) => {
                self.refuse(id, code(refusal), refusal.message());
                return Ok(());
            }
        };
        let before = self.take_over(granted)?;
        let now = Instant::now();
        let left = self
            .ends
            .end()
            .map(|end| end.saturating_duration_since(now));
        self.say(&answer::refreshed(id.map(Id::as_str), left.map(in_seconds)));
        self.grants_changed(id.cloned(), before.as_deref());
        Ok(())
    }

    /// The session's end and grants are the new ones. Returns the grants before;
    /// [`Session::grants_changed`] has to follow.
    ///
    /// # Errors
    ///
    /// [`CloseReason::BadFrame`], with which the session ends: they are another user's.
    pub(super) fn take_over(
        &mut self,
        granted: Granted,
    ) -> Result<Option<Box<Grants>>, CloseReason> {
        if granted.user != *self.handle.user() {
            return Err(CloseReason::BadFrame);
        }
        let now = Instant::now();
        let end = granted.expires_at.map(|at| instant(at, now));
        self.ends.grant(end, now);
        self.arm();
        Ok(std::mem::replace(&mut self.grants, granted.grants))
    }

    /// The session's grants have become other ones: topics that are granted no longer are
    /// unfollowed, and those that are named for the first time are followed, as many as a session
    /// may follow. The client is told what it follows then.
    pub(super) fn grants_changed(&mut self, id: Option<Id>, before: Option<&Grants>) {
        let grants = self.grants.clone().unwrap_or_default();
        let named = before.map_or(&[][..], |before| &before.topics);
        let new = grants.topics.iter().filter(|topic| !named.contains(topic));
        let follow: Vec<_> = new.cloned().collect();
        // What is granted no more goes, whatever becomes of the rest.
        self.change(TopicChange {
            keep_only: Some(grants),
            id: id.map(Id::into_string),
            ..TopicChange::default()
        });
        if !follow.is_empty() {
            self.change(TopicChange {
                follow,
                up_to_limit: true,
                ..TopicChange::default()
            });
        }
    }
}

/// As an answer says it.
fn code(refusal: Refusal) -> Code {
    match refusal {
        Refusal::TokenInvalid(_) => Code::TokenInvalid,
        Refusal::TicketBinding => Code::Origin,
        Refusal::TicketMalformed | Refusal::TicketUnknown | Refusal::NoTickets => {
            Code::TicketUnknown
        }
        _ => Code::Unavailable,
    }
}
