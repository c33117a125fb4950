//! A message to many sessions: a broadcast, or one to a topic that many follow. It is delivered
//! in slices, so that it holds up neither the messages to others that come meanwhile nor the
//! sessions that write them.

use std::{
    collections::HashMap,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, task::yield_now, time::sleep};

use super::{
    Entry, Registry, Session,
    arrival::Arrivals,
    delivery::{Arrived, TURNS, Work},
};
use crate::{bus::Event, channel::Audience, frame::Frames, message::Message, provoke};

/// Sessions that get a message in one turn, for each thread of the runtime. Each of them then
/// needs a turn of its own to write it, and what comes for others waits for all of these.
const SLICE: usize = 32;
/// The pause between two slices: the shortest sleep. tokio rounds it up to the next tick of its
/// clock, so it takes about 1 ms. It leaves more than half of the CPU's time to everything else:
/// to messages to single users, and on the same machine to NATS.
const PAUSE: Duration = Duration::from_micros(1);
/// How many events are handled between two slices. After that many the pause ends early.
const EVENTS: usize = 64;

/// Sessions that have yet to get the message.
struct Remaining {
    sessions: Vec<Arc<dyn Session>>,
    /// Where each one stands, once somebody asks.
    places: Option<HashMap<usize, usize>>,
}

impl Remaining {
    fn new(sessions: Vec<Arc<dyn Session>>) -> Self {
        let places = None;
        Self { sessions, places }
    }

    fn pop(&mut self) -> Option<Arc<dyn Session>> {
        let session = self.sessions.pop()?;
        if let Some(places) = &mut self.places {
            places.remove(&address(&session));
        }
        Some(session)
    }

    /// Takes a session out; `None` if it has the message, or does not get it.
    fn take(&mut self, session: &Arc<dyn Session>) -> Option<Arc<dyn Session>> {
        let sessions = &mut self.sessions;
        let places = self.places.get_or_insert_with(|| {
            let places = sessions.iter().enumerate();
            places
                .map(|(place, session)| (address(session), place))
                .collect()
        });
        let place = places.remove(&address(session))?;
        let session = sessions.swap_remove(place);
        if let Some(moved) = sessions.get(place) {
            places.insert(address(moved), place);
        }
        Some(session)
    }
}

/// What tells a session from others for as long as it is held.
fn address(session: &Arc<dyn Session>) -> usize {
    Arc::as_ptr(session).cast::<()>().addr()
}

/// Sessions of one slice.
fn slice() -> usize {
    SLICE * Handle::current().metrics().num_workers()
}

impl Registry {
    /// Whether a message to this audience is delivered in slices: a topic that more sessions follow
    /// than a slice has.
    pub(super) fn is_for_many(to: &Entry) -> bool {
        matches!(to.key(), Audience::Topic(_)) && to.len() > slice()
    }

    /// Delivers a broadcast to all sessions.
    ///
    /// It is safe to take the list of sessions at the beginning. A session that joins later is
    /// welcomed after the broadcast has come to this task, and its `welcome` promises only what
    /// is published after it. (In durable mode the leader query for its beginning comes after
    /// its join, so the session begins after the broadcast.)
    pub(super) async fn broadcast(
        self: &Arc<Self>,
        message: (&Message, Instant),
        work: &mut Work,
    ) -> Option<Arrived> {
        let mut sessions = Vec::new();
        self.each(|session| sessions.push(session.clone()));
        self.fan_out(sessions, message, work).await
    }

    /// Delivers a message to all that follow its topic.
    pub(super) async fn to_topic(
        self: &Arc<Self>,
        to: &Entry,
        message: (&Message, Instant),
        work: &mut Work,
    ) -> Option<Arrived> {
        let mut sessions = Vec::with_capacity(to.len());
        to.each(|session| sessions.push(session.clone()));
        self.fan_out(sessions, message, work).await
    }

    /// Delivers a message to many. Returns what came meanwhile and has to come after it: another
    /// such message.
    async fn fan_out(
        self: &Arc<Self>,
        sessions: Vec<Arc<dyn Session>>,
        (message, at): (&Message, Instant),
        work: &mut Work,
    ) -> Option<Arrived> {
        let mut frames = Frames::new(message, self.config.max_frame);
        let mut arrivals = Arrivals::of(message, at, &self.config.tracer);
        let mut remaining = Remaining::new(sessions);
        // For all of them together: clients that never read must not cost the others a wait
        // each.
        let mut turns = TURNS;
        let slice_size = slice();
        let mut next = None;
        loop {
            let slice = async {
                provoke::here("message", message.event.as_str());
                for _ in 0..slice_size {
                    let Some(session) = remaining.pop() else {
                        break;
                    };
                    let one = [session];
                    self.offer(one, &mut frames, &mut arrivals, &mut work.need_turns);
                    while turns > 0 && self.limits.half_full() {
                        turns -= 1;
                        yield_now().await;
                    }
                }
            };
            if !self.contained(slice).await || remaining.sessions.is_empty() {
                return next;
            }
            // The sessions of this slice write first.
            yield_now().await;
            self.answer_probes(work);
            let mut pause = pin!(sleep(PAUSE));
            for _ in 0..EVENTS {
                // What comes after another such message waits for that one, and so for the end
                // of this one.
                if next.is_some() {
                    break;
                }
                let arrived = tokio::select! {
                    biased;
                    arrived = Arrived::next(&mut work.interest) => arrived,
                    () = &mut pause => break,
                };
                let to = match &arrived.event {
                    Event::Broadcast(_) => None,
                    Event::Message { to, .. } if Self::is_for_many(to) => None,
                    Event::Message { to, .. } => Some(Some(to)),
                    _ => Some(None),
                };
                let Some(to) = to else {
                    next = Some(arrived);
                    break;
                };
                // A session gets both in the order in which they came.
                if let Some(to) = to {
                    let mut first = Vec::new();
                    to.each(|session| first.extend(remaining.take(session)));
                    let first = async {
                        self.offer(first, &mut frames, &mut arrivals, &mut work.need_turns);
                    };
                    if !self.contained(first).await {
                        return next.or(Some(arrived));
                    }
                }
                self.event(arrived, work).await;
            }
        }
    }
}
