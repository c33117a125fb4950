//! A client that keeps the contract's rules: of the position that it comes back with, and
//! of when it does. All waits are a tenth of the contract's or less, so that a minute
//! holds many sessions.

use std::{sync::Arc, time::Duration};

use ::usher::{
    channel::Channel,
    position::{Begun, Tracker},
};
use deadpool_redis::redis::{self, aio::MultiplexedConnection};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};

use crate::{
    auditor::{Position, Resume, Stored, What},
    session::{Frame, Item, Session, Welcome},
    shared::{Phase, Shared},
    support::redis::key,
};

/// The first wait is up to this, each that follows up to twice as long.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);
/// The backoff starts anew after a session of this length.
const GOOD: Duration = Duration::from_secs(3);
/// A connection that is not open within this is given up.
const OPENING: Duration = Duration::from_secs(10);

pub(crate) struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) redis: MultiplexedConnection,
    /// The ways to the gateways.
    pub(crate) addresses: Vec<String>,
    pub(crate) index: usize,
    pub(crate) user: usize,
    /// Over server-sent events, rather than a WebSocket.
    pub(crate) events: bool,
    pub(crate) orders: mpsc::UnboundedReceiver<Order>,
    pub(crate) swallows: Option<Swallow>,
    /// Keeps the position by the library's five rules; the auditor has its own.
    pub(crate) tracker: Tracker,
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
    /// A `gap` in the place of a message that is too large.
    TooLarge,
}

/// Why a session is over.
enum Ended {
    /// By its code; and when a drain wants it to come back.
    Closed(u16, Option<Duration>),
    Ordered(Order),
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
                    let ended = self.session(session, &mut phase, closing).await;
                    self.shared.is_connected(self.index, false);
                    if begun.elapsed() >= GOOD {
                        backoff = SHORTEST;
                    }
                    match ended {
                        Ended::Done => return,
                        Ended::Closing => Some(Duration::ZERO),
                        Ended::Ordered(order) => {
                            self.is_away(order).await;
                            Some(Duration::ZERO)
                        }
                        Ended::Closed(code, hint) => {
                            self.shared.count(format!("closed {code}"));
                            if stays_away(code) {
                                let user = self.user;
                                let complaint = format!("a client of user {user} closed {code}");
                                return self.shared.complain(complaint);
                            }
                            hint.map(|hint| hint / 10)
                        }
                    }
                }
                Ok(Err(refused)) => {
                    self.shared.count(format!("not opened: {refused}"));
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

    async fn open(&mut self) -> Result<Session, String> {
        let ticket = self.ticket().await.map_err(|_| "no ticket")?;
        let address = &self.addresses[rand::random_range(0..self.addresses.len())];
        let since = self.tracker.position().map(ToString::to_string);
        Session::open(address, &ticket, since.as_deref(), self.events).await
    }

    /// What an auth service does.
    async fn ticket(&mut self) -> redis::RedisResult<String> {
        let ticket = format!("{:032x}", rand::random::<u128>());
        let mut set = redis::cmd("SET");
        set.arg(key(&ticket)).arg(self.user.to_string());
        let set = set.arg("EX").arg(60).to_owned();
        set.query_async::<()>(&mut self.redis).await?;
        Ok(ticket)
    }

    /// Reads until the end.
    async fn session(
        &mut self,
        mut session: Session,
        phase: &mut watch::Receiver<Phase>,
        closing: bool,
    ) -> Ended {
        let mut hint = None;
        let mut welcomed = false;
        let mut replays = false;
        let has_position = self.tracker.position().is_some();
        loop {
            let item = tokio::select! {
                item = session.next() => item,
                Some(order) = self.orders.recv() => match order {
                    Order::Pause(length) => {
                        sleep(length).await;
                        // Part of an event may be lost with the read that was given up;
                        // of a WebSocket nothing is.
                        match self.events {
                            true => return Ended::Closed(1006, None),
                            false => continue,
                        }
                    }
                    Order::Away(_) | Order::AwayUntil(_) => return Ended::Ordered(order),
                },
                () = closes(phase), if !closing => return Ended::Closing,
            };
            let (frame, id) = match item {
                Item::Frame(frame, id) => (*frame, id),
                Item::End(code) => return Ended::Closed(code, hint),
            };
            match frame {
                Frame {
                    welcome: Some(welcome),
                    ..
                } => {
                    assert!(!welcomed, "a second welcome");
                    welcomed = true;
                    replays = welcome.resume == "complete";
                    self.is_welcomed(welcome, id);
                    // Without a position it misses nothing.
                    if closing && !has_position {
                        return Ended::Done;
                    }
                }
                Frame {
                    goodbye: Some(goodbye),
                    ..
                } => {
                    hint = goodbye.reconnect_after_ms.map(Duration::from_millis);
                }
                frame => {
                    let live = frame.live.is_some();
                    self.hears(frame, id, replays);
                    replays &= !live;
                    if closing && live {
                        return Ended::Done;
                    }
                }
            }
        }
    }

    fn is_welcomed(&mut self, welcome: Welcome, id: Option<String>) {
        let (resume, begun) = match &*welcome.resume {
            "none" => (Resume::None, Begun::Anew),
            "complete" => (Resume::Complete, Begun::Complete),
            "gap" => (Resume::Gap, Begun::Gap),
            other => panic!("no such resume: {other}"),
        };
        let Welcome { epoch, seq, at, .. } = welcome;
        self.shared.is_of(&epoch);
        let since = self.position();
        self.tracker.welcome(Some(epoch.into()), seq, at, begun);
        let end = Stored { seq, at };
        self.has_heard(What::Welcome { since, end, resume }, id);
    }

    /// What it has, for the auditor.
    fn position(&self) -> Option<Position> {
        let position = self.tracker.position()?;
        let mark = |channel| position.marks.get(&channel).copied().unwrap_or(0);
        Some(Position {
            proven: position.proven,
            top: Stored {
                seq: position.top,
                at: position.at,
            },
            marks: [mark(Channel::User), mark(Channel::Broadcast)],
        })
    }

    fn hears(&mut self, frame: Frame, id: Option<String>, replays: bool) {
        let what = match frame {
            Frame {
                event: Some(_),
                seq,
                prev,
                at,
                broadcast,
                data,
                ..
            } => {
                if self.swallows(replays, broadcast) {
                    return;
                }
                let message = data.expect("a message of ours").id();
                assert_eq!(broadcast, message.user.is_none(), "{message:?}");
                self.tracker.event(channel(broadcast), seq, prev, at);
                What::Event {
                    stored: Stored { seq, at },
                    prev,
                    id: message,
                }
            }
            Frame {
                live: Some(live), ..
            } => {
                self.tracker.proof(live.seq, live.at);
                What::Live(Stored {
                    seq: live.seq,
                    at: live.at,
                })
            }
            Frame {
                ping: Some(ping), ..
            } => match (ping.seq, ping.at) {
                (Some(seq), Some(at)) => {
                    self.tracker.proof(seq, at);
                    What::Ping(Stored { seq, at })
                }
                (None, None) => return,
                other => panic!("no ping of ours: {other:?}"),
            },
            Frame { gap: Some(gap), .. } => {
                let reason = &gap.reason;
                self.shared.count(format!("gap frames: {reason}"));
                assert_eq!(gap.seq.is_some(), reason == "too_large", "{gap:?}");
                match gap.seq {
                    Some(_) if self.swallows == Some(Swallow::TooLarge) => {
                        self.swallows = None;
                        return;
                    }
                    Some(seq) => {
                        let (prev, at) = (gap.prev, gap.at);
                        self.tracker.event(channel(gap.broadcast), seq, prev, at);
                        What::TooLarge {
                            stored: Stored { seq, at },
                            prev,
                            broadcast: gap.broadcast,
                        }
                    }
                    None => What::Gap,
                }
            }
            other => panic!("no frame of ours: {other:?}"),
        };
        self.has_heard(what, id);
    }

    /// Whether it loses this event. One to all may be the last of its channel for long, and
    /// nothing would show that it is missing before the client comes back for it.
    fn swallows(&mut self, replays: bool, broadcast: bool) -> bool {
        let swallows = match &mut self.swallows {
            Some(Swallow::Event(0)) => !broadcast,
            Some(Swallow::Event(more)) => {
                *more -= 1;
                false
            }
            Some(Swallow::OfAReplay) => replays && !broadcast,
            Some(Swallow::TooLarge) | None => false,
        };
        if swallows {
            self.swallows = None;
        }
        swallows
    }

    /// A browser keeps the `id` as `Last-Event-ID`: it must be what the rules make.
    fn has_heard(&self, what: What, id: Option<String>) {
        let position = self.tracker.position().map(ToString::to_string);
        if id.is_some() && id != position {
            let client = self.index;
            self.shared.complain(format!(
                "client {client}: the id of {what:?} is {id:?}, and the position {position:?}"
            ));
        }
        self.shared.hears(self.index, what);
    }
}

fn channel(broadcast: bool) -> Channel {
    match broadcast {
        true => Channel::Broadcast,
        false => Channel::User,
    }
}

async fn closes(phase: &mut watch::Receiver<Phase>) {
    // Whoever says so lives as long as all clients.
    let _ = phase.wait_for(|phase| *phase == Phase::Closing).await;
}

/// After these ends a client does not come back, by the contract.
fn stays_away(code: u16) -> bool {
    matches!(code, 1000 | 1002 | 1005 | 1007..=1009 | 4100..=4199)
}
