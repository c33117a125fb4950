//! Which gateways there are. Each says on `usher.gateways` every 2 s that it is there, and says
//! goodbye at the end of its drain. So the others know whose answers to wait for, and notice
//! one that vanishes.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Notify, broadcast},
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use crate::{
    bus::{Peers, Topic},
    metrics::Metrics,
};

/// How often a gateway says that it is there.
const SAYS: Duration = Duration::from_secs(2);
/// Answers are waited for from gateways that were heard of within this.
const REMEMBERED: Duration = Duration::from_secs(10);
/// A gateway that is silent for this long has vanished. With the clock's tick that is noticed
/// within 10 s.
const VANISHED: Duration = Duration::from_secs(9);
/// A gateway knows all others once it has listened for this long.
const KNOWS: Duration = Duration::from_secs(4);
/// A gateway that does not hear itself for this long hears no other either.
const DEAF: Duration = Duration::from_secs(5);
/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(250);
/// A tick that is so late says that this gateway stood still.
const STOOD_STILL: Duration = Duration::from_secs(1);
/// NATS must have the goodbye within this.
const GOODBYE: Duration = Duration::from_secs(1);
/// Gateways that are remembered. With more of them no answer is complete.
pub(super) const MAX_GATEWAYS: usize = 4096;
/// The longest name in bytes: a host's name and some characters.
const MAX_NAME: usize = 256;
/// Vanished gateways that wait for a reader of [`Gateways::lost`].
const MAX_LOST: usize = 256;
/// Goodbyes that are remembered, so that calls under way hear of them.
const MAX_LEFT: usize = 256;

/// The gateways that this one has heard of, itself included.
#[derive(Debug)]
pub struct Gateways {
    name: Arc<str>,
    peers: Peers,
    state: Mutex<State>,
    lost: broadcast::Sender<Arc<str>>,
    /// Told when this gateway hears its own goodbye.
    gone: Notify,
    metrics: Arc<Metrics>,
}

/// Whose answers to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Their names.
    pub names: Vec<Arc<str>>,
    /// Whether these are all gateways that there are.
    pub all: bool,
}

/// One message on `usher.gateways`.
#[derive(Debug, Serialize, Deserialize)]
struct News<'a> {
    #[serde(borrow)]
    gateway: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    gone: bool,
}

/// What was heard. Times are arguments, so that tests need no clock.
#[derive(Debug, Default)]
struct State {
    gateways: HashMap<Arc<str>, Gateway>,
    /// The last ones whose silence was told.
    vanished: VecDeque<Arc<str>>,
    /// The last ones that said goodbye.
    left: VecDeque<Arc<str>>,
    /// Since when this gateway hears all that is said; `None` while it may miss something.
    since: Option<Instant>,
    /// When it last heard itself.
    heard_itself: Option<Instant>,
    /// It has said goodbye.
    leaves: bool,
    /// More gateways were heard of than are remembered, at this time.
    overflowed: Option<Instant>,
}

#[derive(Debug)]
struct Gateway {
    heard: Instant,
    /// Its silence was told.
    vanished: bool,
}

impl Gateways {
    /// None is known yet; [`Gateways::run`] listens.
    pub fn new(name: &str, peers: Peers, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            peers,
            state: Mutex::default(),
            lost: broadcast::Sender::new(MAX_LOST),
            gone: Notify::new(),
            metrics,
        })
    }

    /// The names of gateways that went silent without a goodbye, from now on, each within 10 s
    /// of its last word. Nothing is told of the time in which this gateway itself heard
    /// nothing. A reader that lags misses the oldest names.
    pub fn lost(&self) -> broadcast::Receiver<Arc<str>> {
        self.lost.subscribe()
    }

    /// Whose answers to wait for now.
    pub fn known(&self) -> Known {
        self.state().known(Instant::now())
    }

    /// Whether a gateway has said goodbye. One that went silent has not.
    pub(super) fn has_left(&self, name: &str) -> bool {
        self.state().has_left(name)
    }

    /// Says that this gateway is there and listens to the others, for as long as the process
    /// lives.
    pub async fn run(self: Arc<Self>) {
        let Some(mut listener) = self.peers.listen(Topic::Gateways).await else {
            return;
        };
        let mut lives = self.peers.lives();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut ticked, mut says) = (Instant::now(), Instant::now());
        loop {
            tokio::select! {
                // Where this gateway stood still, that must be known before what was said
                // meanwhile is read.
                biased;
                Ok(()) = lives.changed() => {
                    self.state().reconnected();
                    says = Instant::now();
                }
                _ = ticks.tick() => {
                    let now = Instant::now();
                    let late = now.duration_since(ticked).saturating_sub(TICK);
                    ticked = now;
                    self.tick(now, late);
                    let leaves = self.state().leaves;
                    if now >= says && !leaves && self.say(false).await {
                        says = now + SAYS;
                    }
                }
                said = listener.next() => match said {
                    Some(said) => self.heard(&said.payload),
                    None => return,
                },
            }
        }
    }

    /// Says goodbye at the end of a drain, and waits until NATS has it, for 1 s at most. Nobody
    /// waits for an answer of this gateway from then on.
    pub async fn leave(&self) {
        self.state().leaves = true;
        let gone = self.gone.notified();
        if self.say(true).await && timeout(GOODBYE, gone).await.is_err() {
            tracing::warn!("NATS did not take this gateway's goodbye in time");
        }
    }

    /// Returns whether it was said.
    async fn say(&self, gone: bool) -> bool {
        let news = News {
            gateway: (&*self.name).into(),
            gone,
        };
        let news = serde_json::to_vec(&news).unwrap_or_default();
        self.peers.say(Topic::Gateways, Bytes::from(news)).await
    }

    fn heard(&self, payload: &[u8]) {
        let Ok(news) = serde_json::from_slice::<News<'_>>(payload) else {
            return;
        };
        if news.gateway.is_empty() || news.gateway.len() > MAX_NAME {
            return;
        }
        let itself = *news.gateway == *self.name;
        if itself && news.gone {
            self.gone.notify_one();
        }
        if itself {
            self.peers.note_heard();
        }
        let mut state = self.state();
        if !state.heard(&news.gateway, news.gone, itself, Instant::now()) {
            self.metrics.gateways_ignored.inc();
        }
        let is_back = state.take_back_vanished(&news.gateway, news.gone);
        self.metrics.gateways.set(state.gateways.len() as i64);
        drop(state);
        if is_back {
            let gateway = &*news.gateway;
            tracing::info!(gateway, "a gateway that had vanished is heard again");
        }
    }

    fn tick(&self, now: Instant, late: Duration) {
        let mut state = self.state();
        if late >= STOOD_STILL {
            state.stood_still(late);
        }
        let vanished = state.tick(now);
        self.metrics.gateways.set(state.gateways.len() as i64);
        drop(state);
        for gateway in vanished {
            tracing::warn!(
                %gateway,
                "a gateway has vanished: nothing was heard of it for 9 s, and it has said no \
                 goodbye"
            );
            self.metrics.gateways_lost.inc();
            // An error says that nobody listens.
            let _ = self.lost.send(gateway);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes up news. False where there is no room for the gateway.
    fn heard(&mut self, name: &str, gone: bool, itself: bool, now: Instant) -> bool {
        if itself {
            self.heard_itself = Some(now);
            if self.since.is_none() {
                self.listens(now);
            }
        }
        self.left.retain(|left| **left != *name);
        if gone {
            self.gateways.remove(name);
            self.left.truncate(MAX_LEFT - 1);
            self.left.push_front(name.into());
            return true;
        }
        let gateway = Gateway {
            heard: now,
            vanished: false,
        };
        if let Some(known) = self.gateways.get_mut(name) {
            *known = gateway;
        } else if self.gateways.len() < MAX_GATEWAYS {
            self.gateways.insert(name.into(), gateway);
        } else {
            self.overflowed = Some(now);
            return false;
        }
        true
    }

    fn has_left(&self, name: &str) -> bool {
        self.left.iter().any(|left| **left == *name)
    }

    /// From now on it hears all that is said. The silence of others until now was its own.
    fn listens(&mut self, now: Instant) {
        self.since = Some(now);
        for gateway in self.gateways.values_mut() {
            gateway.heard = gateway.heard.max(now);
        }
    }

    /// There is a new connection, on which it has heard nothing yet.
    fn reconnected(&mut self) {
        self.since = None;
        self.heard_itself = None;
    }

    /// This gateway stood still for `time`, and heard nobody meanwhile.
    fn stood_still(&mut self, time: Duration) {
        self.reconnected();
        for gateway in self.gateways.values_mut() {
            gateway.heard += time;
        }
    }

    /// Forgets gateways that are silent. Returns those that have just vanished.
    fn tick(&mut self, now: Instant) -> Vec<Arc<str>> {
        let deaf = |heard: Instant| now.duration_since(heard) >= DEAF;
        if self.heard_itself.is_none_or(deaf) {
            self.since = None;
        }
        if self.since.is_none() {
            return Vec::new();
        }
        let mut vanished = Vec::new();
        self.gateways.retain(|name, gateway| {
            let silent = now.duration_since(gateway.heard);
            if silent >= VANISHED && !gateway.vanished {
                gateway.vanished = true;
                vanished.push(name.clone());
            }
            silent < REMEMBERED
        });
        self.vanished.extend(vanished.iter().cloned());
        let too_many = self.vanished.len().saturating_sub(MAX_LOST);
        self.vanished.drain(..too_many);
        vanished
    }

    /// Forgets that a gateway was said to have vanished. Returns whether it was, and is back.
    fn take_back_vanished(&mut self, name: &str, gone: bool) -> bool {
        let before = self.vanished.len();
        self.vanished.retain(|vanished| **vanished != *name);
        before > self.vanished.len() && !gone
    }

    fn known(&self, now: Instant) -> Known {
        let recent = |at: Option<Instant>, time| at.is_some_and(|at| now.duration_since(at) < time);
        let listened = self.since.is_some() && !recent(self.since, KNOWS);
        let hears = recent(self.heard_itself, DEAF);
        Known {
            names: self.gateways.keys().cloned().collect(),
            all: listened && hears && !recent(self.overflowed, REMEMBERED),
        }
    }
}

#[cfg(test)]
mod tests;
