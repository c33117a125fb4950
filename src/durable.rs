//! Durable mode: sessions catch up from a stream with what they missed.
//!
//! - `session` receives live messages. Its state machine says how the session stands to the
//!   stream: `track`, and `chain` for each channel.
//! - `rounds` catches sessions up. They wait in two queues, each with rounds of its own:
//!   `joining` has the sessions whose clients wait for their `welcome`, `waiting` has all other
//!   sessions that need messages from the stream.
//! - `resume` judges a client's position; `resume_per_channel` judges the channels of a
//!   Centrifuge client.
//! - `verdict` decides whether the reads of a session are intact. `rounds::deliver` adds two
//!   reasons for a `gap`: the stream has fewer messages than a read has promised, or the client
//!   missed more than `max_replay`.
//! - `audit` compares all sessions with the stream from time to time.

mod audit;
mod catch_up;
mod chain;
mod held_back;
mod resume;
mod resume_per_channel;
mod rounds;
mod session;
mod topics;
mod track;
mod verdict;

/// Where sessions find their lock; the model checker brings its own.
mod sync {
    pub(super) use std::sync::{Mutex, MutexGuard};

    /// A panic elsewhere leaves nothing half done behind these locks.
    pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};

use self::{held_back::HeldBack, resume::Asked, sync::lock};
pub use self::{
    resume::{NoStream, Opening},
    session::Session,
};
use crate::{
    bus::{
        Task,
        stream::{LeaderState, Stream, StreamError},
    },
    channel::Topic,
    close::CloseReason,
    frame::Protocol,
    jitter::spread,
    metrics::Metrics,
    readiness::{Part, Readiness},
    registry::Limits,
    supervision,
    telemetry::Tracer,
    user::UserId,
};

/// When a session is offered a message that it has, the leader is asked at most this often.
const AGAIN: Duration = Duration::from_secs(1);

/// How durable mode treats sessions.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Messages that one session is sent again at most.
    pub max_replay: u64,
    /// All sessions are compared with the stream this often.
    pub audit: Duration,
    /// Sessions of a stream that is no more are closed across this.
    pub drain_window: Duration,
    /// The largest frame that a session is sent.
    pub max_frame: usize,
}

/// Durable mode of this gateway.
#[derive(Debug)]
pub struct Durable {
    stream: Stream,
    config: Config,
    limits: Arc<Limits>,
    metrics: Arc<Metrics>,
    tracer: Tracer,
    /// Which stream it is, and how often it was replaced; `None` before the first leader query.
    state: Mutex<Option<(Arc<str>, u64)>>,
    /// All sessions.
    sessions: Mutex<HashMap<u64, Weak<Session>>>,
    next_number: AtomicU64,
    /// The sessions that wait for a round, each at most once.
    waiting: Mutex<VecDeque<Waiting>>,
    /// The sessions on their way in that wait to be told where they begin.
    joining: Mutex<VecDeque<Waiting>>,
    woken: Notify,
    /// [`rounds::MAX_READS`] sessions read for themselves at the same time.
    own_reads: Semaphore,
    /// [`rounds::MAX_COUNTS`] sessions count what they missed at the same time.
    counts: Semaphore,
    /// What sessions that read for themselves have cost lately.
    own_reads_cost: rounds::Spent,
    /// When a session was last offered a message that it has, and the leader was asked.
    last_duplicate_check: Mutex<Option<Instant>>,
    /// Sessions that joined lately, and when each is compared with the stream.
    joined: Mutex<VecDeque<(Instant, Weak<Session>)>>,
    held_back: Arc<HeldBack>,
    readiness: Readiness,
}

/// A session that waits for a round.
#[derive(Debug)]
struct Waiting {
    session: Arc<Session>,
    /// Its client waits to be told where it begins.
    asked: Option<Asked>,
}

impl Durable {
    /// Durable mode over a stream; [`Durable::tasks`] bring it to life.
    pub fn new(
        stream: Stream,
        config: Config,
        limits: Arc<Limits>,
        (metrics, readiness, tracer): (Arc<Metrics>, Readiness, Tracer),
    ) -> Arc<Self> {
        Arc::new(Self {
            stream,
            config,
            limits,
            state: Mutex::default(),
            sessions: Mutex::default(),
            next_number: AtomicU64::new(0),
            waiting: Mutex::default(),
            joining: Mutex::default(),
            woken: Notify::new(),
            own_reads: Semaphore::new(rounds::MAX_READS),
            counts: Semaphore::new(rounds::MAX_COUNTS),
            own_reads_cost: rounds::Spent::default(),
            last_duplicate_check: Mutex::default(),
            joined: Mutex::default(),
            held_back: HeldBack::new(metrics.clone(), readiness.clone()),
            readiness,
            metrics,
            tracer,
        })
    }

    /// What has to be polled for as long as the process lives. Without any one of them a
    /// session may miss a message for good.
    pub fn tasks(self: &Arc<Self>) -> Vec<Task> {
        vec![
            Task::new("the recovery of sessions", self.clone().rounds()),
            Task::new("the second looks", self.clone().look_twice()),
            Task::new("the audit of the stream", self.clone().audit()),
        ]
    }

    /// A session on its way in, which follows these topics. Call [`Durable::resume_or_start`] once
    /// NATS delivers to it.
    pub fn session(
        self: &Arc<Self>,
        user: &UserId,
        protocol: Protocol,
        topics: &[Topic],
    ) -> Arc<Session> {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let session = Session::new(user.clone(), protocol, topics, self.clone(), number);
        let session = Arc::new(session);
        lock(&self.sessions).insert(number, Arc::downgrade(&session));
        session
    }

    /// Whether a session can be told where it begins, as far as is known now: the stream answers
    /// and, for a client with a position, can be read.
    pub fn can_begin(&self, with_position: bool) -> bool {
        let reads = with_position.then_some(Part::StreamConnection);
        let mut parts = [Part::Push, Part::Stream].into_iter().chain(reads);
        parts.all(|part| self.readiness.is_up(part))
    }

    /// A session has ended.
    fn forget(&self, number: u64) {
        lock(&self.sessions).remove(&number);
    }

    fn all(&self) -> Vec<Arc<Session>> {
        lock(&self.sessions)
            .values()
            .filter_map(Weak::upgrade)
            .collect()
    }

    /// A session has to catch up; the caller has marked it as queued.
    fn want(&self, session: Arc<Session>) {
        let asked = None;
        self.wait(Waiting { session, asked });
    }

    fn wait(&self, waiting: Waiting) {
        let set = match waiting.asked {
            None => &self.waiting,
            Some(_) => &self.joining,
        };
        lock(set).push_back(waiting);
        self.woken.notify_one();
    }

    /// Whether the stream is still as it was at a leader query.
    fn is_at(&self, leader: &LeaderState) -> bool {
        let state = lock(&self.state);
        let state = state.as_ref();
        state.is_some_and(|(epoch, replacements)| {
            *epoch == leader.epoch && *replacements == leader.replacements
        })
    }

    /// What the stream's leader has. If the stream was made anew or set back since the last leader
    /// query, all sessions are closed and their clients have to reconnect: their positions are
    /// of a stream that is no more.
    ///
    /// # Errors
    ///
    /// As [`Stream::leader`].
    async fn leader(&self) -> Result<LeaderState, StreamError> {
        let leader = self.stream.leader().await?;
        if let Some((epoch, sessions)) = self.learn(&leader) {
            let reason = match epoch == leader.epoch {
                true => "set_back",
                false => "made_anew",
            };
            tracing::warn!(
                reason,
                sessions = sessions.len(),
                "the stream is not the one that sessions have had messages of; they are closed, \
                 and have to come again"
            );
            self.metrics.stream_replaced(reason);
            let window = self.config.drain_window;
            let closing = spread(sessions, window, |session: Arc<Session>, _, _| {
                session.backlog().end(CloseReason::BusLost.into());
            });
            supervision::spawn("the closing of sessions", closing);
        }
        Ok(leader)
    }

    /// Remembers which stream it is by now. If it replaced another one, returns the epoch of that
    /// and its sessions, which get nothing more. Tasks that wait for leader queries may come here
    /// in another order than the queries were made: an older one says nothing new.
    fn learn(&self, leader: &LeaderState) -> Option<(Arc<str>, Vec<Arc<Session>>)> {
        let mut state = lock(&self.state);
        let known = state.as_ref().map(|(_, replacements)| *replacements);
        if known.is_some_and(|known| known >= leader.replacements) {
            return None;
        }
        let before = state.replace((leader.epoch.clone(), leader.replacements))?;
        // Before anybody can build a frame of the new stream.
        Some((before.0, self.disown()))
    }

    /// Sessions of a stream that is no more get nothing of the new one: a client would take a
    /// position there for one up to where it has everything.
    fn disown(&self) -> Vec<Arc<Session>> {
        let mut sessions = self.all();
        sessions.retain(|session| session.backlog().is_welcomed());
        sessions.iter().for_each(|session| session.track().disown());
        sessions
    }

    /// A session was offered a message that it has: a duplicate, or one of the first messages of
    /// a stream that was made anew, whose sequences begin again. The leader tells which.
    fn look_again(self: &Arc<Self>) {
        let mut last = lock(&self.last_duplicate_check);
        if last.is_none_or(|at| at.elapsed() >= AGAIN) {
            *last = Some(Instant::now());
            let durable = self.clone();
            supervision::spawn("another leader query for the stream", async move {
                let _ = durable.leader().await;
            });
        }
    }
}

#[cfg(test)]
mod tests;
