//! Who is here: users, their sessions, and the way of a message to each.
//!
//! A user's subject is subscribed exactly while a [`Seat`] of that user exists;
//! [`Registry::join`] hands one out only when NATS has confirmed that, and
//! dropping it does all the cleaning up.

mod audit;
mod chain;
mod delivery;
mod durable;
mod held;
mod held_back;
mod outbox;
mod probes;
mod recovery;

/// Where the state machine finds its lock; the model checker brings its own.
mod sync {
    pub(super) use std::sync::{Arc, Mutex, MutexGuard};

    /// A panic elsewhere leaves nothing half done behind these locks.
    pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use dashmap::DashMap;
use rand::seq::SliceRandom as _;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use self::{
    chain::Beginning,
    durable::Durable,
    held::{Bus, Directory, Held, Joined, Member},
    held_back::HeldBack,
    outbox::{Admission, Done, Resumed},
    recovery::Resumption,
};
pub use self::{
    chain::{Kind, Why},
    durable::Config as DurableConfig,
    outbox::{Charge, Limits, Next, Outbox, Outgoing},
};
use crate::{
    bus::{
        AUTO_SETTLE, Subscriber, Subscriptions,
        stream::{Look, Stream},
    },
    close::{CloseReason, Ending},
    frame::{self, GapReason, Proof, Protocol, Resume, sse},
    jitter,
    metrics::Metrics,
    position::{Begun, Since, Tracker},
    readiness::Readiness,
    supervision,
    user::UserId,
};

/// NATS must confirm a subscription within this.
const CONFIRM: Duration = Duration::from_secs(2);
/// The stream must say what it has within this.
const LOOK: Duration = Duration::from_secs(2);
/// Sessions that cannot be told of a gap are closed across this.
const BUS_LOST_SPREAD: Duration = Duration::from_secs(5);
/// A client that has to come back gets a hint of up to this.
const RECONNECT_HINT: Duration = Duration::from_secs(5);

/// How the registry treats its sessions.
#[derive(Debug, Clone)]
pub struct Config {
    /// This gateway's name, in receipts.
    pub gateway: String,
    /// Receipts go only to reply subjects that begin so.
    pub reply_prefix: String,
    /// Waited after a confirmation; none for what suits the server.
    pub settle: Option<Duration>,
    /// Sessions of one user; beyond it the oldest goes.
    pub max_sessions_per_user: usize,
    /// Unsent messages of one session.
    pub queue_messages: usize,
    /// Unsent bytes of one session.
    pub queue_bytes: usize,
    /// Memory of what is unsent, of all sessions.
    pub total_queue_bytes: usize,
    /// Sessions that have to end all at once are closed across this.
    pub drain_window: Duration,
    /// The largest frame that a session is sent.
    pub max_frame: usize,
}

/// NATS forbids the subscription, or did not confirm it in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// NATS permits this gateway no subscription to this user's subject.
    #[error("NATS forbids the subscription to this user's subject")]
    Forbidden,
    /// NATS is away, or slow.
    #[error("NATS did not confirm the subscription in time")]
    Unconfirmed,
    /// The stream is away, or slow.
    #[error("the stream did not say in time what it has")]
    NoStream,
}

/// Where a session begins, as it is told in its welcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// Which stream it is, and its last message when NATS had confirmed the subscription;
    /// none in live mode.
    pub stream: Option<(Arc<str>, Proof)>,
    /// The client's position after its welcome, where it is told that beside each frame.
    pub id: Option<String>,
    /// What became of the client's position.
    pub resume: Resume,
}

/// A user's entry, as the bus delivers to it.
type Entry = Held<UserId, Arc<Outbox>>;

impl Subscriber for Arc<Entry> {
    fn user(&self) -> &UserId {
        Held::user(self)
    }
}

impl Member for Arc<Outbox> {
    fn confirmed(&self) {
        self.confirm();
    }

    fn is_welcomed(&self) -> bool {
        Outbox::is_welcomed(self)
    }

    fn replaced(&self) {
        self.end(CloseReason::Replaced.into());
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(self, other)
    }
}

impl Bus<UserId, Arc<Outbox>> for Subscriptions<Arc<Entry>> {
    fn subscribe(&self, held: &Arc<Entry>) -> u64 {
        Self::subscribe(self, held.clone())
    }

    fn unsubscribe(&self, id: u64) {
        Self::unsubscribe(self, id);
    }
}

/// The map, and nothing but the map. No guard of it outlives a call.
#[derive(Debug, Default)]
struct Users(DashMap<UserId, Arc<Entry>>);

impl Directory<UserId, Arc<Outbox>> for Users {
    fn enter<R>(&self, user: &UserId, f: impl FnOnce(&Arc<Entry>) -> R) -> R {
        let entry = self.0.entry(user.clone());
        f(&entry.or_insert_with(|| Arc::new(Held::new(user.clone()))))
    }

    fn remove_if(&self, user: &UserId, f: impl FnOnce(&Arc<Entry>) -> bool) -> bool {
        self.0.remove_if(user, |_, held| f(held)).is_some()
    }
}

/// All users and sessions of this gateway.
#[derive(Debug)]
pub struct Registry {
    config: Config,
    users: Users,
    subscriptions: Arc<Subscriptions<Arc<Entry>>>,
    limits: Limits,
    /// Grows with every loss of the connection; a confirmation counts only in
    /// the life in which it was given.
    life: AtomicU64,
    connection: Mutex<Connection>,
    metrics: Arc<Metrics>,
    /// In durable mode.
    durable: Option<Arc<Durable>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Connection {
    up: bool,
    settle: Duration,
}

/// A session's place among its user's. Dropping it leaves.
#[derive(Debug)]
pub struct Seat {
    registry: Arc<Registry>,
    held: Arc<Entry>,
    outbox: Arc<Outbox>,
}

impl Seat {
    /// What waits for this session.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Whose session it is.
    pub fn user(&self) -> &UserId {
        self.held.user()
    }

    /// The session has its welcome: where its user has too many, the oldest goes.
    pub fn welcomed(&self) {
        let limit = self.registry.config.max_sessions_per_user;
        self.held.keep_newest(limit, &self.outbox);
    }

    /// The frame for scripts that says that the connection is alive, and up to where the
    /// session has everything.
    pub fn ping(&self) -> Bytes {
        let (proof, id) = self.outbox.proof().unzip();
        let ping = self.outbox.protocol().frame(&frame::ping(proof));
        match id.flatten() {
            Some(id) => sse::with_id(&ping, &id),
            None => ping,
        }
    }

    /// The session has written frames that it had taken. Returns whether it is still open.
    pub fn sent(&self, messages: usize, bytes: usize) -> bool {
        let sent = self.outbox.sent(messages, bytes);
        if sent.wants {
            self.catch_up();
        }
        sent.open
    }

    /// Has the session brought what it missed, unless that is under way.
    fn catch_up(&self) {
        if let Some(durable) = &self.registry.durable
            && self.outbox.queue_for_catching_up()
        {
            durable.wants(self.held.clone(), self.outbox.clone());
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let registry = &self.registry;
        held::leave(
            &registry.users,
            &*registry.subscriptions,
            &self.held,
            &self.outbox,
        );
        self.outbox.cut(CloseReason::ConnectionLost);
    }
}

impl Registry {
    /// An empty one; [`Registry::tasks`] bring it to life.
    pub fn new(
        config: Config,
        subscriptions: Arc<Subscriptions<Arc<Entry>>>,
        metrics: Arc<Metrics>,
        stream: Option<(Stream, DurableConfig)>,
        readiness: &Readiness,
    ) -> Self {
        let durable = |(stream, config)| {
            let held_back = HeldBack::new(metrics.clone(), readiness.clone());
            Arc::new(Durable::new(stream, config, held_back))
        };
        Self {
            durable: stream.map(durable),
            limits: Limits {
                messages: config.queue_messages,
                bytes: config.queue_bytes,
                total_bytes: config.total_queue_bytes,
                total: Arc::default(),
            },
            config,
            users: Users::default(),
            subscriptions,
            life: AtomicU64::new(0),
            connection: Mutex::default(),
            metrics,
        }
    }

    /// Whether a join can succeed now.
    pub fn is_connected(&self) -> bool {
        self.connection().up
    }

    /// Users with a session here.
    pub fn users(&self) -> usize {
        self.users.0.len()
    }

    /// Memory of what waits for sessions to read.
    pub fn queued_bytes(&self) -> usize {
        self.limits.total.load(Ordering::Relaxed)
    }

    /// Takes a seat, and waits until NATS delivers to it; in durable mode also until the
    /// stream has said where the session begins.
    ///
    /// # Errors
    ///
    /// [`JoinError`]; nothing is left behind then.
    pub async fn join(
        self: &Arc<Self>,
        user: &UserId,
        protocol: Protocol,
        since: Option<&Since>,
    ) -> Result<(Seat, Opening), JoinError> {
        let deadline = Instant::now() + CONFIRM;
        let outbox = Arc::new(match self.durable {
            Some(_) => Outbox::durable(protocol),
            None => Outbox::new(protocol),
        });
        let Joined { held, confirmed_in } =
            held::join(&self.users, &*self.subscriptions, user, outbox.clone());
        let seat = Seat {
            registry: self.clone(),
            held,
            outbox,
        };
        if confirmed_in != Some(self.life()) {
            let admission = poll_fn(|cx| seat.outbox.poll_admission(cx));
            match timeout_at(deadline, admission).await {
                Ok(Admission::Confirmed) => {}
                Ok(Admission::Refused) => return Err(JoinError::Forbidden),
                Ok(_) | Err(_) => return Err(JoinError::Unconfirmed),
            }
        }
        // Waited also behind another session of this user, which may be
        // settling still.
        sleep(self.connection().settle).await;
        let begun = match &self.durable {
            None => None,
            Some(durable) => {
                let looking = self.beginning(durable, &seat, since);
                let begun = timeout(LOOK, looking).await;
                Some(begun.ok().flatten().ok_or(JoinError::NoStream)?)
            }
        };

        // From here on the session is told of a loss; what was lost before
        // shows in the life.
        seat.outbox.admit(Admission::Welcomed);
        let opening = match (begun, &self.durable) {
            (Some((look, resumption)), Some(durable)) => {
                if !durable.is_at(&look) {
                    return Err(JoinError::NoStream);
                }
                self.open(durable, &seat, look, resumption)
            }
            _ => Opening {
                stream: None,
                id: None,
                // Live mode keeps nothing, so nothing can be shown.
                resume: since.map_or(Resume::None, |_| Resume::Gap),
            },
        };
        if self.is_connected() && seat.held.confirmed_in() == Some(self.life()) {
            Ok((seat, opening))
        } else {
            Err(JoinError::Unconfirmed)
        }
    }

    /// What the stream has, and what a client that was here before has of it.
    async fn beginning(
        self: &Arc<Self>,
        durable: &Durable,
        seat: &Seat,
        since: Option<&Since>,
    ) -> Option<(Look, Option<Resumption>)> {
        let look = self.look(durable).await;
        let look = look
            .map_err(|error| tracing::debug!(%error, "a join fails"))
            .ok()?;
        let resumption = match since {
            None => None,
            Some(since) => {
                let resumption = self.resumption(durable, &seat.held, since, &look).await;
                let told = resumption.map_err(|error| tracing::debug!(%error, "a join fails"));
                Some(told.ok()?)
            }
        };
        Some((look, resumption))
    }

    /// Tells the session where it begins, and has it brought what it missed.
    fn open(
        &self,
        durable: &Durable,
        seat: &Seat,
        look: Look,
        resumption: Option<Resumption>,
    ) -> Opening {
        let proof = look.proof();
        let begun = match &resumption {
            None => Begun::Anew,
            Some(resumption) if resumption.resume == Resume::Complete => Begun::Complete,
            Some(_) => Begun::Gap,
        };
        let since = resumption
            .as_ref()
            .and_then(|resumption| resumption.since.clone());
        let mut tracker = since.map(Tracker::new).unwrap_or_default();
        tracker.welcome(Some(look.epoch.clone()), proof.seq, proof.at, begun);
        let position = tracker.position().expect("a welcome with an epoch").clone();
        let beginning = |at| Beginning {
            at,
            proven: match begun {
                Begun::Anew => proof,
                Begun::Complete | Begun::Gap => Proof::default(),
            },
            position,
        };
        let (resume, id) = match resumption {
            None => {
                seat.outbox.begin(beginning([proof.seq; 2]), None);
                let id = seat.outbox.id();
                let done = Done {
                    up_to: proof.seq,
                    proof,
                    live: seat.outbox.protocol().frame(&frame::live(proof)),
                    losses: 0,
                };
                if seat
                    .outbox
                    .bring(None, Vec::new(), Some(done), &self.limits)
                {
                    durable.wants(seat.held.clone(), seat.outbox.clone());
                }
                (Resume::None, id)
            }
            Some(Resumption {
                at,
                resume,
                skip,
                missed,
                ..
            }) => {
                let resumed = Resumed {
                    told: if resume == Resume::Gap { proof.seq } else { 0 },
                    skip,
                    missed,
                };
                seat.outbox.begin(beginning(at), Some(resumed));
                let id = seat.outbox.id();
                self.metrics.caught_up(Why::Joining.name());
                seat.catch_up();
                (resume, id)
            }
        };
        self.look_later(durable, &seat.held);
        Opening {
            stream: Some((look.epoch, proof)),
            id,
            resume,
        }
    }

    fn life(&self) -> u64 {
        self.life.load(Ordering::Acquire)
    }

    fn up(self: &Arc<Self>, clustered: bool) {
        self.keeps_what_it_saw();
        let settle = match self.config.settle {
            Some(settle) => settle,
            None if clustered => AUTO_SETTLE,
            None => Duration::ZERO,
        };
        *self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Connection { up: true, settle };
        let life = self.life();
        let registry = self.clone();
        supervision::spawn("what follows a reconnect to NATS", async move {
            sleep(settle).await;
            if registry.life() == life {
                match &registry.durable {
                    _ if life == 0 => {}
                    Some(durable) => registry.bring_all_up_to_date(durable),
                    None => registry.tell_of_the_gap(),
                }
            }
        });
    }

    fn down(&self) {
        self.life.fetch_add(1, Ordering::AcqRel);
        self.keeps_what_it_saw();
        // What comes after it must wait for what came while it was away.
        self.each(|outbox| outbox.lose());
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .up = false;
    }

    /// Before a message of the next connection comes.
    fn keeps_what_it_saw(&self) {
        if let Some(durable) = &self.durable {
            durable.stream.keeps_what_it_saw();
        }
    }

    /// NATS refuses these subscriptions. A join that waits for one fails; a session that
    /// was welcomed is closed, and several are spread, so that they do not all reconnect at
    /// once.
    fn refuse(&self, refused: Vec<(Arc<Entry>, u64)>) {
        let refused = refused.into_iter();
        let sessions = refused.flat_map(|(held, subscription)| held.refuse(subscription));
        let (welcomed, joining): (Vec<_>, Vec<_>) =
            sessions.partition(|outbox| outbox.is_welcomed());
        for outbox in joining {
            outbox.admit(Admission::Refused);
            outbox.end(CloseReason::Internal.into());
        }
        let window = self.config.drain_window;
        let closing = spread(welcomed, window, |outbox, _, _| {
            outbox.end(CloseReason::Internal.into());
        });
        supervision::spawn("the closing of sessions", closing);
    }

    /// Whoever was here while NATS was away may have missed something, which is in the
    /// stream.
    fn bring_all_up_to_date(&self, durable: &Durable) {
        for entry in self.users.0.iter() {
            let entry = entry.value();
            entry.each(|outbox| {
                // Whoever was brought up to date meanwhile was so before this.
                outbox.lose();
                if outbox.is_welcomed() && outbox.queue_for_catching_up() {
                    durable.wants(entry.clone(), outbox.clone());
                }
            });
        }
    }

    /// Whoever was here while NATS was away may have missed something.
    fn tell_of_the_gap(self: &Arc<Self>) {
        let gap = |protocol: Protocol| protocol.frame(&frame::gap(GapReason::BusLost));
        let (text, event) = (gap(Protocol::UsherV1), gap(Protocol::Sse));
        let mut speechless = Vec::new();
        self.each(|outbox| match outbox.protocol() {
            _ if !outbox.is_welcomed() => {}
            Protocol::UsherV1 => drop(outbox.push(text.clone(), None, None, &self.limits)),
            Protocol::Sse => drop(outbox.push(event.clone(), None, None, &self.limits)),
            Protocol::RawV1 => speechless.push(outbox.clone()),
        });
        let closing = spread(speechless, BUS_LOST_SPREAD, |outbox, _, _| {
            outbox.end(CloseReason::BusLost.into());
        });
        supervision::spawn("the closing of sessions", closing);
    }

    /// Ends all sessions, evenly across `window`, each with its own hint of
    /// when to reconnect. The hints grow, so that the clients come back evenly too:
    /// across `window` and the longest hint.
    pub async fn drain(&self, window: Duration) {
        let mut all = Vec::new();
        self.each(|outbox| all.push(outbox.clone()));
        spread(all, window, |outbox, from, to| {
            outbox.end(drained(from, to));
        })
        .await;
        self.end_all();
    }

    /// Ends whoever is left: those that were on their way in when a drain began.
    pub fn end_all(&self) {
        self.each(|outbox| outbox.end(drained(0.0, 1.0)));
    }

    fn each(&self, mut f: impl FnMut(&Arc<Outbox>)) {
        for entry in self.users.0.iter() {
            entry.value().each(&mut f);
        }
    }

    fn connection(&self) -> Connection {
        *self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// With a hint between these fractions of the longest.
fn drained(from: f64, to: f64) -> Ending {
    Ending {
        reason: CloseReason::Drain,
        reconnect_after: Some(jitter::fraction_of(RECONNECT_HINT, from, to)),
    }
}

/// Calls `act` for each, in a random order, evenly across `window`; with the fractions
/// of it at which its turn begins and ends.
async fn spread<T>(mut all: Vec<T>, window: Duration, act: impl Fn(T, f64, f64)) {
    all.shuffle(&mut rand::rng());
    let start = Instant::now();
    let part = 1.0 / all.len() as f64;
    for (index, one) in (0u32..).zip(all) {
        let (from, to) = (f64::from(index) * part, f64::from(index + 1) * part);
        sleep_until(start + window.mul_f64(from)).await;
        act(one, from, to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goodbyes and returns of a drain, each as how many there were in each second.
    #[tokio::test(start_paused = true)]
    async fn a_drain_is_even_in_both_directions() {
        let (start, mut seconds) = (Instant::now(), [[0; 25]; 2]);
        let ends = std::cell::RefCell::new(Vec::new());
        spread(vec![(); 1000], Duration::from_secs(20), |(), from, to| {
            let hint = drained(from, to).reconnect_after.expect("a hint");
            ends.borrow_mut().push((start.elapsed(), hint));
        })
        .await;
        for (at, hint) in ends.into_inner() {
            seconds[0][at.as_secs() as usize] += 1;
            seconds[1][(at + hint).as_secs() as usize] += 1;
        }
        let [gone, back] = seconds;
        let even = |seconds: &[i32], mean: i32| seconds.iter().all(|n| (n - mean).abs() <= 2);
        assert!(even(&gone[..20], 50), "{gone:?}");
        assert!(even(&back, 40), "{back:?}");
    }
}
