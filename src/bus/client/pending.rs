//! Messages under way, and who waits for what comes of each: one inbox, and a table by
//! number. An entry is forgotten when nobody waits for it any more.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_nats::Message;
use tokio::sync::{Notify, mpsc, watch};

use super::echoes::Echoes;

/// What has become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    UnderWay,
    /// NATS has it.
    Confirmed,
    /// NATS forbids it.
    Forbidden,
    /// Nobody learns it: the connection, or its echo, was lost.
    Lost,
    /// As `Lost`, and NATS closed the connection over a message that is too large: perhaps this
    /// one.
    MaybeTooLarge,
}

/// All messages under way.
#[derive(Debug)]
pub(super) struct Pending {
    /// `PREFIX.ID.`, before the number of a message.
    inbox: String,
    state: Mutex<State>,
    /// Told when the last entry goes.
    idle: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    entries: HashMap<u64, Entry>,
    echoes: Echoes,
}

#[derive(Debug)]
struct Entry {
    subject: String,
    fate: watch::Sender<Fate>,
    answers: mpsc::Sender<Box<Message>>,
}

impl Entry {
    /// What becomes of it is known, where it was not before.
    fn decide(&self, decided: Fate) {
        self.fate.send_if_modified(|fate| {
            let open = *fate == Fate::UnderWay;
            if open {
                *fate = decided;
            }
            open
        });
    }
}

/// What comes of a message, for those who wait for it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) number: u64,
    pub(super) fate: watch::Receiver<Fate>,
    /// Ends when none can come any more. NATS's word that nobody is there is one.
    pub(super) answers: mpsc::Receiver<Box<Message>>,
}

impl Pending {
    pub(super) fn new(reply_prefix: &str) -> Self {
        Self {
            inbox: format!("{reply_prefix}{}.", ulid::Ulid::new()),
            state: Mutex::default(),
            idle: Notify::new(),
        }
    }

    /// What to subscribe to.
    pub(super) fn subject(&self) -> String {
        format!("{}*", self.inbox)
    }

    /// Where the answers to a message go.
    pub(super) fn reply(&self, number: u64) -> String {
        format!("{}{number}", self.inbox)
    }

    /// Adds a message to `subject`, of whose answers at most `answers` are kept.
    pub(super) fn add(&self, subject: &str, answers: usize) -> Outcome {
        let (fate, fate_receiver) = watch::channel(Fate::UnderWay);
        let (answers, answers_receiver) = mpsc::channel(answers.max(1));
        let entry = Entry {
            subject: subject.to_owned(),
            fate,
            answers,
        };
        let mut state = self.state();
        state.next += 1;
        let number = state.next;
        state.entries.insert(number, entry);
        Outcome {
            number,
            fate: fate_receiver,
            answers: answers_receiver,
        }
    }

    pub(super) fn forget(&self, number: u64) {
        let mut state = self.state();
        state.entries.remove(&number);
        if state.entries.is_empty() {
            self.idle.notify_waiters();
        }
    }

    /// Waits until nothing is under way.
    pub(super) async fn idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.state().entries.is_empty() {
                return;
            }
            idle.await;
        }
    }

    /// An answer came to the inbox. Where there is no room, there are more answers than the
    /// caller has a use for.
    pub(super) fn answered(&self, answer: Message) {
        let number = answer.subject.strip_prefix(&*self.inbox);
        if let Some(number) = number.and_then(|number| number.parse().ok())
            && let Some(entry) = self.state().entries.get(&number)
        {
            let _ = entry.answers.try_send(Box::new(answer));
        }
    }

    /// A message waits for an echo. Returns the echo to publish, if one is needed.
    pub(super) fn wants_echo(&self, number: u64) -> Option<u64> {
        self.state().echoes.join(number)
    }

    /// An echo has come back: NATS has the messages that waited for it. Returns the echo to
    /// publish next; `None` for an echo that was not under way.
    pub(super) fn echoed(&self, echo: u64) -> Option<Option<u64>> {
        let mut state = self.state();
        let (confirmed, next) = state.echoes.returned(echo)?;
        for number in confirmed {
            if let Some(entry) = state.entries.get(&number) {
                entry.decide(Fate::Confirmed);
            }
        }
        Some(next)
    }

    /// No echo proves anything, though the connection stays: nobody learns what becomes of the
    /// messages that were handed over. Answers still come.
    pub(super) fn unheard(&self) {
        let mut state = self.state();
        state.echoes.lost();
        for entry in state.entries.values() {
            entry.decide(Fate::Lost);
        }
    }

    /// NATS forbids to publish to `subject`. It says so in the order in which messages
    /// came, so it means the oldest that it has not confirmed.
    pub(super) fn forbidden(&self, subject: &str) {
        let entries = &mut self.state().entries;
        let of_subject = entries.iter().filter(|(_, entry)| entry.subject == subject);
        let in_order = |(number, entry): &(&u64, &Entry)| {
            let is_decided = *entry.fate.borrow() != Fate::UnderWay;
            (is_decided, **number)
        };
        if let Some((&number, _)) = of_subject.min_by_key(in_order)
            && let Some(entry) = entries.remove(&number)
        {
            entry.fate.send_replace(Fate::Forbidden);
        }
    }

    /// The connection was lost, perhaps since NATS found a message too large: nothing more comes
    /// of what is under way. Returns whether anything was.
    pub(super) fn lost(&self, too_large: bool) -> bool {
        let fate = match too_large {
            true => Fate::MaybeTooLarge,
            false => Fate::Lost,
        };
        let mut state = self.state();
        state.echoes.lost();
        let entries = std::mem::take(&mut state.entries);
        entries.values().for_each(|entry| entry.decide(fate));
        self.idle.notify_waiters();
        !entries.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
