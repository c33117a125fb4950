//! The interest connection: subscribed to the channels of the sessions held here, and to
//! nothing else.
//!
//! One reader and one table from subscription id to subscriber, so a held user costs tens
//! of bytes here and a message finds its way by one look-up. A subscription id is never
//! used twice: a message still under way for a user who has left can reach nobody else.
//!
//! While its server is in lame-duck mode, the next connection is subscribed to everything
//! too, and takes over when it is certain to bring all that follows. Nobody notices.

mod message;
mod refused;

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

pub(in crate::bus) use self::message::{event_name, is_probe, trace_parent};
use self::refused::Broadcasts;
use super::{
    Command, Commands, Event, FIRST_ID, Subscriber,
    link::{Received, Then, Window},
    overlap::Overlap,
    supervisor::{News, Supervisor},
    wire::ServerMessage,
};
use crate::{
    bus::{AUTO_SETTLE, Subjects},
    metrics::Metrics,
    telemetry::Tracer,
};

/// Subscription id of the broadcast.
const BROADCAST: u64 = FIRST_ID - 1;

/// The connection, across all reconnects.
#[derive(Debug)]
pub struct Reader<K> {
    subjects: Subjects,
    /// The stream that republishes what is heard; `None` in live mode.
    stream: Option<String>,
    metrics: Arc<Metrics>,
    tracer: Tracer,
    commands: Commands<K>,
    /// Who is subscribed, connected or not.
    table: HashMap<u64, K>,
    /// Subscriptions that no PONG has confirmed, by subject: an `-ERR` names nothing else.
    unconfirmed: HashMap<String, u64>,
    /// Subscriptions that NATS refused since the last PONG.
    refused: Vec<(K, u64)>,
    connection: Supervisor,
    broadcasts: Broadcasts,
    /// While the next connection prepares to take over.
    handover: Option<Handover>,
    /// What the connection that was left may have brought already.
    known: Option<(Overlap, Pin<Box<Sleep>>)>,
    settle: Duration,
    events: VecDeque<Event<K>>,
}

/// The next connection's way to become the current one.
#[derive(Debug, Default)]
struct Handover {
    /// What each of the two connections has brought.
    overlap: Overlap,
    /// Everything is subscribed there; the other servers of the cluster learn of it now.
    settles: Option<Pin<Box<Sleep>>>,
}

impl<K: Subscriber> Reader<K> {
    /// Starts to connect with the first [`Reader::next`].
    pub(in crate::bus) fn new(
        connection: Supervisor,
        subjects: Subjects,
        stream: Option<String>,
        settle: Option<Duration>,
        commands: Commands<K>,
        (metrics, tracer): (Arc<Metrics>, Tracer),
    ) -> Self {
        Self {
            subjects,
            stream,
            metrics,
            tracer,
            commands,
            table: HashMap::new(),
            unconfirmed: HashMap::new(),
            refused: Vec::new(),
            broadcasts: Broadcasts::default(),
            connection,
            handover: None,
            known: None,
            settle: settle.unwrap_or(AUTO_SETTLE),
            events: VecDeque::new(),
        }
    }

    /// The next event. Dropping the future loses none.
    pub(super) async fn next(&mut self) -> Event<K> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Answers a publisher, on the connection that brought its question: NATS's
    /// `allow_responses` permits no other. Where it has no room the answer is dropped, counted.
    pub(super) fn answer(&mut self, reply: &str, payload: &[u8]) {
        match self.connection.current() {
            Some(link) if link.has_room() => {
                link.publish(reply, None, &[], payload);
                self.metrics.receipts("sent");
            }
            _ => self.metrics.receipts("dropped"),
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Event<K>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            self.take_commands(cx);
            let Poll::Ready(news) = self.connection.poll_next(cx) else {
                ready!(self.poll_timers(cx));
                continue;
            };
            match news {
                News::Up => self.subscribe_all(Then::Up),
                News::Received(Received::Message(message)) => {
                    if let Some(event) = self.brought(message) {
                        return Poll::Ready(event);
                    }
                }
                News::Received(Received::Pong(window))
                | News::FromSuccessor(Received::Pong(window)) => {
                    self.pong(window);
                }
                News::Received(Received::Error(text)) => self.refused(&text, false),
                News::FromSuccessor(Received::Error(text)) => self.refused(&text, true),
                News::FromSuccessor(Received::Message(message)) => self.hold_back(message),
                News::SuccessorUp => {
                    self.handover = Some(Handover::default());
                    self.subscribe_all(Then::Subscribed);
                }
                News::SuccessorLost => self.give_up_handover(),
                News::Down => self.lost(),
                News::AskAgain => self.ask_for_broadcasts(),
                News::Received(_) | News::FromSuccessor(_) | News::FromOld(..) | News::Ended(_) => {
                }
            }
        }
    }

    /// Ready when a timer has ended and something was done.
    fn poll_timers(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some((_, forgets)) = &mut self.known
            && forgets.as_mut().poll(cx).is_ready()
        {
            self.known = None;
        }
        let Some(handover) = &mut self.handover else {
            return Poll::Pending;
        };
        let Some(settles) = &mut handover.settles else {
            return Poll::Pending;
        };
        ready!(settles.as_mut().poll(cx));
        handover.settles = None;
        handover.overlap.settled();
        if let Some(link) = self.connection.current() {
            link.ping(Window::then(Then::TakeOver));
        }
        Poll::Ready(())
    }

    /// Subscribes to everything on the newest connection.
    fn subscribe_all(&mut self, then: Then) {
        let readiness = &self.connection.health().readiness;
        readiness.broadcast_forbidden(false);
        let Some(link) = self.connection.newest() else {
            return;
        };
        link.subscribe(BROADCAST, &self.subjects.heard_broadcast());
        self.broadcasts.note_asked();
        for (&id, subscriber) in &self.table {
            let subject = self.subjects.heard(subscriber.audience());
            link.subscribe(id, &subject);
            self.unconfirmed.insert(subject, id);
        }
        // In the order in which NATS gets them.
        let ids = self.table.keys().copied().collect();
        link.ping(Window { ids, then });
    }

    /// The next connection has brought a message.
    fn hold_back(&mut self, message: ServerMessage) {
        if let Some(handover) = &mut self.handover
            && handover.overlap.hold(message).is_err()
        {
            tracing::warn!("too many messages come to leave a nats-server unnoticed");
            self.connection.drop_successor();
            self.give_up_handover();
        }
    }

    /// The next connection is gone. Its messages came on the current one too.
    fn give_up_handover(&mut self) {
        self.handover = None;
        let Some(link) = self.connection.current() else {
            return;
        };
        // A PONG under way says nothing about the connection after this one.
        for window in link.windows() {
            if window.then == Then::TakeOver {
                window.then = Then::Nothing;
            }
        }
        // Joins that waited for a confirmation from it are confirmed here.
        link.ping(Window::of(self.unconfirmed.values().copied().collect()));
    }

    fn take_over(&mut self) {
        let Some(Handover { mut overlap, .. }) = self.handover.take() else {
            return;
        };
        self.connection.promote();
        for message in overlap.take_over() {
            if let Some(event) = self.message(message) {
                self.events.push_back(event);
            }
        }
        // By then the last messages of the connection that was left have come here too.
        let forgets = 2 * self.settle.max(AUTO_SETTLE);
        self.known = Some((overlap, Box::pin(sleep(forgets))));
    }

    /// Subscribes and unsubscribes. In each window NATS gets first what ends and then what
    /// begins, so that a limit refuses the last ones of a window.
    fn take_commands(&mut self, cx: &mut Context<'_>) {
        let mut begins = Vec::new();
        while let Poll::Ready(Some(command)) = self.commands.poll_recv(cx) {
            match command {
                Command::Subscribe(id, subscriber) => {
                    self.table.insert(id, subscriber);
                    begins.push(id);
                }
                Command::Unsubscribe(id) => {
                    if self.table.remove(&id).is_some() && !begins.contains(&id) {
                        self.connection
                            .links()
                            .for_each(|link| link.unsubscribe(id));
                    }
                }
            }
        }
        begins.retain(|id| self.table.contains_key(id));
        self.metrics.subscriptions.set(self.table.len() as i64);
        if begins.is_empty() {
            return;
        }
        for id in &begins {
            let subject = self.subjects.heard(self.table[id].audience());
            for link in self.connection.links() {
                link.subscribe(*id, &subject);
            }
            if self.connection.current().is_some() {
                self.unconfirmed.insert(subject, *id);
            }
        }
        // The connection that stays confirms.
        if let Some(link) = self.connection.newest() {
            link.ping(Window::of(begins));
        }
    }

    fn pong(&mut self, window: Window) {
        match window.then {
            Then::Nothing => {}
            Then::Up => {
                if let Some(link) = self.connection.current() {
                    let clustered = link.info().cluster.is_some();
                    self.connection.tell_up();
                    self.broadcasts.note_heard();
                    self.events.push_back(Event::Up { clustered });
                }
            }
            Then::Subscribed => {
                if let Some(handover) = &mut self.handover {
                    handover.overlap.subscribed();
                    handover.settles = Some(Box::pin(sleep(self.settle)));
                }
            }
            Then::TakeOver => {
                self.take_over();
                self.broadcasts.note_heard();
            }
            Then::Broadcasts => {
                if self.broadcasts.note_heard() {
                    let readiness = &self.connection.health().readiness;
                    readiness.broadcast_forbidden(false);
                }
            }
        }
        self.confirm(window.ids);
    }

    fn confirm(&mut self, ids: Vec<u64>) {
        self.tell_of_refused();
        let mut confirmed = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some(subscriber) = self.table.get(&id) {
                let subject = self.subjects.heard(subscriber.audience());
                // A later subscription to the same subject keeps its entry.
                if self.unconfirmed.get(&subject) == Some(&id) {
                    self.unconfirmed.remove(&subject);
                }
                confirmed.push((subscriber.clone(), id));
            }
        }
        if self.is_idle() {
            self.unconfirmed = HashMap::new();
        }
        if !confirmed.is_empty() {
            self.events.push_back(Event::Confirmed(confirmed));
        }
    }

    /// Whether no PONG is under way that would confirm anything.
    fn is_idle(&mut self) -> bool {
        let link = self.connection.current();
        self.handover.is_none() && link.is_none_or(|link| link.windows().next().is_none())
    }

    fn lost(&mut self) {
        self.unconfirmed = HashMap::new();
        self.known = None;
        self.handover = None;
        self.tell_of_refused();
        self.events.push_back(Event::Down);
    }

    /// The event of a message that no other connection has brought.
    fn brought(&mut self, message: ServerMessage) -> Option<Event<K>> {
        if let Some(handover) = &mut self.handover {
            handover.overlap.delivered(&message);
        }
        if let Some((overlap, _)) = &mut self.known
            && overlap.cancel_out(&message)
        {
            return None;
        }
        self.message(message)
    }

    /// Holds subscribers under these ids, for `fuzz/`.
    #[cfg(fuzzing)]
    pub(in crate::bus) fn hold(&mut self, subscribers: impl IntoIterator<Item = (u64, K)>) {
        self.table.extend(subscribers);
    }
}

#[cfg(test)]
mod tests;
