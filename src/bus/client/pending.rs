//! Messages under way, and who waits for what comes of each: one inbox, and a table by
//! number. An entry is forgotten when nobody waits for it any more.

use std::{
    collections::HashMap,
    fmt::Display,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_nats::Message;
use tokio::sync::{Notify, mpsc};

/// What comes of a message.
#[derive(Debug)]
pub(super) enum Arrival {
    /// NATS has it.
    Echo,
    /// Somebody has answered it, or NATS says that nobody is there.
    Answer(Box<Message>),
    /// NATS forbids it.
    Forbidden,
    /// The connection was lost.
    Lost,
}

/// All messages under way.
#[derive(Debug)]
pub(super) struct Pending {
    /// `PREFIX.ID.`, before the number of a message.
    inbox: String,
    next: AtomicU64,
    entries: Mutex<HashMap<u64, Entry>>,
    /// Told when the last entry goes.
    idle: Notify,
}

#[derive(Debug)]
struct Entry {
    subject: String,
    arrivals: mpsc::Sender<Arrival>,
}

impl Pending {
    pub(super) fn new(reply_prefix: &str) -> Self {
        Self {
            inbox: format!("{reply_prefix}{}.", ulid::Ulid::new()),
            next: AtomicU64::new(0),
            entries: Mutex::default(),
            idle: Notify::new(),
        }
    }

    /// What to subscribe to.
    pub(super) fn subject(&self) -> String {
        format!("{}*", self.inbox)
    }

    /// A message to `subject`, of which at most so many answers are kept.
    pub(super) fn add(&self, subject: &str, answers: usize) -> (u64, mpsc::Receiver<Arrival>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        // And an echo, and how it ended.
        let (arrivals, receiver) = mpsc::channel(answers + 2);
        let subject = subject.to_owned();
        self.entries().insert(number, Entry { subject, arrivals });
        (number, receiver)
    }

    /// Where the answers to a message go.
    pub(super) fn reply(&self, number: impl Display) -> String {
        format!("{}{number}", self.inbox)
    }

    pub(super) fn forget(&self, number: u64) {
        let mut entries = self.entries();
        entries.remove(&number);
        if entries.is_empty() {
            self.idle.notify_waiters();
        }
    }

    /// Waits until nothing is under way.
    pub(super) async fn idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.entries().is_empty() {
                return;
            }
            idle.await;
        }
    }

    /// An answer came to the inbox.
    pub(super) fn answered(&self, answer: Message) {
        let number = answer.subject.strip_prefix(&*self.inbox);
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            self.tell(number, Arrival::Answer(Box::new(answer)));
        }
    }

    /// NATS has these messages.
    pub(super) fn confirmed(&self, numbers: Vec<u64>) {
        for number in numbers {
            self.tell(number, Arrival::Echo);
        }
    }

    /// NATS forbids to publish to `subject`. It says so in the order in which messages
    /// came, so it means the oldest.
    pub(super) fn forbidden(&self, subject: &str) {
        let mut entries = self.entries();
        let of_subject = entries.iter().filter(|(_, entry)| entry.subject == subject);
        if let Some(number) = of_subject.map(|(number, _)| *number).min()
            && let Some(entry) = entries.remove(&number)
        {
            let _ = entry.arrivals.try_send(Arrival::Forbidden);
        }
    }

    /// The connection was lost: nothing more comes of what is under way.
    /// Returns whether anything was.
    pub(super) fn lost(&self) -> bool {
        let entries = std::mem::take(&mut *self.entries());
        for entry in entries.values() {
            let _ = entry.arrivals.try_send(Arrival::Lost);
        }
        self.idle.notify_waiters();
        !entries.is_empty()
    }

    /// Where there is no room, there are more answers than the caller has a use for.
    fn tell(&self, number: u64, arrival: Arrival) {
        if let Some(entry) = self.entries().get(&number) {
            let _ = entry.arrivals.try_send(arrival);
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
