//! The interest connection: subscribed to the users held here, and no others.
//!
//! One reader and one table from subscription id to subscriber, so a held user
//! costs tens of bytes here and a message finds its way by one look-up. A
//! subscription id is never used twice: a message still under way for a user
//! who has left can reach nobody else.
//!
//! A server that retires (lame duck mode) is left for another before it closes
//! the connection: that one is subscribed to everything, and takes over when it
//! is certain to bring all that follows. Nobody notices.

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep, timeout};

use super::{
    AUTO_SETTLE, Config,
    dial::Dialer,
    interest::{Command, Event, FIRST_ID, Probe, Request, Subscriber, Subscriptions},
    link::{Link, Received},
    overlap::Overlap,
    subject::Subjects,
    successor::{Step, Successor},
    wire::{Headers, Info, ServerMessage},
};
use crate::{
    message::{EventName, Message, Stored},
    metrics::Metrics,
};

/// Subscription id of the broadcast.
const BROADCAST: u64 = FIRST_ID - 1;
/// Receipts that NATS has not taken yet; beyond it they are dropped, counted.
const MAX_UNSENT: usize = 1024 * 1024;
/// A connection that is left has this long to send the last receipts.
const LINGER: Duration = Duration::from_secs(1);

/// The connection, across all reconnects.
#[derive(Debug)]
pub struct Reader<K> {
    subjects: Subjects,
    /// The stream that republishes what is heard; none in live mode.
    stream: Option<String>,
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
    /// What takes over, while this connection's server retires.
    successor: Option<Box<Successor>>,
    /// What the connection that was left may have brought already.
    known: Option<(Overlap, Pin<Box<Sleep>>)>,
    settle: Duration,
    events: VecDeque<Event<K>>,
}

/// What a PONG stands for.
#[derive(Debug)]
pub(super) struct Window {
    /// These subscriptions are confirmed by it.
    pub(super) ids: Vec<u64>,
    pub(super) then: Then,
}

/// What a PONG means besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Nothing,
    /// The end of the resubscribing after a connect.
    Up,
    /// Everything is subscribed on the successor.
    Settle,
    /// All is here that the successor may not have.
    TakeOver,
}

pub(super) type Dialing = Pin<Box<dyn Future<Output = (Dialer, Link)> + Send>>;

enum State {
    Dialing(Dialing),
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
            subjects: Subjects::new(&config.prefix).durable(config.stream.is_some()),
            stream: config.stream.as_ref().map(|stream| stream.name.clone()),
            metrics,
            subscriptions,
            table: HashMap::new(),
            unconfirmed: HashMap::new(),
            windows: VecDeque::new(),
            settle: config.settle.unwrap_or(AUTO_SETTLE),
            state: State::Dialing(Box::pin(Dialer::new(config).dial())),
            successor: None,
            known: None,
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
                State::Connected(connected) => connected.1.poll_next(cx),
            };
            match received {
                Poll::Ready(Ok(Received::Message(message))) => {
                    if let Some(event) = self.brought(message) {
                        return Poll::Ready(event);
                    }
                }
                Poll::Ready(Ok(Received::Pong)) => self.pong(),
                Poll::Ready(Ok(Received::Error(text))) => self.refused(&text),
                Poll::Ready(Ok(Received::Info(info))) => self.learn(&info),
                Poll::Ready(Err(error)) => self.lost(&error),
                Poll::Pending => ready!(self.poll_handover(cx)),
            }
        }
    }

    fn learn(&mut self, info: &Info) {
        if let State::Connected(connected) = &mut self.state {
            connected.0.learn(info);
            if info.ldm && self.successor.is_none() {
                tracing::info!(server = %info.server_name, "this server of NATS retires");
                self.successor = Some(Successor::find(&connected.0));
            }
        }
    }

    /// Brings the successor a step further; pending where there is none, or none
    /// can be taken.
    fn poll_handover(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some((_, forgets)) = &mut self.known
            && forgets.as_mut().poll(cx).is_ready()
        {
            self.known = None;
        }
        let Some(successor) = &mut self.successor else {
            return Poll::Pending;
        };
        let received = match &mut successor.step {
            Step::Dialing(dialing) => {
                let (dialer, mut link) = ready!(dialing.as_mut().poll(cx));
                Self::subscribe_all(&mut link, &self.subjects, &self.table);
                successor.joins(dialer, link);
                return Poll::Ready(());
            }
            Step::Joining(_, link) => ready!(link.poll_next(cx)),
            Step::Settling(_, link, settles) => {
                if let Some(sleep) = settles
                    && sleep.as_mut().poll(cx).is_ready()
                    && let State::Connected(connected) = &mut self.state
                {
                    *settles = None;
                    connected.1.ping();
                    self.windows.push_back(Window {
                        ids: Vec::new(),
                        then: Then::TakeOver,
                    });
                    return Poll::Ready(());
                }
                ready!(link.poll_next(cx))
            }
        };
        match received {
            Ok(Received::Message(message)) => {
                if successor.overlap.hold(message).is_err() {
                    tracing::warn!("too much comes to leave a retiring server of NATS unnoticed");
                    self.find_another_successor();
                }
            }
            Ok(Received::Pong) => {
                if let Some(window) = successor.windows.pop_front() {
                    if window.then == Then::Settle {
                        successor.settles(self.settle);
                    }
                    self.confirm(window.ids);
                }
            }
            Ok(Received::Error(text)) => self.refused(&text),
            Ok(Received::Info(info)) if info.ldm => self.find_another_successor(),
            Ok(Received::Info(_)) => {}
            Err(error) => {
                tracing::debug!(%error, "the next connection to NATS is lost");
                self.find_another_successor();
            }
        }
        Poll::Ready(())
    }

    /// What was held back came on the connection that there is.
    fn find_another_successor(&mut self) {
        if let (Some(successor), State::Connected(connected)) =
            (self.successor.take(), &mut self.state)
        {
            // Whoever waited for a confirmation from it is confirmed here.
            let ids = successor.windows.into_iter().flat_map(|window| window.ids);
            connected.1.ping();
            self.windows.push_back(Window {
                ids: ids.collect(),
                then: Then::Nothing,
            });
            self.successor = Some(Successor::find(&connected.0));
        }
    }

    fn take_over(&mut self) {
        // Another may be under way, which has yet to settle.
        let settled = |next: &mut Box<Successor>| matches!(next.step, Step::Settling(_, _, None));
        let Some(mut successor) = self.successor.take_if(settled) else {
            return;
        };
        let missing = successor.overlap.take_over();
        let Successor {
            step: Step::Settling(mut dialer, link, _),
            overlap,
            windows,
        } = *successor
        else {
            return;
        };
        dialer.learn(link.info());
        tracing::info!(server = %link.info().server_name, "moved to another server of NATS");
        let next = State::Connected(Box::new((dialer, link)));
        if let State::Connected(mut left) = std::mem::replace(&mut self.state, next) {
            tokio::spawn(timeout(LINGER, async move {
                while poll_fn(|cx| left.1.poll_next(cx)).await.is_ok() {}
            }));
        }
        self.windows = windows;
        for message in missing {
            if let Some(event) = self.message(message) {
                self.events.push_back(event);
            }
        }
        // By then whatever the old one brought last has come here too.
        let forgets = 2 * self.settle.max(AUTO_SETTLE);
        self.known = Some((overlap, Box::pin(sleep(forgets))));
    }

    fn take_commands(&mut self, cx: &Context<'_>) {
        let mut ids = Vec::new();
        for command in self.subscriptions.take(cx) {
            match command {
                Command::Subscribe(id, subscriber) => {
                    let subject = self.subjects.heard_user(subscriber.user());
                    self.table.insert(id, subscriber);
                    for link in links(&mut self.state, &mut self.successor) {
                        link.subscribe(id, &subject);
                    }
                    if let State::Connected(_) = self.state {
                        self.unconfirmed.insert(subject, id);
                        ids.push(id);
                    }
                }
                Command::Unsubscribe(id) => {
                    if self.table.remove(&id).is_some() {
                        for link in links(&mut self.state, &mut self.successor) {
                            link.unsubscribe(id);
                        }
                    }
                }
            }
        }
        if !ids.is_empty() {
            // The last of them, which is the one that stays.
            let next = self.successor.as_mut().and_then(|next| next.link());
            let current = match &mut self.state {
                State::Connected(connected) => Some((&mut connected.1, &mut self.windows)),
                State::Dialing(_) => None,
            };
            if let Some((link, windows)) = next.or(current) {
                link.ping();
                windows.push_back(Window {
                    ids,
                    then: Then::Nothing,
                });
            }
        }
        self.metrics.subscriptions.set(self.table.len() as i64);
    }

    fn connected(&mut self, mut dialer: Dialer, mut link: Link) {
        dialer.learn(link.info());
        Self::subscribe_all(&mut link, &self.subjects, &self.table);
        for (&id, subscriber) in &self.table {
            let subject = self.subjects.heard_user(subscriber.user());
            self.unconfirmed.insert(subject, id);
        }
        self.windows.push_back(Window {
            ids: self.table.keys().copied().collect(),
            then: Then::Up,
        });
        self.state = State::Connected(Box::new((dialer, link)));
    }

    /// Subscribes to all that is held, and asks for a PONG.
    fn subscribe_all(link: &mut Link, subjects: &Subjects, table: &HashMap<u64, K>) {
        link.subscribe(BROADCAST, &subjects.heard_broadcast());
        for (&id, subscriber) in table {
            link.subscribe(id, &subjects.heard_user(subscriber.user()));
        }
        link.ping();
    }

    fn pong(&mut self) {
        let Some(window) = self.windows.pop_front() else {
            return;
        };
        match (window.then, &self.state) {
            (Then::Up, State::Connected(connected)) => {
                let info = connected.1.info();
                tracing::info!(server = %info.server_name, version = %info.version, "connected to NATS");
                self.events.push_back(Event::Up {
                    clustered: info.cluster.is_some(),
                });
            }
            (Then::TakeOver, _) => self.take_over(),
            _ => {}
        }
        self.confirm(window.ids);
    }

    fn confirm(&mut self, ids: Vec<u64>) {
        let mut confirmed = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some(subscriber) = self.table.get(&id) {
                let subject = self.subjects.heard_user(subscriber.user());
                // A later subscription to the same subject keeps its place.
                if self.unconfirmed.get(&subject) == Some(&id) {
                    self.unconfirmed.remove(&subject);
                }
                confirmed.push((subscriber.clone(), id));
            }
        }
        if self.windows.is_empty() && self.successor.is_none() {
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
                if id == Some(BROADCAST) || subject == self.subjects.heard_broadcast() {
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
                for link in links(&mut self.state, &mut self.successor) {
                    link.unsubscribe(id);
                }
                self.events.push_back(Event::Refused(subscriber, id));
            }
        }
    }

    fn lost(&mut self, error: &io::Error) {
        tracing::warn!(%error, "the connection to NATS is lost; reconnecting");
        self.windows.clear();
        self.unconfirmed = HashMap::new();
        self.known = None;
        // Any state stands in while the dialer moves from one to the other.
        let nothing = State::Dialing(Box::pin(std::future::pending()));
        if let State::Connected(connected) = std::mem::replace(&mut self.state, nothing) {
            let dialing = match self.successor.take().map(|successor| successor.step) {
                Some(Step::Dialing(dialing)) => dialing,
                _ => Box::pin(connected.0.dial()),
            };
            self.state = State::Dialing(dialing);
        }
        self.events.push_back(Event::Down);
    }

    /// The event of a message that no other connection has brought.
    fn brought(&mut self, message: ServerMessage) -> Option<Event<K>> {
        if let Some(successor) = &mut self.successor
            && successor.link().is_some()
        {
            successor.overlap.delivered(&message);
        }
        if let Some((overlap, _)) = &mut self.known
            && overlap.is_known(&message)
        {
            return None;
        }
        self.message(message)
    }

    pub(super) fn message(&self, message: ServerMessage) -> Option<Event<K>> {
        self.metrics.messages_received.inc();
        let stored = match &self.stream {
            None => None,
            Some(stream) => stored(&message.headers, stream),
        };
        let heard = stored.is_some() || self.stream.is_none();
        let broadcast = message.sid == BROADCAST;
        if broadcast && !heard {
            self.metrics.dropped("not_stored", 1);
            return None;
        }
        // None: a message that was under way when its user left.
        let to = match broadcast {
            true => None,
            false => Some(self.table.get(&message.sid)?.clone()),
        };
        let request = match &to {
            Some(_) => self.request(&message, heard)?,
            None => None,
        };
        let event = event_name(&message.headers).unwrap_or_else(|| {
            self.metrics.bad_event_names.inc();
            EventName::default()
        });
        let message = Message {
            event,
            payload: message.payload,
            broadcast,
            stored,
        };
        Some(match to {
            None => Event::Broadcast(message),
            Some(to) => Event::Message {
                to,
                message,
                request,
            },
        })
    }

    /// What the publisher asks, which may be nothing; none where this is neither a
    /// message nor a question that can be answered.
    fn request(&self, message: &ServerMessage, heard: bool) -> Option<Option<Request>> {
        // What a stream has stored is a message, whatever its headers say.
        let stored = heard && self.stream.is_some();
        let probe = !stored && message.headers.get("Usher-Probe") == Some("1");
        let reply = message.reply.as_ref();
        let reply = reply.and_then(|reply| String::from_utf8(reply.to_vec()).ok());
        let up_to = message.headers.get("Usher-Seq");
        match reply {
            Some(reply) if probe => Some(Some(Request {
                reply,
                probe: Some(Probe {
                    up_to: up_to.and_then(|seq| seq.parse().ok()),
                }),
            })),
            _ if probe => None,
            _ if !heard => {
                self.metrics.dropped("not_stored", 1);
                None
            }
            // The stream has answered already.
            Some(_) if stored => Some(None),
            Some(reply) => Some(Some(Request { reply, probe: None })),
            None => Some(None),
        }
    }

    /// Holds subscribers under these ids, for `fuzz/`.
    #[cfg(fuzzing)]
    pub(super) fn hold(&mut self, subscribers: impl IntoIterator<Item = (u64, K)>) {
        self.table.extend(subscribers);
    }
}

/// The name of a message's event: the default where it has none, and none where it is bad.
pub(super) fn event_name(headers: &Headers) -> Option<EventName> {
    match headers.get("Event") {
        None => Some(EventName::default()),
        Some(name) => EventName::parse(name).ok(),
    }
}

/// Where the server that republished a message says that it is in the stream. What it says
/// comes last: a publisher may have said something else before it.
fn stored(headers: &Headers, stream: &str) -> Option<Stored> {
    let number = |name| headers.last(name)?.parse().ok();
    if headers.last("Nats-Stream") != Some(stream) {
        return None;
    }
    Some(Stored {
        seq: number("Nats-Sequence").filter(|seq| *seq > 0)?,
        prev: number("Nats-Last-Sequence")?,
    })
}

/// The connections that there are: one, or two while the one takes over.
fn links<'a>(
    state: &'a mut State,
    successor: &'a mut Option<Box<Successor>>,
) -> impl Iterator<Item = &'a mut Link> {
    let current = match state {
        State::Connected(connected) => Some(&mut connected.1),
        State::Dialing(_) => None,
    };
    let next = successor.as_mut().and_then(|next| next.link());
    current.into_iter().chain(next.map(|(link, _)| link))
}
