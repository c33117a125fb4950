//! Whether this gateway should be sent new sessions, why not, and what else is wrong.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Serialize;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// Something outside of this process that the gateway uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The NATS connection that carries channel subscriptions.
    Interest,
    /// The NATS connection on which pushes leave.
    Push,
    /// The NATS connection on which stored messages are read; in durable mode.
    StreamConnection,
    /// The NATS connection of the service API. Without it the gateway is ready all the same.
    Service,
    /// The NATS connection of clients' calls. Without it the gateway is ready all the same.
    Calls,
    /// The stream, as durable mode needs it, with a leader that answers.
    Stream,
    /// Where tickets are.
    Redis,
}

const PARTS: usize = 7;

/// Sessions that are held back for less than this are no finding.
const HELD_BACK: Duration = Duration::from_secs(5);

/// A finding, as `/readyz` lists it under `reasons` or `warnings`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A NATS connection that this mode needs has never worked since the start.
    NatsNotReached,
    /// Redis has never answered since the start.
    RedisNotReached,
    /// Durable mode has not found its stream, or not as it must be, since the start.
    StreamNotReady,
    /// A NATS connection that this mode needs is away.
    NatsAway,
    /// The stream or its leader does not answer.
    StreamAway,
    /// Redis is away: sessions stay, and new ones get 503.
    RedisAway,
    /// The nats-server is too old for durable mode.
    NatsTooOld,
    /// Redis refuses a command that tickets need, or is a node of a Cluster behind a
    /// plain URL.
    RedisUnusable,
    /// NATS permits this gateway no pushes.
    PushForbidden,
    /// Messages that no session was given are not published for services
    /// (`offline.events`).
    OfflineEventsAway,
    /// NATS does not permit this gateway to speak to the other gateways, or to hear them.
    ControlForbidden,
    /// NATS does not permit this gateway to hear broadcasts.
    BroadcastForbidden,
    /// Sessions wait for what the stream has for them, since it can't be read.
    SessionsHeldBack,
    /// This gateway is going away.
    Draining,
}

/// What is known of a [`Part`].
#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// This mode does not use it.
    NotUsed,
    /// It has never worked since the start.
    NotReached,
    Up,
    /// It has worked, and does not since then.
    Away(Instant),
    /// It answers, and cannot serve.
    Unusable(Reason),
}

/// The state of everything outside. Clones share it: the rooms that know set it, and
/// the listeners that answer read it.
#[derive(Debug, Clone)]
pub struct Readiness {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// 0 stands for never.
    nats_grace: Duration,
    facts: Mutex<Facts>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Clone, Copy)]
struct Facts {
    parts: [State; PARTS],
    /// Which of them have worked since the start.
    worked: [bool; PARTS],
    push_forbidden: bool,
    offline_events_away: bool,
    control_forbidden: bool,
    broadcast_forbidden: bool,
    /// Since when sessions are held back, where some are.
    held_back: Option<Instant>,
    draining: bool,
}

impl Readiness {
    /// Nothing is needed yet. `nats_grace` of zero: an outage of NATS never takes a gateway
    /// out of service.
    pub fn new(nats_grace: Duration) -> Self {
        Self {
            shared: Arc::new(Shared {
                nats_grace,
                facts: Mutex::new(Facts {
                    parts: [State::NotUsed; PARTS],
                    worked: [false; PARTS],
                    push_forbidden: false,
                    offline_events_away: false,
                    control_forbidden: false,
                    broadcast_forbidden: false,
                    held_back: None,
                    draining: false,
                }),
                changed: watch::Sender::new(()),
            }),
        }
    }

    /// This mode uses `part`: until it has worked once, this gateway is not ready.
    pub fn needs(&self, part: Part) {
        self.change(|facts| facts.parts[part as usize] = State::NotReached);
    }

    /// `part` works.
    pub fn up(&self, part: Part) {
        self.change(|facts| {
            facts.parts[part as usize] = State::Up;
            facts.worked[part as usize] = true;
        });
    }

    /// `part` does not answer. One that has never worked is 'not reached'. One that has, and
    /// could not serve when it answered last, stays so: only an answer can prove otherwise.
    pub fn away(&self, part: Part) {
        self.change(|facts| {
            let worked = facts.worked[part as usize];
            let state = &mut facts.parts[part as usize];
            match state {
                State::Up => *state = State::Away(Instant::now()),
                State::Unusable(_) if !worked => *state = State::NotReached,
                _ => {}
            }
        });
    }

    /// `part` answers, and cannot serve for this reason.
    pub fn unusable(&self, part: Part, reason: Reason) {
        self.change(|facts| facts.parts[part as usize] = State::Unusable(reason));
    }

    /// Whether NATS permits this gateway to push. Returns what was so before.
    pub fn push_forbidden(&self, forbidden: bool) -> bool {
        let mut before = false;
        self.change(|facts| before = std::mem::replace(&mut facts.push_forbidden, forbidden));
        before
    }

    /// Whether what no session was given can be published, where that is wanted.
    pub fn offline_events(&self, work: bool) {
        self.change(|facts| facts.offline_events_away = !work);
    }

    /// Whether NATS forbids this gateway to speak to the other gateways, or to hear them.
    pub fn control_forbidden(&self, forbidden: bool) {
        self.change(|facts| facts.control_forbidden = forbidden);
    }

    /// Whether NATS forbids this gateway to hear broadcasts.
    pub fn broadcast_forbidden(&self, forbidden: bool) {
        self.change(|facts| facts.broadcast_forbidden = forbidden);
    }

    /// Whether sessions wait for a stream that can't be read.
    pub fn held_back(&self, held_back: bool) {
        self.change(|facts| facts.held_back = held_back.then(Instant::now));
    }

    /// This gateway is going away.
    pub fn drain(&self) {
        self.change(|facts| facts.draining = true);
    }

    /// Whether `part` works now.
    pub fn is_up(&self, part: Part) -> bool {
        self.facts().parts[part as usize] == State::Up
    }

    /// Whether a push can reach NATS now.
    pub fn can_push(&self) -> bool {
        let facts = self.facts();
        let push = facts.parts[Part::Push as usize];
        matches!(push, State::Up | State::NotUsed) && !facts.push_forbidden
    }

    /// What speaks against new sessions now; nothing where this gateway is ready.
    pub fn reasons(&self) -> Vec<Reason> {
        self.findings(true)
    }

    /// What is wrong and does not speak against new sessions.
    pub fn warnings(&self) -> Vec<Reason> {
        self.findings(false)
    }

    /// Whether nothing speaks against new sessions.
    pub fn is_ready(&self) -> bool {
        self.reasons().is_empty()
    }

    /// Waits until `read` no longer gives `value`.
    pub async fn changed_from<T: PartialEq>(&self, value: &T, read: impl Fn(&Self) -> T) {
        let mut changes = self.shared.changed.subscribe();
        while read(self) == *value {
            let grace_ends = self.grace_ends();
            let grace_ends = async {
                match grace_ends {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // The sender lives as long as `self`.
                _ = changes.changed() => {}
                () = grace_ends => {}
            }
        }
    }

    /// All findings that take this gateway out of service, or all that do not.
    fn findings(&self, severe: bool) -> Vec<Reason> {
        let facts = self.facts();
        let grace = self.shared.nats_grace;
        let too_long = |since: Instant| !grace.is_zero() && since.elapsed() > grace;
        let mut findings = Vec::new();
        for (part, state) in facts.states() {
            let finding = match state {
                State::NotUsed | State::Up => None,
                State::NotReached => Some((part.not_reached(), part.is_needed())),
                State::Away(since) => Some((part.away(), part.is_missed() && too_long(since))),
                State::Unusable(reason) => Some((reason, true)),
            };
            findings.extend(finding);
        }
        if facts.push_forbidden {
            findings.push((Reason::PushForbidden, false));
        }
        if facts.offline_events_away {
            findings.push((Reason::OfflineEventsAway, false));
        }
        if facts.control_forbidden {
            findings.push((Reason::ControlForbidden, false));
        }
        if facts.broadcast_forbidden {
            findings.push((Reason::BroadcastForbidden, false));
        }
        if facts
            .held_back
            .is_some_and(|since| since.elapsed() >= HELD_BACK)
        {
            findings.push((Reason::SessionsHeldBack, false));
        }
        if facts.draining {
            findings.push((Reason::Draining, true));
        }
        let mut reasons = Vec::new();
        for (reason, is_severe) in &findings {
            // What is a reason is no warning besides.
            let elsewhere = !severe && findings.contains(&(*reason, true));
            if *is_severe == severe && !elsewhere && !reasons.contains(reason) {
                reasons.push(*reason);
            }
        }
        reasons
    }

    /// When the next grace is over.
    fn grace_ends(&self) -> Option<Instant> {
        let grace = self.shared.nats_grace;
        if grace.is_zero() {
            return None;
        }
        let facts = self.facts();
        let since = facts.states().filter_map(|(_, state)| match state {
            State::Away(since) => Some(since + grace + Duration::from_millis(1)),
            _ => None,
        });
        since.filter(|at| *at > Instant::now()).min()
    }

    fn facts(&self) -> Facts {
        *self.lock()
    }

    fn change(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.lock());
        self.shared.changed.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, Facts> {
        let facts = self.shared.facts.lock();
        facts.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Facts {
    fn states(&self) -> impl Iterator<Item = (Part, State)> {
        let parts = [
            Part::Interest,
            Part::Push,
            Part::StreamConnection,
            Part::Service,
            Part::Calls,
            Part::Stream,
            Part::Redis,
        ];
        parts.into_iter().zip(self.parts)
    }
}

impl Part {
    fn not_reached(self) -> Reason {
        match self {
            Self::Interest | Self::Push | Self::StreamConnection | Self::Service | Self::Calls => {
                Reason::NatsNotReached
            }
            Self::Stream => Reason::StreamNotReady,
            Self::Redis => Reason::RedisNotReached,
        }
    }

    /// Whether its being away for long takes a gateway out of service.
    fn is_missed(self) -> bool {
        self.is_needed() && self != Self::Redis
    }

    /// Whether there are no sessions without it.
    fn is_needed(self) -> bool {
        !matches!(self, Self::Service | Self::Calls)
    }

    fn away(self) -> Reason {
        match self {
            Self::Interest | Self::Push | Self::StreamConnection | Self::Service | Self::Calls => {
                Reason::NatsAway
            }
            Self::Stream => Reason::StreamAway,
            Self::Redis => Reason::RedisAway,
        }
    }
}

#[cfg(test)]
mod tests;
