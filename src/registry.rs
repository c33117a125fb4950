//! Users, their sessions, and the way of a message to each.
//!
//! NATS is subscribed to a user's subject exactly while a [`SessionHandle`] of that user exists.
//! [`Registry::join`] hands a handle out only when NATS has confirmed the subscription;
//! dropping the handle does all the cleaning up.
//!
//! What a session keeps besides its backlog is its own affair ([`Session`]): the registry
//! knows nothing of a stream. [`Registry::run`] lists the steps of a message.
//!
//! Lock order, here and in `durable`. A thread may lock only what stands further to the right:
//!
//! - a shard of `Audiences` → an entry's state (`membership`) → a session's track (`durable`)
//!   → its [`Follows`] → its [`Backlog`]. Nothing is locked inside of a backlog's lock.
//! - `Durable::state` → `Durable::sessions` → a session's track.

mod arrival;
mod backlog;
mod config;
mod delivery;
mod dismiss;
mod drain;
mod fan_out;
mod follows;
mod limits;
mod membership;
mod presence;
mod probes;
mod session;
mod session_handle;
mod user_sessions;

/// Where the state machine and backlogs find their lock; model checkers bring their own.
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
use tokio::time::{Instant, sleep, timeout_at};

pub use self::{
    arrival::Arrival,
    backlog::{Backlog, JoinState, Next, Outgoing, Source},
    config::Config,
    dismiss::Dismissal,
    follows::{Change as TopicChange, FollowError, Followed, Follows, Recovery},
    limits::{Charge, Limits},
    presence::Change,
    session::{Commit, Live, Pushed, Session},
    session_handle::{Follower, SessionHandle},
    user_sessions::Here,
};
use self::{
    dismiss::Dismissals,
    membership::{Bus, Directory, Held, Joined},
};
use crate::{
    bus::{AUTO_SETTLE, Subscriber, Subscriptions},
    channel::{Audience, Topic},
    close::CloseReason,
    frame::{self, GapReason, Protocol},
    jitter::spread,
    metrics::Metrics,
    supervision,
    user::UserId,
};

/// NATS must confirm a subscription within this.
const CONFIRM: Duration = Duration::from_secs(2);
/// After a loss of NATS in live mode raw sessions are closed across this: no frame can tell them
/// of the gap. Centrifuge sessions, which no frame can tell either, are closed across the drain
/// window, which is longer.
const BUS_LOST_SPREAD: Duration = Duration::from_secs(5);

/// The user's subject is not heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// NATS permits this gateway no subscription to this user's subject, or to a topic's.
    #[error("NATS forbids the subscription to a subject of this session")]
    Forbidden,
    /// This gateway follows as many topics as it may.
    #[error("this gateway follows as many topics as it may (topics.max)")]
    Full,
    /// NATS is away, or slow.
    #[error("NATS did not confirm the subscription in time")]
    Unconfirmed,
}

/// An audience's entry, as the bus delivers to it.
type Entry = Held<Audience, Arc<dyn Session>>;

impl Subscriber for Arc<Entry> {
    fn audience(&self) -> &Audience {
        Held::key(self)
    }
}

impl From<FollowError> for JoinError {
    fn from(error: FollowError) -> Self {
        match error {
            FollowError::Forbidden => Self::Forbidden,
            FollowError::TooMany(_) | FollowError::Full => Self::Full,
            FollowError::Unavailable
            | FollowError::Already
            | FollowError::Unrecoverable
            | FollowError::Over => Self::Unconfirmed,
        }
    }
}

impl Bus<Audience, Arc<dyn Session>> for Subscriptions<Arc<Entry>> {
    fn subscribe(&self, held: &Arc<Entry>) -> u64 {
        Self::subscribe(self, held.clone())
    }

    fn unsubscribe(&self, id: u64) {
        Self::unsubscribe(self, id);
    }
}

/// The map, and nothing but the map. No guard of it outlives a call.
#[derive(Debug, Default)]
struct Audiences(DashMap<Audience, Arc<Entry>>);

impl Directory<Audience, Arc<dyn Session>> for Audiences {
    fn enter<R>(&self, key: &Audience, f: impl FnOnce(&Arc<Entry>) -> R) -> R {
        let entry = self.0.entry(key.clone());
        f(&entry.or_insert_with(|| Arc::new(Held::new(key.clone()))))
    }

    fn remove_if(&self, key: &Audience, f: impl FnOnce(&Arc<Entry>) -> bool) -> bool {
        self.0.remove_if(key, |_, held| f(held)).is_some()
    }
}

/// All users and sessions of this gateway.
#[derive(Debug)]
pub struct Registry {
    config: Config,
    users: Audiences,
    topics: Audiences,
    subscriptions: Arc<Subscriptions<Arc<Entry>>>,
    limits: Arc<Limits>,
    dismissals: Dismissals,
    /// The number of the connection to NATS: it grows with every loss. A confirmation counts only
    /// for the connection on which it was given.
    connection_number: AtomicU64,
    connection: Mutex<Connection>,
    presence: presence::Presence,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Connection {
    up: bool,
    settle: Duration,
}

impl Registry {
    /// An empty one; [`Registry::run`] brings it to life.
    pub fn new(
        config: Config,
        subscriptions: Arc<Subscriptions<Arc<Entry>>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            limits: Arc::new(Limits::new(
                config.queue_messages,
                config.queue_bytes,
                config.total_queue_bytes,
            )),
            config,
            users: Audiences::default(),
            topics: Audiences::default(),
            dismissals: Dismissals::default(),
            subscriptions,
            connection_number: AtomicU64::new(0),
            connection: Mutex::default(),
            presence: presence::Presence::new(metrics.clone()),
            metrics,
        }
    }

    /// The bounds of backlogs, and what they use.
    pub fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// Topics that one session follows at most.
    pub fn max_topics_per_session(&self) -> usize {
        self.config.max_topics_per_session
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

    /// Adds a session to its user and to topics. Returns when NATS has confirmed all subscriptions
    /// and `settle` is over; also, with `Ok`, when a service has ended the session: ask
    /// [`Backlog::is_dismissed`]. [`SessionHandle::commit`] has to follow. The session has been on
    /// its way in since `began`: it ends too if a service has ended its user's sessions later.
    ///
    /// # Errors
    ///
    /// [`JoinError`], after 2 s at the latest; nothing is left behind then, nor if the future is
    /// dropped.
    pub async fn join(
        self: &Arc<Self>,
        user: &UserId,
        topics: &[Topic],
        session: Arc<dyn Session>,
        began: Instant,
    ) -> Result<SessionHandle, JoinError> {
        let deadline = Instant::now() + CONFIRM;
        let audience = Audience::User(user.clone());
        let Joined { held, confirmed_on } = membership::join(
            &self.users,
            &*self.subscriptions,
            &audience,
            session.clone(),
        );
        let handle = SessionHandle {
            registry: self.clone(),
            user: user.clone(),
            held,
            session,
        };
        if let Some(ending) = self.dismissals.ending(user, began) {
            handle.backlog().end(ending);
        }
        let mut following = self.begin_to_follow(&handle.session, topics)?;
        if confirmed_on != Some(self.connection_number()) {
            let state = poll_fn(|cx| handle.backlog().poll_join_state(cx));
            match timeout_at(deadline, state).await {
                Ok(JoinState::Confirmed) => {}
                _ if handle.backlog().is_dismissed() => return Ok(handle),
                Ok(JoinState::Refused) => return Err(JoinError::Forbidden),
                Ok(_) | Err(_) => return Err(JoinError::Unconfirmed),
            }
        }
        tokio::select! {
            answered = following.answered(deadline) => drop(answered?),
            () = handle.dismissed() => {}
        }
        // Waited also behind another session of this user, which may be
        // settling still.
        sleep(self.connection().settle).await;
        if !following.begin() && !handle.backlog().is_dismissed() {
            return Err(JoinError::Forbidden);
        }
        drop(following);
        Ok(handle)
    }

    /// The number of the connection to NATS.
    fn connection_number(&self) -> u64 {
        self.connection_number.load(Ordering::Acquire)
    }

    fn up(self: &Arc<Self>, clustered: bool) {
        let settle = match self.config.settle {
            Some(settle) => settle,
            None if clustered => AUTO_SETTLE,
            None => Duration::ZERO,
        };
        *self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Connection { up: true, settle };
        let number = self.connection_number();
        let registry = self.clone();
        supervision::spawn("what follows a reconnect to NATS", async move {
            sleep(settle).await;
            if number > 0 && registry.connection_number() == number {
                registry.tell_of_the_gap();
            }
        });
    }

    fn down(&self) {
        self.connection_number.fetch_add(1, Ordering::AcqRel);
        // What comes after it must wait for what came while it was away.
        self.each(|session| session.lost());
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .up = false;
    }

    /// NATS refuses these subscriptions. A join that waits for one fails; a session that
    /// was welcomed is closed, and several are spread, so that they do not all reconnect at
    /// once.
    fn refuse(&self, refused: Vec<(Arc<Entry>, u64)>) {
        let mut welcomed = Vec::new();
        let mut joining = Vec::new();
        for (held, subscription) in refused {
            for session in held.refuse(subscription) {
                let follows = session.follows();
                match held.key() {
                    Audience::User(_) if !session.backlog().is_welcomed() => joining.push(session),
                    // It is about to follow it: who waits for that is told.
                    Audience::Topic(topic) if follows.with(topic, || ()).is_none() => {
                        follows.nats_answered();
                    }
                    Audience::User(_) | Audience::Topic(_) => welcomed.push(session),
                }
            }
        }
        for session in joining {
            session.backlog().set_join_state(JoinState::Refused);
            session.backlog().end(CloseReason::Internal.into());
        }
        let window = self.config.drain_window;
        let closing = spread(welcomed, window, |session, _, _| {
            session.backlog().end(CloseReason::Internal.into());
        });
        supervision::spawn("the closing of sessions", closing);
    }

    /// Sessions that were here while NATS was away may have missed something: each catches up,
    /// or is told.
    fn tell_of_the_gap(self: &Arc<Self>) {
        let gap = |protocol: Protocol| protocol.frame(&frame::gap(GapReason::BusLost));
        let (text, event) = (gap(Protocol::UsherV1), gap(Protocol::Sse));
        let (mut speechless, mut centrifuge) = (Vec::new(), Vec::new());
        self.each(|session| {
            let backlog = session.backlog();
            if session.clone().catches_up() || !backlog.is_welcomed() {
                return;
            }
            let push = |frame: &Bytes| {
                backlog.push(Outgoing::own(frame.clone(), &self.limits), &self.limits)
            };
            match backlog.protocol() {
                Protocol::UsherV1 => drop(push(&text)),
                Protocol::Sse => drop(push(&event)),
                Protocol::RawV1 => speechless.push(session.clone()),
                Protocol::CentrifugeJson | Protocol::CentrifugeProtobuf => {
                    centrifuge.push(session.clone());
                }
            }
        });
        let window = self.config.drain_window;
        for (sessions, across) in [(speechless, BUS_LOST_SPREAD), (centrifuge, window)] {
            let closing = spread(sessions, across, |session: Arc<dyn Session>, _, _| {
                session.backlog().end(CloseReason::BusLost.into());
            });
            supervision::spawn("the closing of sessions", closing);
        }
    }

    fn user(&self, user: &UserId) -> Option<Arc<Entry>> {
        let entry = self.users.0.get(&Audience::User(user.clone()));
        entry.map(|entry| entry.value().clone())
    }

    fn each(&self, mut f: impl FnMut(&Arc<dyn Session>)) {
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

#[cfg(test)]
mod tests;
