//! A client that keeps the contract's rules: of the position that it comes back with, and
//! of when it does. All waits are a tenth of the contract's or less, so that a minute
//! holds many sessions.

use std::{sync::Arc, time::Duration};

use deadpool_redis::redis::{self, aio::MultiplexedConnection};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};

use crate::{
    auditor::{Resume, What},
    session::{Frame, Item, Session},
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
    pub(crate) position: Option<Position>,
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
    /// This event, counted from its first.
    Event(usize),
    /// The first event that it missed, when it was told that it missed nothing.
    OfAReplay,
}

/// Where a client is in the stream.
#[derive(Debug, Clone)]
pub(crate) struct Position {
    epoch: String,
    since: Option<u64>,
    welcome: u64,
    last_event: u64,
    said: u64,
}

impl Position {
    /// The contract's rule.
    fn seq(&self) -> u64 {
        match self.last_event.max(self.said) {
            0 => self.since.unwrap_or(self.welcome),
            seq => seq,
        }
    }
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
                    let ended = self.session(session, &mut phase, closing).await;
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
        let since = self.position.as_ref();
        let since = since.map(|position| format!("{}.{}", position.epoch, position.seq()));
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
                    self.is_welcomed(welcome);
                    if closing && self.position.as_ref().is_none_or(|p| p.since.is_none()) {
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

    fn is_welcomed(&mut self, welcome: crate::session::Welcome) {
        let resume = match &*welcome.resume {
            "none" => Resume::None,
            "complete" => Resume::Complete,
            "gap" => Resume::Gap,
            other => panic!("no such resume: {other}"),
        };
        self.shared.is_of(&welcome.epoch);
        let since = self.position.as_ref().map(Position::seq);
        let seq = welcome.seq;
        self.position = Some(Position {
            epoch: welcome.epoch,
            since,
            welcome: seq,
            last_event: 0,
            said: 0,
        });
        self.shared
            .hears(self.index, What::Welcome { since, seq, resume });
    }

    fn hears(&mut self, frame: Frame, id: Option<String>, replays: bool) {
        let position = self.position.as_mut().expect("a welcome comes first");
        let what = match frame {
            Frame {
                event: Some(_),
                seq,
                prev,
                broadcast,
                data,
                ..
            } => {
                match &mut self.swallows {
                    Some(Swallow::Event(0)) => {
                        self.swallows = None;
                        return;
                    }
                    Some(Swallow::Event(more)) => *more -= 1,
                    Some(Swallow::OfAReplay) if replays => {
                        self.swallows = None;
                        return;
                    }
                    _ => {}
                }
                let message = data.expect("a message of ours").id();
                assert_eq!(broadcast, message.user.is_none(), "{message:?}");
                position.last_event = seq;
                What::Event {
                    seq,
                    prev,
                    id: message,
                }
            }
            Frame {
                live: Some(live), ..
            } => {
                position.said = live.seq.max(position.said);
                What::Live(live.seq)
            }
            Frame {
                ping: Some(ping), ..
            } => match ping.seq {
                Some(seq) => {
                    position.said = seq.max(position.said);
                    What::Ping(seq)
                }
                None => return,
            },
            Frame { gap: Some(gap), .. } => {
                let reason = gap["reason"].as_str().expect("a reason");
                self.shared.count(format!("gap frames: {reason}"));
                What::Gap
            }
            other => panic!("no frame of ours: {other:?}"),
        };
        // A browser keeps this as `Last-Event-ID`: it must be what the rule says.
        let place = format!("{}.{}", position.epoch, position.seq());
        if id.as_ref().is_some_and(|id| *id != place) {
            let complaint = format!("the id of {what:?} is {id:?}, and the position {place}");
            self.shared.complain(complaint);
        }
        self.shared.hears(self.index, what);
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
