//! The open questions of a [`super::Caller`], each with the connection on which it was asked.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{mpsc, oneshot};
use ulid::Ulid;

use crate::bus::interest::ServerMessage;

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::bus) enum Unanswered {
    /// The connection is away. The request was not sent.
    Away,
    /// The request was sent, or a part of it, and then the connection was lost.
    Lost,
    /// The request was sent, and no answer came in time.
    TimedOut,
    /// NATS takes no message of this size. The request was not sent.
    TooLarge,
    /// NATS does not permit this gateway to publish to this subject.
    Forbidden(Arc<str>),
}

/// Where answers go.
#[derive(Debug)]
pub(super) enum Answers {
    /// All that come, up to what the channel holds.
    Many {
        /// Where the question is published.
        subject: Arc<str>,
        answer: mpsc::Sender<Result<ServerMessage, Unanswered>>,
    },
    /// The first one.
    One {
        /// Where the request is published.
        subject: Arc<str>,
        answer: oneshot::Sender<Result<ServerMessage, Unanswered>>,
    },
    /// Nobody answers: the message was written to the connection.
    Written(oneshot::Sender<Result<(), Unanswered>>),
}

/// The open questions by number. A number can't be guessed: whoever may publish to inboxes
/// could else answer a question that somebody else was asked.
#[derive(Debug, Default)]
pub(super) struct Questions(Mutex<HashMap<u64, Question>>);

#[derive(Debug)]
pub(super) struct Question {
    /// `None` while it waits for its turn.
    asked_on: Option<Ulid>,
    answers: Answers,
}

/// A question. Dropping this forgets it.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) number: u64,
    questions: Arc<Questions>,
}

impl Questions {
    /// A new question.
    pub(super) fn add(self: &Arc<Self>, answers: Answers) -> Open {
        let question = Question {
            asked_on: None,
            answers,
        };
        let mut open = self.open();
        let number = loop {
            if let Entry::Vacant(vacant) = open.entry(rand::random()) {
                let number = *vacant.key();
                vacant.insert(question);
                break number;
            }
        };
        Open {
            number,
            questions: self.clone(),
        }
    }

    /// A question is about to be asked on this connection. False where nobody waits for the
    /// answer any more.
    pub(super) fn ask(&self, number: u64, connection: Ulid) -> bool {
        let mut open = self.open();
        let question = open.get_mut(&number);
        question.is_some_and(|question| {
            question.asked_on = Some(connection);
            true
        })
    }

    /// A message that nobody answers is written to the connection.
    pub(super) fn written(&self, number: u64) {
        let question = self.open().remove(&number);
        if let Some(Answers::Written(done)) = question.map(|question| question.answers) {
            let _ = done.send(Ok(()));
        }
    }

    /// A question ends without an answer.
    pub(super) fn fail(&self, number: u64, why: Unanswered) {
        if let Some(question) = self.open().remove(&number) {
            question.fail(why);
        }
    }

    /// An answer came on a connection. One that comes late, or again, finds no question.
    pub(super) fn answered(&self, connection: Ulid, number: u64, message: ServerMessage) {
        let mut open = self.open();
        let Entry::Occupied(question) = open.entry(number) else {
            return;
        };
        if question.get().asked_on != Some(connection) {
            return;
        }
        if let Answers::Many { answer, .. } = &question.get().answers {
            if answer.try_send(Ok(message)).is_err() {
                // One is missing now, so those that are here are of no use.
                question.remove();
            }
        } else if let Answers::One { answer, .. } = question.remove().answers {
            let _ = answer.send(Ok(message));
        }
    }

    /// Nothing more comes on this connection; `None`: on any.
    pub(super) fn lost(&self, connection: Option<Ulid>) {
        self.end(|question| {
            let ends = connection.is_none() || question.asked_on == connection;
            ends.then_some(match question.asked_on {
                None => Unanswered::Away,
                Some(_) => Unanswered::Lost,
            })
        });
    }

    /// NATS refuses what was published to this subject on this connection.
    pub(super) fn refused(&self, connection: Ulid, refused: &str) {
        self.end(|question| match &question.answers {
            Answers::One { subject, .. } | Answers::Many { subject, .. } => {
                let concerned = question.asked_on == Some(connection) && **subject == *refused;
                concerned.then(|| Unanswered::Forbidden(subject.clone()))
            }
            Answers::Written(_) => None,
        });
    }

    /// Ends those questions for which there is a reason.
    fn end(&self, why: impl Fn(&Question) -> Option<Unanswered>) {
        let mut ended = Vec::new();
        {
            let mut open = self.open();
            let over = open.extract_if(|_, question| why(question).is_some());
            ended.extend(over.map(|(_, question)| question));
        }
        for question in ended {
            if let Some(why) = why(&question) {
                question.fail(why);
            }
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Question>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Question {
    fn fail(self, why: Unanswered) {
        match self.answers {
            // Where there is no room, the end of the channel says that no more comes.
            Answers::Many { answer, .. } => drop(answer.try_send(Err(why))),
            Answers::One { answer, .. } => drop(answer.send(Err(why))),
            Answers::Written(done) => drop(done.send(Err(why))),
        }
    }
}

impl Open {
    /// Forgets the question. Says whether it was asked; `None` if it has ended already.
    pub(super) fn forget(&self) -> Option<bool> {
        let question = self.questions.open().remove(&self.number)?;
        Some(question.asked_on.is_some())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::interest::example_message;

    type Answer = oneshot::Receiver<Result<ServerMessage, Unanswered>>;

    fn question(questions: &Arc<Questions>, subject: &str) -> (Open, Answer) {
        let (answer, answered) = oneshot::channel();
        let subject = subject.into();
        (questions.add(Answers::One { subject, answer }), answered)
    }

    #[test]
    fn the_first_answer_on_its_own_connection_counts() {
        let questions = Arc::<Questions>::default();
        let [here, elsewhere] = [Ulid::new(), Ulid::new()];
        let (open, mut answer) = question(&questions, "a");
        let reply = |payload| example_message("inbox", "", b"", payload);
        questions.answered(here, open.number, reply(b"too early"));
        assert!(questions.ask(open.number, here));
        questions.answered(elsewhere, open.number, reply(b"elsewhere"));
        assert!(answer.try_recv().is_err());
        questions.answered(here, open.number, reply(b"first"));
        questions.answered(here, open.number, reply(b"second"));
        let answered = answer.try_recv().expect("an answer").expect("a message");
        assert_eq!(&answered.payload[..], b"first");
        assert_eq!(open.forget(), None);
    }

    #[test]
    fn a_question_that_was_not_asked_is_told_from_one_that_was() {
        let questions = Arc::<Questions>::default();
        let connection = Ulid::new();
        let (asked, mut lost) = question(&questions, "a");
        let (waiting, mut away) = question(&questions, "a");
        questions.ask(asked.number, connection);
        questions.lost(Some(Ulid::new()));
        assert!(lost.try_recv().is_err());
        questions.lost(None);
        assert_eq!(lost.try_recv().expect("told"), Err(Unanswered::Lost));
        assert_eq!(away.try_recv().expect("told"), Err(Unanswered::Away));
        assert!(!questions.ask(waiting.number, connection), "it is over");
        let (open, _answer) = question(&questions, "a");
        assert_eq!(open.forget(), Some(false));
        let (dropped, _answer) = question(&questions, "a");
        let number = dropped.number;
        drop(dropped);
        assert!(!questions.ask(number, connection), "nobody waits for it");
    }

    #[test]
    fn a_refusal_ends_what_was_asked_there_alone() {
        let questions = Arc::<Questions>::default();
        let connection = Ulid::new();
        let (forbidden, mut refused) = question(&questions, "a");
        let (other, mut goes_on) = question(&questions, "b");
        let (_later, mut not_asked) = question(&questions, "a");
        for open in [&forbidden, &other] {
            questions.ask(open.number, connection);
        }
        questions.refused(connection, "a");
        assert_eq!(
            refused.try_recv().expect("told"),
            Err(Unanswered::Forbidden("a".into()))
        );
        assert!(goes_on.try_recv().is_err());
        assert!(not_asked.try_recv().is_err());
    }
}
