//! What a session does with what its client says, beside receiving messages. Few clients say
//! anything, so it costs a session nothing before that.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::Instant;

use super::{
    command::{Command, Fault, Id, Said},
    open::Session,
};
use crate::{
    close::CloseReason,
    frame::answer::{self, Code},
    http::{credentials::Granted, refusal::Refusal, request::Shown, transport::Transport},
};

/// What a client waits for.
pub(super) type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What became of it.
pub(super) enum Done {
    /// The client is told this.
    #[expect(dead_code, reason = "no command of this kind yet")]
    Answer(String),
    /// A fresh ticket or token was judged.
    Refreshed(Option<Id>, Result<Granted, Refusal>),
}

/// A client that says something.
#[derive(Default)]
pub(super) struct Talk {
    /// What is under way for it.
    pub(super) work: FuturesUnordered<Work>,
    /// When it last sent a ticket or a token that was looked at.
    pub(super) refreshed: Option<Instant>,
    /// It was told that a command is unknown.
    told_of_unknown: bool,
}

impl<T: Transport> Session<T> {
    /// The client said something; what it is told at once is queued.
    ///
    /// # Errors
    ///
    /// How the session ends.
    pub(super) fn hear(&mut self, text: &str) -> Result<(), CloseReason> {
        let Said { id, command } = Said::read(text);
        match command {
            Ok(Command::Ack) => {}
            Ok(Command::Ping) => self.answer_ping(),
            Ok(Command::Ticket(ticket)) => self.refresh(id, Shown::Ticket(ticket.expose())),
            Ok(Command::Token(token)) => self.refresh(id, Shown::Token(token.expose())),
            Err(Fault::NotAnObject) => return Err(CloseReason::BadFrame),
            Err(Fault::Unknown(names)) => self.answer_unknown(&names),
            Err(Fault::Shape(what)) => self.refuse(id.as_ref(), Code::BadRequest, what),
        }
        Ok(())
    }

    /// Goes on with what is under way for the client. Ready where that ends the session.
    pub(super) fn poll_talk(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        loop {
            let Some(talk) = &mut self.talk else {
                return Poll::Pending;
            };
            let Poll::Ready(Some(done)) = talk.work.poll_next_unpin(cx) else {
                return Poll::Pending;
            };
            let told = match done {
                Done::Answer(json) => {
                    self.say(&json);
                    Ok(())
                }
                Done::Refreshed(id, granted) => self.refreshed(id.as_ref(), granted),
            };
            if let Err(reason) = told {
                return Poll::Ready(reason);
            }
        }
    }

    /// Tells the client that it does not get what it wants.
    pub(super) fn refuse(&mut self, id: Option<&Id>, code: Code, message: &str) {
        let error = answer::error(id.map(Id::as_str), code.name(), message);
        self.say(&error);
    }

    fn answer_unknown(&mut self, names: &str) {
        let talk = self.talk.get_or_insert_default();
        if !std::mem::replace(&mut talk.told_of_unknown, true) {
            let message = format!("no command has these keys: {names} (said once)");
            self.refuse(None, Code::UnknownCommand, &message);
        }
    }
}
