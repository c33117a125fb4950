//! What NATS refuses to subscribe.

use super::{BROADCAST, Reader};
use crate::bus::{
    interest::{
        Event, Subscriber,
        link::{Then, Window},
    },
    refusal::Refusal,
};

/// Whether NATS lets this gateway hear broadcasts, as the log tells it.
#[derive(Debug, Default)]
pub(super) struct Broadcasts {
    /// NATS has refused the last subscription.
    refused: bool,
    /// The log says that they are forbidden.
    told: bool,
}

impl Broadcasts {
    /// They are subscribed to anew; the rights may be others by now.
    pub(super) fn note_asked(&mut self) {
        self.refused = false;
    }

    pub(super) fn note_forbidden(&mut self, subject: &str) {
        self.refused = true;
        if !std::mem::replace(&mut self.told, true) {
            tracing::error!(subject, "NATS forbids it: no session gets any broadcast");
        }
    }

    /// NATS has answered all that was asked for. Whether it permits them.
    pub(super) fn note_heard(&mut self) -> bool {
        if !self.refused && std::mem::take(&mut self.told) {
            tracing::info!("NATS permits broadcasts again: sessions get them");
        }
        !self.refused
    }
}

impl<K: Subscriber> Reader<K> {
    /// Subscribes to broadcasts again, where they were refused.
    pub(super) fn ask_for_broadcasts(&mut self) {
        if self.broadcasts.refused
            && let Some(link) = self.connection.newest()
        {
            self.broadcasts.note_asked();
            link.subscribe(BROADCAST, &self.subjects.heard_broadcast());
            link.ping(Window::then(Then::Broadcasts));
        }
    }

    /// NATS sends an `-ERR` before the PONG of the same window.
    pub(super) fn refused(&mut self, text: &str, by_next: bool) {
        let refused = match Refusal::of(text) {
            Some(Refusal::Subscription { subject, id }) => {
                let id = id.or_else(|| self.unconfirmed.get(subject).copied());
                if id == Some(BROADCAST) || subject == self.subjects.heard_broadcast() {
                    self.broadcasts.note_forbidden(subject);
                    let readiness = &self.connection.health().readiness;
                    readiness.broadcast_forbidden(true);
                }
                id
            }
            // Without a subject it is the last one of the window that is not refused yet.
            Some(Refusal::TooManySubscriptions) => {
                let link = match by_next {
                    true => self.connection.successor(),
                    false => self.connection.current(),
                };
                link.and_then(|link| link.windows().next()?.ids.pop())
            }
            _ => None,
        };
        let Some(id) = refused else { return };
        if let Some(subscriber) = self.table.remove(&id) {
            for link in self.connection.links() {
                link.unsubscribe(id);
            }
            self.refused.push((subscriber, id));
        }
        // A permission that is taken away later belongs to no window.
        if self.is_idle() {
            self.tell_of_refused();
        }
    }

    /// Tells together of all that was refused in a window, so that the registry can spread
    /// what follows.
    pub(super) fn tell_of_refused(&mut self) {
        if !self.refused.is_empty() {
            let refused = std::mem::take(&mut self.refused);
            self.events.push_back(Event::Refused(refused));
        }
    }
}
