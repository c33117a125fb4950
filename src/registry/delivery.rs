//! From the bus to the outboxes: each message to whom it is for, each backlog
//! within its bounds.

use std::sync::Arc;

use tokio::task::yield_now;

use super::{
    Entry, Registry,
    outbox::{Outbox, Pushed},
};
use crate::{
    bus::{Event, Interest, Request},
    close::CloseReason,
    frame::Frames,
    message::Message,
};

/// Turns that the bus gives up at most, for one session that is behind or for
/// all of a broadcast's together.
const TURNS: usize = 1000;

impl Registry {
    /// Brings messages from the bus to sessions, for as long as the process
    /// lives.
    pub async fn run(self: Arc<Self>, mut interest: Interest<Arc<Entry>>) {
        let mut behind = Vec::new();
        loop {
            match interest.next().await {
                Event::Message {
                    to,
                    message,
                    request,
                } => {
                    let reached = match &request {
                        Some(Request { probe: true, .. }) => self.count_open(&to),
                        _ => self.deliver(&to, &mut Frames::new(&message), &mut behind),
                    };
                    if let (Some(request), 1..) = (request, reached) {
                        self.answer(&mut interest, &request, reached);
                    }
                }
                Event::Broadcast(message) => self.broadcast(&message, &mut behind).await,
                Event::Confirmed(subscriptions) => {
                    let life = self.life();
                    for (held, id) in subscriptions {
                        held.confirm(id, life);
                    }
                }
                Event::Refused(held, id) => held.refuse(id),
                Event::Up { clustered } => self.up(clustered),
                Event::Down => self.down(),
            }
            for outbox in behind.drain(..) {
                self.give_turns(|| outbox.is_behind(&self.limits)).await;
            }
            self.keep_within_total().await;
        }
    }

    /// A burst comes from NATS faster than sessions have their turns to write
    /// it. That is no fault of their clients, so they get their turns first.
    async fn give_turns(&self, wanted: impl Fn() -> bool) {
        for _ in 0..TURNS {
            if !wanted() {
                return;
            }
            yield_now().await;
        }
    }

    /// Ends the sessions with the largest backlogs, where all together are more
    /// than they may be though each has had its turn. One that is ended needs a
    /// turn too, to let go of what it has taken.
    async fn keep_within_total(&self) {
        self.give_turns(|| self.limits.exceeded()).await;
        while self.limits.exceeded() && self.shed() {
            self.give_turns(|| self.limits.exceeded()).await;
        }
    }

    fn deliver(
        &self,
        held: &Entry,
        frames: &mut Frames<'_>,
        behind: &mut Vec<Arc<Outbox>>,
    ) -> usize {
        let arrived = Some(std::time::Instant::now());
        let mut reached = 0;
        held.each(|outbox| {
            let bytes = frames.get(outbox.protocol());
            match outbox.push(bytes, arrived, &self.limits) {
                Pushed::Queued => reached += 1,
                Pushed::Behind => {
                    reached += 1;
                    behind.push(outbox.clone());
                }
                Pushed::Over => self.metrics.dropped("session_over", 1),
                Pushed::Overflowed(lost) => self.metrics.dropped("slow_consumer", lost),
            }
        });
        reached
    }

    /// Nobody is missed by taking the list first: a user's first session is
    /// welcomed only after a confirmation that this same task hands on.
    async fn broadcast(&self, message: &Message, behind: &mut Vec<Arc<Outbox>>) {
        let mut frames = Frames::new(message);
        let entries: Vec<_> = self
            .users
            .0
            .iter()
            .map(|entry| entry.value().clone())
            .collect();
        // For the whole broadcast: clients that never read must not cost the
        // others a wait at each user.
        let mut turns = TURNS;
        for entry in entries {
            self.deliver(&entry, &mut frames, behind);
            while turns > 0 && self.limits.half_full() {
                turns -= 1;
                yield_now().await;
            }
        }
    }

    fn count_open(&self, held: &Entry) -> usize {
        let mut open = 0;
        held.each(|outbox| open += usize::from(outbox.is_open()));
        open
    }

    fn answer(&self, interest: &mut Interest<Arc<Entry>>, request: &Request, sessions: usize) {
        if !request.reply.starts_with(&self.config.reply_prefix) {
            self.metrics.receipts("refused");
            return;
        }
        let answer = serde_json::json!({
            "gateway": self.config.gateway,
            "sessions": sessions,
        });
        interest.answer(&request.reply, answer.to_string().as_bytes());
    }

    /// Ends the session with the largest backlog; false where none has any.
    fn shed(&self) -> bool {
        let mut largest: Option<(usize, Arc<Outbox>)> = None;
        self.each(|outbox| {
            let backlog = outbox.backlog();
            if backlog > largest.as_ref().map_or(0, |(most, _)| *most) {
                largest = Some((backlog, outbox.clone()));
            }
        });
        let Some((_, outbox)) = largest else {
            return false;
        };
        let lost = outbox.cut(CloseReason::SlowConsumer);
        self.metrics.dropped("slow_consumer", lost);
        true
    }
}
