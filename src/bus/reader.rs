//! The interest connection: subscribed to the users held here, and no others.
//!
//! One reader and one table from subscription id to subscriber, so a held user
//! costs tens of bytes here and a message finds its way by one look-up. A
//! subscription id is never used twice: a message still under way for a user
//! who has left can reach nobody else.

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use super::{
    Config,
    dial::Dialer,
    interest::{Command, Event, FIRST_ID, Request, Subscriber, Subscriptions},
    link::{Link, Received},
    subject::Subjects,
    wire::{Headers, ServerMessage},
};
use crate::{
    message::{EventName, Message},
    metrics::Metrics,
};

/// Subscription id of the broadcast.
const BROADCAST: u64 = FIRST_ID - 1;
/// Receipts that NATS has not taken yet; beyond it they are dropped, counted.
const MAX_UNSENT: usize = 1024 * 1024;

/// The connection, across all reconnects.
#[derive(Debug)]
pub struct Reader<K> {
    subjects: Subjects,
    metrics: Arc<Metrics>,
    subscriptions: Arc<Subscriptions<K>>,
    /// Who is subscribed, connected or not.
    table: HashMap<u64, K>,
    /// Subscriptions that no PONG has spoken for, by subject: an `-ERR` names
    /// nothing else.
    unconfirmed: HashMap<String, u64>,
    /// What each PONG under way will confirm.
    windows: VecDeque<Window>,
    state: State,
    events: VecDeque<Event<K>>,
}

#[derive(Debug)]
struct Window {
    ids: Vec<u64>,
    /// Ends the resubscribing after a connect.
    connects: bool,
}

enum State {
    Dialing(Pin<Box<dyn Future<Output = (Dialer, Link)> + Send>>),
    Connected(Box<(Dialer, Link)>),
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Dialing(_) => "Dialing",
            Self::Connected(_) => "Connected",
        })
    }
}

impl<K: Subscriber> Reader<K> {
    /// Starts to connect with the first [`Reader::next`].
    pub(super) fn new(
        config: Config,
        subscriptions: Arc<Subscriptions<K>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            subjects: Subjects::new(&config.prefix),
            metrics,
            subscriptions,
            table: HashMap::new(),
            unconfirmed: HashMap::new(),
            windows: VecDeque::new(),
            state: State::Dialing(Box::pin(Dialer::new(config).dial())),
            events: VecDeque::new(),
        }
    }

    /// The next event. Dropping the future loses none.
    pub(super) async fn next(&mut self) -> Event<K> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Answers a publisher, on the connection that brought its question:
    /// NATS's `allow_responses` permits no other.
    pub(super) fn answer(&mut self, reply: &str, payload: &[u8]) {
        match &mut self.state {
            State::Connected(connected) if connected.1.unsent() < MAX_UNSENT => {
                connected.1.publish(reply, None, &[], payload);
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
            let received = match &mut self.state {
                State::Dialing(dialing) => {
                    let (dialer, link) = ready!(dialing.as_mut().poll(cx));
                    self.connected(dialer, link);
                    continue;
                }
                State::Connected(connected) => ready!(connected.1.poll_next(cx)),
            };
            match received {
                Ok(Received::Message(message)) => {
                    if let Some(event) = self.message(message) {
                        return Poll::Ready(event);
                    }
                }
                Ok(Received::Pong) => self.pong(),
                Ok(Received::Error(text)) => self.refused(&text),
                Ok(Received::Info(info)) => {
                    if info.ldm {
                        tracing::info!(server = %info.server_name, "this server of NATS retires");
                    }
                    if let State::Connected(connected) = &mut self.state {
                        connected.0.learn(&info);
                    }
                }
                Err(error) => self.lost(&error),
            }
        }
    }

    fn take_commands(&mut self, cx: &Context<'_>) {
        let mut ids = Vec::new();
        for command in self.subscriptions.take(cx) {
            match command {
                Command::Subscribe(id, subscriber) => {
                    let subject = self.subjects.user(subscriber.user());
                    self.table.insert(id, subscriber);
                    if let State::Connected(connected) = &mut self.state {
                        connected.1.subscribe(id, &subject);
                        self.unconfirmed.insert(subject, id);
                        ids.push(id);
                    }
                }
                Command::Unsubscribe(id) => {
                    let known = self.table.remove(&id).is_some();
                    if let (true, State::Connected(connected)) = (known, &mut self.state) {
                        connected.1.unsubscribe(id);
                    }
                }
            }
        }
        if let (false, State::Connected(connected)) = (ids.is_empty(), &mut self.state) {
            connected.1.ping();
            self.windows.push_back(Window {
                ids,
                connects: false,
            });
        }
        self.metrics.subscriptions.set(self.table.len() as i64);
    }

    fn connected(&mut self, mut dialer: Dialer, mut link: Link) {
        dialer.learn(link.info());
        link.subscribe(BROADCAST, &self.subjects.broadcast());
        for (&id, subscriber) in &self.table {
            let subject = self.subjects.user(subscriber.user());
            link.subscribe(id, &subject);
            self.unconfirmed.insert(subject, id);
        }
        link.ping();
        self.windows.push_back(Window {
            ids: self.table.keys().copied().collect(),
            connects: true,
        });
        self.state = State::Connected(Box::new((dialer, link)));
    }

    fn pong(&mut self) {
        let Some(window) = self.windows.pop_front() else {
            return;
        };
        if let (true, State::Connected(connected)) = (window.connects, &self.state) {
            let info = connected.1.info();
            tracing::info!(server = %info.server_name, version = %info.version, "connected to NATS");
            self.events.push_back(Event::Up {
                clustered: info.cluster.is_some(),
            });
        }
        let mut confirmed = Vec::with_capacity(window.ids.len());
        for id in window.ids {
            if let Some(subscriber) = self.table.get(&id) {
                let subject = self.subjects.user(subscriber.user());
                // A later subscription to the same subject keeps its place.
                if self.unconfirmed.get(&subject) == Some(&id) {
                    self.unconfirmed.remove(&subject);
                }
                confirmed.push((subscriber.clone(), id));
            }
        }
        if self.windows.is_empty() {
            self.unconfirmed = HashMap::new();
        }
        if !confirmed.is_empty() {
            self.events.push_back(Event::Confirmed(confirmed));
        }
    }

    /// NATS sends an `-ERR` before the PONG of the same window.
    fn refused(&mut self, text: &str) {
        tracing::warn!(error = text, "NATS refused an operation");
        let refused = match text.split_once("for Subscription to ") {
            Some((_, rest)) => {
                let subject = rest.split('"').nth(1).unwrap_or_default();
                // A permission that is taken away later names the subscription.
                let id = rest
                    .split_once("(sid \"")
                    .and_then(|(_, id)| id.split('"').next()?.parse().ok());
                let id = id.or_else(|| self.unconfirmed.get(subject).copied());
                if id == Some(BROADCAST) || subject == self.subjects.broadcast() {
                    tracing::error!(subject, "NATS forbids it: no session gets any broadcast");
                }
                id.into_iter().collect()
            }
            // Without a subject it may be any of those under way.
            None if text.to_ascii_lowercase().contains("subscriptions exceeded") => self
                .windows
                .front()
                .map(|window| window.ids.clone())
                .unwrap_or_default(),
            None => Vec::new(),
        };
        for id in refused {
            if let Some(subscriber) = self.table.remove(&id) {
                if let State::Connected(connected) = &mut self.state {
                    connected.1.unsubscribe(id);
                }
                self.events.push_back(Event::Refused(subscriber, id));
            }
        }
    }

    fn lost(&mut self, error: &io::Error) {
        tracing::warn!(%error, "the connection to NATS is lost; reconnecting");
        self.windows.clear();
        self.unconfirmed = HashMap::new();
        // Any state stands in while the dialer moves from one to the other.
        let nothing = State::Dialing(Box::pin(std::future::pending()));
        if let State::Connected(connected) = std::mem::replace(&mut self.state, nothing) {
            self.state = State::Dialing(Box::pin(connected.0.dial()));
        }
        self.events.push_back(Event::Down);
    }

    pub(super) fn message(&self, message: ServerMessage) -> Option<Event<K>> {
        self.metrics.messages_received.inc();
        let event = self.event_name(&message.headers);
        if message.sid == BROADCAST {
            return Some(Event::Broadcast(Message {
                event,
                payload: message.payload,
                broadcast: true,
            }));
        }
        // A message that was under way when its user left.
        let to = self.table.get(&message.sid)?.clone();
        let probe = message.headers.get("Usher-Probe") == Some("1");
        let reply = message
            .reply
            .and_then(|reply| String::from_utf8(reply.to_vec()).ok());
        let request = match reply {
            Some(reply) => Some(Request { reply, probe }),
            // A question that nobody can answer, and no message either.
            None if probe => return None,
            None => None,
        };
        Some(Event::Message {
            to,
            message: Message {
                event,
                payload: message.payload,
                broadcast: false,
            },
            request,
        })
    }

    fn event_name(&self, headers: &Headers) -> EventName {
        match headers.get("Event") {
            None => EventName::default(),
            Some(name) => EventName::parse(name).unwrap_or_else(|_| {
                self.metrics.bad_event_names.inc();
                EventName::default()
            }),
        }
    }

    /// Holds subscribers under these ids, for `fuzz/`.
    #[cfg(fuzzing)]
    pub(super) fn hold(&mut self, subscribers: impl IntoIterator<Item = (u64, K)>) {
        self.table.extend(subscribers);
    }
}
