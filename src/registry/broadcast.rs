//! A message to every session. It is delivered in slices, so that it holds up neither the
//! messages to single users that come meanwhile nor the sessions that write them.

use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::task::yield_now;

use super::{
    Entry, Registry,
    arrival::Arrivals,
    delivery::{TURNS, Work},
};
use crate::{bus::Event, frame::Frames, message::Message, provoke};

/// Users whose sessions get a broadcast in one turn. Each session then needs a turn of its
/// own to write it, and what comes for a single user waits for all of these.
const SLICE: usize = 32;
/// Events that are handled between two slices.
const EVENTS: usize = 64;

impl Registry {
    /// Delivers a broadcast to all. Returns what came meanwhile and has to come after it:
    /// another broadcast.
    ///
    /// Nobody is missed by taking the list first: a user's first session is welcomed only
    /// after a confirmation that this same task hands on.
    pub(super) async fn broadcast(
        self: &Arc<Self>,
        message: &Message,
        work: &mut Work,
    ) -> Option<Event<Arc<Entry>>> {
        let mut frames = Frames::new(message, self.config.max_frame);
        let mut arrivals = Arrivals::of(message, &self.config.tracer);
        let mut left = self.entries();
        // For the whole broadcast: clients that never read must not cost the others a wait
        // at each user.
        let mut turns = TURNS;
        let mut next = None;
        while !left.is_empty() {
            let slice = async {
                provoke::here("message", message.event.as_str());
                for _ in 0..SLICE {
                    let Some(entry) = left.pop() else { break };
                    self.deliver(&entry, &mut frames, &mut arrivals, &mut work.behind);
                    while turns > 0 && self.limits.half_full() {
                        turns -= 1;
                        yield_now().await;
                    }
                }
            };
            if !self.contained(slice).await {
                return next;
            }
            // The sessions of this slice write first.
            yield_now().await;
            for _ in 0..EVENTS {
                // What comes after another broadcast waits for that one.
                if next.is_some() {
                    break;
                }
                let Some(event) = work.interest.next().now_or_never() else {
                    break;
                };
                match event {
                    Event::Broadcast(_) => next = Some(event),
                    event => {
                        // A user gets both in the order in which they came.
                        if let Event::Message { to, .. } = &event
                            && let Some(at) = left.iter().position(|entry| Arc::ptr_eq(entry, to))
                        {
                            let entry = left.swap_remove(at);
                            let first = async {
                                self.deliver(&entry, &mut frames, &mut arrivals, &mut work.behind);
                            };
                            if !self.contained(first).await {
                                left.clear();
                            }
                        }
                        self.event(event, work).await;
                    }
                }
            }
        }
        next
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        let entries = self.users.0.iter();
        entries.map(|entry| entry.value().clone()).collect()
    }
}
