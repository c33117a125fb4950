//! A client that keeps the contract's rules: of the position that it comes back with, and
//! of when it does. All waits are a tenth of the contract's or less, so that a minute
//! holds many sessions.

mod centrifuge;
mod usher;

use std::{sync::Arc, time::Duration};

use ::usher::position::Tracker;
use deadpool_redis::redis::{self, aio::MultiplexedConnection};
use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

pub(crate) use self::centrifuge::Offsets;
use crate::{
    session::Session,
    shared::{Phase, Shared},
    support::redis::key,
    who::{Transport, Who, topic_name},
};

/// The first wait is up to this, each that follows up to twice as long.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);
/// The backoff starts anew after a session of this length.
const GOOD: Duration = Duration::from_secs(3);
/// A connection that is not open within this is given up.
const OPENING: Duration = Duration::from_secs(10);
/// Between two changes of what a client follows; a gateway allows two a second.
const CHANGES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4));

pub(crate) struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) redis: MultiplexedConnection,
    /// The ways to the gateways.
    pub(crate) addresses: Vec<String>,
    pub(crate) index: usize,
    pub(crate) who: Who,
    pub(crate) orders: mpsc::UnboundedReceiver<Order>,
    pub(crate) swallows: Option<Swallow>,
    /// Keeps the position by the library's rules; the auditor has its own.
    pub(crate) tracker: Tracker,
    /// Instead of it, over the Centrifuge protocol.
    pub(crate) offsets: Offsets,
    /// It follows its topic.
    pub(crate) follows: bool,
}

/// What a client does for a while.
#[derive(Debug, Clone)]
pub(crate) enum Order {
    /// It reads nothing for this long.
    Pause(Duration),
    /// It is gone for this long.
    Away(Duration),
    /// It is gone until it is called.
    AwayUntil(watch::Receiver<bool>),
}

/// What a client loses on purpose, as if it had never come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Swallow {
    /// The first event to its user after so many events.
    Event(usize),
    /// The first event to its user that it missed, when it was told that it missed nothing.
    OfAReplay,
    /// The first event of its topic.
    OfItsTopic,
    /// A `gap` in the place of a message that is too large.
    TooLarge,
}

/// An open session.
enum Open {
    Usher(Session),
    Centrifuge(centrifuge::Asked),
}

/// When a client that changes what it follows does so next.
struct Turn(Option<Instant>);

impl Turn {
    /// From the beginning of a session.
    fn of(who: Who) -> Self {
        let mut turn = Self(None);
        if who.changes && who.transport != Transport::Events {
            turn.next();
        }
        turn
    }

    fn next(&mut self) {
        self.0 = Some(Instant::now() + rand::random_range(CHANGES.0..CHANGES.1));
    }

    /// An answer is awaited.
    fn waits(&mut self) {
        self.0 = None;
    }

    /// Comes once, until it is said again when the next one is.
    async fn comes(&mut self) {
        match self.0 {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
        self.waits();
    }
}

/// Why a session is over.
enum Ended {
    /// By its code; and when a drain wants it to come back.
    Closed(u16, Option<Duration>),
    Ordered(Order),
    /// The gateway does not admit it, and said so over the connection.
    Refused,
    /// It has everything, and goes for good.
    Done,
    /// To come back once more.
    Closing,
}

impl Client {
    /// Lives until it has everything, and no more comes.
    pub(crate) async fn live(mut self) {
        let mut backoff = SHORTEST;
        let mut phase = self.shared.phase.subscribe();
        loop {
            let closing = *phase.borrow_and_update() == Phase::Closing;
            let wait = match timeout(OPENING, self.open()).await {
                Ok(Ok(session)) => {
                    let begun = Instant::now();
                    self.shared.is_connected(self.index, true);
                    let ended = match session {
                        Open::Usher(session) => self.session(session, &mut phase, closing).await,
                        Open::Centrifuge(asked) => {
                            self.centrifuge(asked, &mut phase, closing).await
                        }
                    };
                    self.shared.is_connected(self.index, false);
                    if begun.elapsed() >= GOOD {
                        backoff = SHORTEST;
                    }
                    match ended {
                        Ended::Done => return,
                        Ended::Closing => Some(Duration::ZERO),
                        Ended::Refused => None,
                        Ended::Ordered(order) => {
                            self.is_away(order).await;
                            Some(Duration::ZERO)
                        }
                        Ended::Closed(code, hint) => {
                            self.shared.count(format!("closed {code}"));
                            if stays_away(code) {
                                let user = self.who.channels.user;
                                let complaint = format!("a client of user {user} closed {code}");
                                return self.shared.complain(complaint);
                            }
                            hint.map(|hint| hint / 10)
                        }
                    }
                }
                Ok(Err(refused)) => {
                    self.shared.count(format!("not opened: {refused}"));
                    if refused.parse().is_ok_and(is_final) {
                        let client = self.index;
                        let complaint = format!("client {client} was refused: {refused}");
                        return self.shared.complain(complaint);
                    }
                    None
                }
                Err(_) => {
                    self.shared.count("not opened: no answer");
                    None
                }
            };
            sleep(wait.unwrap_or_else(|| backoff.mul_f64(rand::random()))).await;
            backoff = (backoff * 2).min(LONGEST);
        }
    }

    async fn is_away(&self, order: Order) {
        let mut phase = self.shared.phase.subscribe();
        let away = async {
            match order {
                Order::Pause(length) | Order::Away(length) => sleep(length).await,
                Order::AwayUntil(mut called) => drop(called.wait_for(|called| *called).await),
            }
        };
        tokio::select! {
            () = away => {}
            () = closes(&mut phase) => {}
        }
    }

    async fn open(&mut self) -> Result<Open, String> {
        let ticket = self.ticket().await.map_err(|_| "no ticket")?;
        let address = &self.addresses[rand::random_range(0..self.addresses.len())];
        if self.who.transport == Transport::Centrifuge {
            let asked = centrifuge::open(self, address, &ticket).await?;
            return Ok(Open::Centrifuge(asked));
        }
        let since = self.tracker.position().map(ToString::to_string);
        let asks = self.who.changes && self.follows;
        let follow = asks.then(|| topic_name(self.who.channels.topic));
        let events = self.who.transport == Transport::Events;
        let session = Session::open(
            address,
            &ticket,
            (since.as_deref(), follow.as_deref()),
            events,
        );
        Ok(Open::Usher(session.await?))
    }

    /// What an auth service does.
    async fn ticket(&mut self) -> redis::RedisResult<String> {
        let ticket = format!("{:032x}", rand::random::<u128>());
        let mut set = redis::cmd("SET");
        let Who {
            channels, changes, ..
        } = self.who;
        let grant = if changes { "may_follow" } else { "topics" };
        let value = json!({
            "user_id": channels.user.to_string(),
            grant: [topic_name(channels.topic)],
        });
        set.arg(key(&ticket)).arg(value.to_string());
        let set = set.arg("EX").arg(60).to_owned();
        set.query_async::<()>(&mut self.redis).await?;
        Ok(ticket)
    }
}

async fn closes(phase: &mut watch::Receiver<Phase>) {
    // Whoever says so lives as long as all clients.
    let _ = phase.wait_for(|phase| *phase == Phase::Closing).await;
}

/// After these answers a client does not come back, by the contract. A fresh ticket mends
/// no 401 here: each is fresh.
fn is_final(status: u16) -> bool {
    (400..=426).contains(&status)
}

/// After these ends a client does not come back, by the contract and by the Centrifuge
/// protocol.
fn stays_away(code: u16) -> bool {
    matches!(code, 1000 | 1002 | 1005 | 1007..=1009 | 3500..=3999 | 4100..=4199)
}
