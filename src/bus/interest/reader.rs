//! The interest connection: subscribed to the channels of the sessions held here, and to
//! nothing else.
//!
//! One reader and one table from subscription id to subscriber, so a held user costs tens
//! of bytes here and a message finds its way by one look-up. A subscription id is never
//! used twice: a message still under way for a user who has left can reach nobody else.
//!
//! While its server is in lame-duck mode, the next connection is subscribed to everything
//! too, and takes over when it is certain to bring all that follows. Nobody notices.

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

use super::{
    Command, Event, FIRST_ID, Probe, Request, Subscriber, Subscriptions,
    link::Received,
    overlap::Overlap,
    supervisor::{News, Supervisor},
    wire::{Headers, ServerMessage},
};
use crate::{
    bus::{AUTO_SETTLE, Subjects},
    message::{EventName, Message, Stored, millis_of},
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
    /// The stream that republishes what is heard; none in live mode.
    stream: Option<String>,
    metrics: Arc<Metrics>,
    subscriptions: Arc<Subscriptions<K>>,
    /// Who is subscribed, connected or not.
    table: HashMap<u64, K>,
    /// Subscriptions that no PONG has confirmed, by subject: an `-ERR` names nothing else.
    unconfirmed: HashMap<String, u64>,
    /// Subscriptions that NATS refused since the last PONG.
    refused: Vec<(K, u64)>,
    /// What each PONG under way on the current connection will confirm.
    windows: VecDeque<Window>,
    connection: Supervisor,
    /// While the next connection prepares to take over.
    handover: Option<Box<Handover>>,
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
    /// What each PONG under way on the next connection will confirm.
    windows: VecDeque<Window>,
    /// Everything is subscribed there; the other servers of the cluster learn of it now.
    settles: Option<Pin<Box<Sleep>>>,
}

/// What a PONG stands for.
#[derive(Debug)]
struct Window {
    /// These subscriptions are confirmed by it.
    ids: Vec<u64>,
    then: Then,
}

/// What a PONG means besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Nothing,
    /// The end of the resubscribing after a connect.
    Up,
    /// Everything is subscribed on the next connection.
    Settle,
    /// Every message that the next connection may have missed has arrived.
    TakeOver,
}

impl<K: Subscriber> Reader<K> {
    /// Starts to connect with the first [`Reader::next`].
    pub(in crate::bus) fn new(
        connection: Supervisor,
        subjects: Subjects,
        stream: Option<String>,
        settle: Option<Duration>,
        subscriptions: Arc<Subscriptions<K>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            subjects,
            stream,
            metrics,
            subscriptions,
            table: HashMap::new(),
            unconfirmed: HashMap::new(),
            refused: Vec::new(),
            windows: VecDeque::new(),
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
    /// `allow_responses` permits no other.
    pub(super) fn answer(&mut self, reply: &str, payload: &[u8]) {
        match self.connection.current() {
            Some(link) if link.unsent() < MAX_UNSENT => {
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
                News::Up => self.connected(),
                News::Received(Received::Message(message)) => {
                    if let Some(event) = self.brought(message) {
                        return Poll::Ready(event);
                    }
                }
                News::Received(Received::Pong) => self.pong(),
                News::Received(Received::Error(text)) => self.refused(&text, false),
                News::Down => self.lost(),
                News::Next => self.begin_handover(),
                News::FromNext(received) => self.prepare_next(received),
                News::NextLost => self.give_up_handover(),
                News::Received(_) | News::FromLeft(_) | News::Ended(_) => {}
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
        self.expect_pong(Vec::new(), Then::TakeOver);
        Poll::Ready(())
    }

    /// Asks the current connection for a PONG.
    fn expect_pong(&mut self, ids: Vec<u64>, then: Then) {
        if let Some(link) = self.connection.current() {
            link.ping();
            self.windows.push_back(Window { ids, then });
        }
    }

    fn connected(&mut self) {
        let ids = self.subscribe_all(false);
        for (&id, subscriber) in &self.table {
            let subject = self.subjects.heard_user(subscriber.user());
            self.unconfirmed.insert(subject, id);
        }
        self.expect_pong(ids, Then::Up);
    }

    /// Subscribes to everything on the current or the next connection; the ids in the
    /// order in which NATS gets them.
    fn subscribe_all(&mut self, next: bool) -> Vec<u64> {
        let link = match next {
            true => self.connection.next(),
            false => self.connection.current(),
        };
        let Some(link) = link else { return Vec::new() };
        link.subscribe(BROADCAST, &self.subjects.heard_broadcast());
        for (&id, subscriber) in &self.table {
            link.subscribe(id, &self.subjects.heard_user(subscriber.user()));
        }
        self.table.keys().copied().collect()
    }

    fn begin_handover(&mut self) {
        let ids = self.subscribe_all(true);
        let mut handover = Box::<Handover>::default();
        if let Some(link) = self.connection.next() {
            link.ping();
            let then = Then::Settle;
            handover.windows.push_back(Window { ids, then });
        }
        self.handover = Some(handover);
    }

    fn prepare_next(&mut self, received: Received) {
        let Some(handover) = &mut self.handover else {
            return;
        };
        match received {
            Received::Message(message) => {
                if handover.overlap.hold(message).is_err() {
                    tracing::warn!("too many messages come to leave a nats-server unnoticed");
                    self.connection.drop_next();
                    self.give_up_handover();
                }
            }
            Received::Pong => {
                let Some(window) = handover.windows.pop_front() else {
                    return;
                };
                if window.then == Then::Settle {
                    handover.settles = Some(Box::pin(sleep(self.settle)));
                }
                self.confirm(window.ids);
            }
            Received::Error(text) => self.refused(&text, true),
            Received::Info(_) | Received::Nonsense => {}
        }
    }

    /// The next connection is gone. Its messages came on the current one too.
    fn give_up_handover(&mut self) {
        if let Some(handover) = self.handover.take() {
            // Joins that waited for a confirmation from it are confirmed here.
            let ids = handover.windows.into_iter().flat_map(|window| window.ids);
            // A PONG under way says nothing about the connection after this one.
            for window in &mut self.windows {
                if window.then == Then::TakeOver {
                    window.then = Then::Nothing;
                }
            }
            self.expect_pong(ids.collect(), Then::Nothing);
        }
    }

    fn take_over(&mut self) {
        let Some(handover) = self.handover.take() else {
            return;
        };
        let Handover {
            mut overlap,
            windows,
            ..
        } = *handover;
        self.connection.promote();
        self.windows = windows;
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
    fn take_commands(&mut self, cx: &Context<'_>) {
        let mut begins = Vec::new();
        for command in self.subscriptions.take(cx) {
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
            let subject = self.subjects.heard_user(self.table[id].user());
            for link in self.connection.links() {
                link.subscribe(*id, &subject);
            }
            if self.connection.current().is_some() {
                self.unconfirmed.insert(subject, *id);
            }
        }
        // The connection that stays confirms.
        match (&mut self.handover, self.connection.next()) {
            (Some(handover), Some(link)) => {
                link.ping();
                let (ids, then) = (begins, Then::Nothing);
                handover.windows.push_back(Window { ids, then });
            }
            _ => self.expect_pong(begins, Then::Nothing),
        }
    }

    fn pong(&mut self) {
        let Some(window) = self.windows.pop_front() else {
            return;
        };
        match window.then {
            Then::Up => {
                if let Some(link) = self.connection.current() {
                    let info = link.info().clone();
                    let clustered = info.cluster.is_some();
                    self.connection
                        .health()
                        .up(&info.server_name, &info.version);
                    self.events.push_back(Event::Up { clustered });
                }
            }
            Then::TakeOver => self.take_over(),
            Then::Nothing | Then::Settle => {}
        }
        self.confirm(window.ids);
    }

    fn confirm(&mut self, ids: Vec<u64>) {
        self.tell_of_refused();
        let mut confirmed = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some(subscriber) = self.table.get(&id) {
                let subject = self.subjects.heard_user(subscriber.user());
                // A later subscription to the same subject keeps its entry.
                if self.unconfirmed.get(&subject) == Some(&id) {
                    self.unconfirmed.remove(&subject);
                }
                confirmed.push((subscriber.clone(), id));
            }
        }
        if self.windows.is_empty() && self.handover.is_none() {
            self.unconfirmed = HashMap::new();
        }
        if !confirmed.is_empty() {
            self.events.push_back(Event::Confirmed(confirmed));
        }
    }

    /// NATS sends an `-ERR` before the PONG of the same window.
    fn refused(&mut self, text: &str, by_next: bool) {
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
                id
            }
            // Without a subject it is the last one of the window that is not refused yet.
            None if text.to_ascii_lowercase().contains("subscriptions exceeded") => {
                let windows = match &mut self.handover {
                    Some(handover) if by_next => &mut handover.windows,
                    _ => &mut self.windows,
                };
                windows.front_mut().and_then(|window| window.ids.pop())
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
        if self.windows.is_empty() && self.handover.is_none() {
            self.tell_of_refused();
        }
    }

    /// Tells of all that was refused in a window at once, so that the registry can spread
    /// what follows.
    fn tell_of_refused(&mut self) {
        if !self.refused.is_empty() {
            let refused = std::mem::take(&mut self.refused);
            self.events.push_back(Event::Refused(refused));
        }
    }

    fn lost(&mut self) {
        self.windows.clear();
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
            && overlap.is_known(&message)
        {
            return None;
        }
        self.message(message)
    }

    pub(in crate::bus) fn message(&self, message: ServerMessage) -> Option<Event<K>> {
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
            probe: stored.is_some() && is_probe(&message.headers),
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
        let probe = !stored && is_probe(&message.headers);
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
    pub(in crate::bus) fn hold(&mut self, subscribers: impl IntoIterator<Item = (u64, K)>) {
        self.table.extend(subscribers);
    }
}

/// The name of a message's event: the default where it has none, and none where it is bad.
pub(in crate::bus) fn event_name(headers: &Headers) -> Option<EventName> {
    match headers.get("Event") {
        None => Some(EventName::default()),
        Some(name) => EventName::parse(name).ok(),
    }
}

/// Whether a message only asks who is here.
pub(in crate::bus) fn is_probe(headers: &Headers) -> bool {
    headers.get("Usher-Probe") == Some("1")
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
        at: millis_of(headers.last("Nats-Time-Stamp")?)?,
    })
}
