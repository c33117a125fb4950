//! A message to every session. It is delivered in slices, so that it holds up neither the
//! messages to single users that come meanwhile nor the sessions that write them.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{runtime::Handle, task::yield_now, time::sleep};

use super::{
    Entry, Registry,
    arrival::Arrivals,
    delivery::{TURNS, Work},
};
use crate::{bus::Event, frame::Frames, message::Message, provoke};

/// Users whose sessions get a broadcast in one turn, for each thread of the runtime. Each
/// session then needs a turn of its own to write it, and what comes for a single user waits
/// for all of these.
const SLICE: usize = 32;
/// Between two slices. The runtime's clock ticks once a millisecond, so this ends at its next
/// tick. It leaves more than half of the CPU's time to everything else: to messages to single
/// users, and on the same machine to NATS. `make api` measures what they notice.
const PAUSE: Duration = Duration::from_micros(1);
/// Events that are handled between two slices; so many end the pause.
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
        let slice_size = SLICE * Handle::current().metrics().num_workers();
        let mut next = None;
        loop {
            let slice = async {
                provoke::here("message", message.event.as_str());
                for _ in 0..slice_size {
                    let Some(entry) = left.pop() else { break };
                    self.deliver(&entry, &mut frames, &mut arrivals, &mut work.behind);
                    while turns > 0 && self.limits.half_full() {
                        turns -= 1;
                        yield_now().await;
                    }
                }
            };
            if !self.contained(slice).await || left.is_empty() {
                return next;
            }
            // The sessions of this slice write first.
            yield_now().await;
            self.answer_probes(work);
            let mut pause = pin!(sleep(PAUSE));
            for _ in 0..EVENTS {
                // What comes after another broadcast waits for that one, and so for the end of
                // this one.
                if next.is_some() {
                    break;
                }
                let event = tokio::select! {
                    biased;
                    event = work.interest.next() => event,
                    () = &mut pause => break,
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
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        let entries = self.users.0.iter();
        entries.map(|entry| entry.value().clone()).collect()
    }
}
