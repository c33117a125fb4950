//! Questions on NATS: an inbox, and who waits for what comes to it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::mpsc;

use super::wire::ServerMessage;

/// What came of a question.
#[derive(Debug)]
pub(super) enum Answer {
    /// On NATS; also that nobody is there, as its status says.
    Message(ServerMessage),
    /// In this process: nobody is there.
    NoResponders,
    /// In this process: so many sessions have it.
    Sessions(u32),
}

/// All open questions of one connection. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Questions(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `PREFIX.ID.`, before the number of a question.
    inbox: String,
    next: AtomicU64,
    open: Mutex<HashMap<u64, mpsc::Sender<Answer>>>,
}

/// The answers to one question. It is forgotten when this is dropped.
#[derive(Debug)]
pub(super) struct Answers {
    number: u64,
    questions: Questions,
    receiver: mpsc::Receiver<Answer>,
}

impl Questions {
    /// None is open yet.
    pub(super) fn new(reply_prefix: &str) -> Self {
        Self(Arc::new(Inner {
            inbox: format!("{reply_prefix}{}.", ulid::Ulid::new()),
            next: AtomicU64::new(0),
            open: Mutex::default(),
        }))
    }

    /// What to subscribe to.
    pub(super) fn subject(&self) -> String {
        format!("{}*", self.0.inbox)
    }

    /// A question with at most so many answers; more are dropped.
    pub(super) fn ask(&self, answers: usize) -> Answers {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel(answers);
        self.open().insert(number, sender);
        Answers {
            number,
            questions: self.clone(),
            receiver,
        }
    }

    /// An answer came on this subject.
    pub(super) fn answered(&self, subject: &[u8], answer: Answer) {
        let number = subject.strip_prefix(self.0.inbox.as_bytes());
        let number = number.and_then(|number| std::str::from_utf8(number).ok()?.parse().ok());
        let Some(number) = number else { return };
        if let Some(question) = self.open().get(&number) {
            // Full: more than whoever asked has any use for.
            let _ = question.try_send(answer);
        }
    }

    /// The connection is lost: nothing more will be answered.
    pub(super) fn lost(&self) {
        self.open().clear();
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, mpsc::Sender<Answer>>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answers {
    /// Where the answers go.
    pub(super) fn reply(&self) -> String {
        format!("{}{}", self.questions.0.inbox, self.number)
    }

    /// The next answer; none where none can come any more.
    pub(super) async fn next(&mut self) -> Option<Answer> {
        self.receiver.recv().await
    }

    /// The next answer, where it is here already.
    pub(super) fn try_next(&mut self) -> Option<Answer> {
        self.receiver.try_recv().ok()
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.questions.open().remove(&self.number);
    }
}
