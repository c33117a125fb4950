//! What NATS refuses to subscribe.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

use super::{BROADCAST, Reader};
use crate::bus::interest::{
    Event, Subscriber,
    link::{Then, Window},
};

/// How often it is tried whether broadcasts are still forbidden.
const AGAIN: Duration = Duration::from_secs(5);

/// Whether NATS lets this gateway hear broadcasts, as the log tells it.
#[derive(Debug, Default)]
pub(super) struct Broadcasts {
    /// NATS has refused the last subscription.
    refused: bool,
    /// The log says that they are forbidden.
    told: bool,
    /// When they are asked for again. NATS does not begin a subscription again that it has
    /// ended, however its permissions change.
    again: Option<Pin<Box<Sleep>>>,
}

impl Broadcasts {
    /// They are subscribed to anew; the rights may be others by now.
    pub(super) fn note_asked(&mut self) {
        self.refused = false;
        self.again = None;
    }

    pub(super) fn note_forbidden(&mut self, subject: &str) {
        self.refused = true;
        self.again = Some(Box::pin(sleep(AGAIN)));
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
    /// Ready when broadcasts that were refused are subscribed to again.
    pub(super) fn poll_broadcasts(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(again) = &mut self.broadcasts.again else {
            return Poll::Pending;
        };
        ready!(again.as_mut().poll(cx));
        self.broadcasts.note_asked();
        if let Some(link) = self.connection.newest() {
            link.subscribe(BROADCAST, &self.subjects.heard_broadcast());
            link.ping(Window {
                then: Then::Broadcasts,
                ..Window::default()
            });
        }
        Poll::Ready(())
    }

    /// NATS sends an `-ERR` before the PONG of the same window.
    pub(super) fn refused(&mut self, text: &str, by_next: bool) {
        let refused = match text.split_once("for Subscription to ") {
            Some((_, rest)) => {
                let subject = rest.split('"').nth(1).unwrap_or_default();
                // A permission that is taken away later names the subscription.
                let id = rest
                    .split_once("(sid \"")
                    .and_then(|(_, id)| id.split('"').next()?.parse().ok());
                let id = id.or_else(|| self.unconfirmed.get(subject).copied());
                if id == Some(BROADCAST) || subject == self.subjects.heard_broadcast() {
                    self.broadcasts.note_forbidden(subject);
                    let readiness = &self.connection.health().readiness;
                    readiness.broadcast_forbidden(true);
                }
                id
            }
            // Without a subject it is the last one of the window that is not refused yet.
            None if text.to_ascii_lowercase().contains("subscriptions exceeded") => {
                let link = match by_next {
                    true => self.connection.successor(),
                    false => self.connection.current(),
                };
                link.and_then(|link| link.windows().next()?.ids.pop())
            }
            None => None,
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
