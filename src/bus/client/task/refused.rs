//! What NATS refuses: whose it was, and when it is asked for again.

use std::sync::atomic::Ordering;

use tokio::time::sleep;

use super::{Connection, Task, Work, subscribe_again};
use crate::bus::refusal::{AGAIN, Refusal};

impl Task {
    /// NATS refuses something of this connection.
    pub(super) fn refused(&mut self, refusal: Refusal<'_>) {
        self.client.refused(refusal);
        self.note_refused(refusal);
        self.too_large |= refusal == Refusal::TooLarge;
        if !self.client.is_open() {
            return;
        }
        // NATS permitted it before: its permissions were loaded anew.
        if self.client.deaf.load(Ordering::Relaxed) {
            self.client.forbid();
            self.proving = Some(Box::pin(subscribe_again(self.client.clone())));
        } else if let Refusal::Publish(subject) = refusal
            && self.proving.is_none()
            && self.client.is_of_user(subject)
        {
            self.prove();
        }
    }

    /// It may be a subscription.
    fn note_refused(&mut self, refusal: Refusal<'_>) {
        if let Refusal::Subscription { subject, .. } = refusal {
            self.inbox_refused |= subject == self.client.pending.subject();
        }
        if self.inbox_refused || self.client.peers_forbidden.load(Ordering::Relaxed) {
            let again = || Box::pin(sleep(AGAIN)) as Work;
            self.again.get_or_insert_with(again);
        }
    }

    /// Asks for what was refused. The echo is another matter: pushes wait for it.
    pub(super) async fn subscribe_again(&mut self) {
        self.client.ask_again_for_peers();
        if std::mem::take(&mut self.inbox_refused) {
            let inbox = self.client.pending.subject();
            if let Ok(inbox) = self.client.nats.subscribe(inbox).await {
                self.inbox = inbox;
            }
        }
    }
}

impl Connection {
    /// NATS forbids something, in the order in which it was asked.
    fn refused(&self, refusal: Refusal<'_>) {
        let (Refusal::Publish(subject) | Refusal::Subscription { subject, .. }) = refusal else {
            return;
        };
        self.peers_refused(refusal);
        if subject == self.subjects.echo() {
            // Without its echo no push is confirmed, the probe first of all.
            self.deaf.store(true, Ordering::Relaxed);
            self.pending.forbidden(&self.subjects.probe());
            self.pending.unheard();
        } else if subject.starts_with(&self.subjects.presence("")) {
            // No task waits for the outcome of such a hint.
            self.health.metrics.presence_dropped.inc();
        } else if refusal == Refusal::Publish(subject) {
            self.pending.forbidden(subject);
        }
    }
}
