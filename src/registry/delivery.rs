//! From the bus to the outboxes: each message to whom it is for, each backlog
//! within its bounds.

use std::sync::Arc;

use tokio::task::yield_now;

use super::{
    Entry, Registry,
    chain::Kind,
    outbox::{Outbox, Pushed},
    probes::Probes,
};
use crate::{
    bus::{Event, Interest, Request, Task},
    close::CloseReason,
    frame::{Framed, Frames},
    message::{Message, Stored},
    provoke,
    supervision::contained,
};

/// Turns that the bus gives up at most, for one session that is behind or for
/// all of a broadcast's together.
const TURNS: usize = 1000;

impl Registry {
    /// What has to be polled for as long as the process lives. Without any one of them a
    /// session may miss a message for good.
    pub fn tasks(self: &Arc<Self>, interest: Interest<Arc<Entry>>) -> Vec<Task> {
        let mut tasks = vec![Task::new("the registry", self.clone().run(interest))];
        if let Some(durable) = &self.durable {
            let (registry, durable) = (|| self.clone(), || durable.clone());
            tasks.extend([
                Task::new("the recovery of sessions", registry().recover(durable())),
                Task::new("the second looks", registry().look_twice(durable())),
                Task::new("the audit of the stream", registry().audit(durable())),
            ]);
        }
        tasks
    }

    /// Brings messages from the bus to sessions.
    async fn run(self: Arc<Self>, mut interest: Interest<Arc<Entry>>) {
        let mut behind = Vec::new();
        let mut probes = Probes::default();
        loop {
            let event = tokio::select! {
                event = interest.next() => event,
                () = probes.tick() => {
                    self.answer_probes(&mut probes, &mut interest);
                    continue;
                }
            };
            match event {
                Event::Message {
                    to,
                    message,
                    request,
                } => {
                    let handling = async {
                        provoke::here("message", message.event.as_str());
                        if let Some(Request {
                            probe: Some(probe), ..
                        }) = &request
                        {
                            let (up_to, reached) = (probe.up_to, self.count(&to, probe.up_to));
                            match request {
                                Some(request) if reached > 0 => {
                                    self.answer(&mut interest, &request, reached);
                                }
                                // Perhaps it is under way.
                                Some(request) => probes.wait(to, up_to, request),
                                None => {}
                            }
                            return;
                        }
                        let reached = self.deliver(&to, &message, &mut behind);
                        if let (Some(request), 1..) = (request, reached) {
                            self.answer(&mut interest, &request, reached);
                        }
                        self.answer_probes(&mut probes, &mut interest);
                    };
                    self.contained(handling).await;
                }
                Event::Broadcast(message) => {
                    let handling = async {
                        provoke::here("message", message.event.as_str());
                        self.broadcast(&message, &mut behind).await;
                    };
                    self.contained(handling).await;
                }
                Event::Confirmed(subscriptions) => {
                    let life = self.life();
                    for (held, id) in subscriptions {
                        held.confirm(id, life);
                    }
                }
                Event::Refused(refused) => self.refuse(refused),
                Event::Up { clustered } => self.up(clustered),
                Event::Down => self.down(),
            }
            for outbox in behind.drain(..) {
                self.give_turns(|| outbox.is_behind(&self.limits)).await;
            }
            self.keep_within_total().await;
        }
    }

    /// Handles one message. A panic over it drops this message and no other; all that handling
    /// changes is whole after each of its steps.
    async fn contained(&self, handling: impl Future<Output = ()>) {
        if contained(handling).await.is_err() {
            self.metrics.dropped("panic", 1);
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
        while self.limits.exceeded() {
            let backlogs = self.backlogs();
            if backlogs.is_empty() {
                return;
            }
            for (entry, outbox) in backlogs {
                if !self.limits.exceeded() {
                    return;
                }
                self.shed(entry, outbox);
                self.give_turns(|| self.limits.exceeded()).await;
            }
        }
    }

    /// Brings a message to the sessions of one user; to how many.
    fn deliver(
        self: &Arc<Self>,
        held: &Arc<Entry>,
        message: &Message,
        behind: &mut Vec<Arc<Outbox>>,
    ) -> usize {
        self.saw(message);
        let mut frames = Frames::new(message, self.config.max_frame);
        self.deliver_frames(held, message, &mut frames, behind)
    }

    fn deliver_frames(
        self: &Arc<Self>,
        held: &Arc<Entry>,
        message: &Message,
        frames: &mut Frames<'_>,
        behind: &mut Vec<Arc<Outbox>>,
    ) -> usize {
        let mut sessions = Vec::new();
        held.each(|outbox| sessions.push(outbox.clone()));
        let mut reached = 0;
        let mut known = false;
        for outbox in sessions {
            match self.offer(&outbox, message, frames) {
                Pushed::Queued => reached += 1,
                Pushed::Behind => {
                    reached += 1;
                    behind.push(outbox);
                }
                Pushed::Over => self.metrics.dropped("session_over", 1),
                Pushed::Overflowed(lost) => self.metrics.dropped("slow_consumer", lost),
                Pushed::Known => known = true,
                Pushed::Later | Pushed::Relink(_) | Pushed::Replaced => {}
                Pushed::Hole => self.wants(held, outbox),
                Pushed::Dropped(lost, now) => {
                    self.metrics.postponed(lost);
                    if now {
                        self.wants(held, outbox);
                    }
                }
            }
        }
        if known && let Some(durable) = &self.durable {
            self.look_again(durable);
        }
        reached
    }

    /// Offers a message to one session, or what stands in its place.
    fn offer(&self, outbox: &Outbox, message: &Message, frames: &mut Frames<'_>) -> Pushed {
        let arrived = Some(std::time::Instant::now());
        let kind = match message.broadcast {
            true => Kind::Broadcast,
            false => Kind::User,
        };
        let stored = message.stored.map(|stored| (kind, stored));
        if let (true, Some((kind, stored))) = (message.probe, stored) {
            return match outbox.skip(kind, stored) {
                true => Pushed::Hole,
                false => Pushed::Later,
            };
        }
        let (bytes, whole) = match frames.get(outbox.protocol()) {
            Framed::Whole(bytes) => (bytes, true),
            Framed::TooLarge(Some(gap)) => (gap, false),
            Framed::TooLarge(None) => {
                self.metrics.dropped("too_large", 1);
                outbox.end(CloseReason::TooLarge.into());
                return Pushed::Replaced;
            }
        };
        let pushed = outbox.push(bytes, arrived, stored, &self.limits);
        if let (Pushed::Relink(prev), Some(stored)) = (pushed, message.stored) {
            let message = Message {
                stored: Some(Stored { prev, ..stored }),
                ..message.clone()
            };
            let mut frames = Frames::new(&message, self.config.max_frame);
            return self.offer(outbox, &message, &mut frames);
        }
        if let (false, Pushed::Queued | Pushed::Behind) = (whole, pushed) {
            self.metrics.dropped("too_large", 1);
            if let Some(stored) = message.stored {
                outbox.was_not_given(kind, stored.seq);
            }
            return Pushed::Replaced;
        }
        pushed
    }

    /// A session has to be brought something from the stream.
    fn wants(&self, held: &Arc<Entry>, outbox: Arc<Outbox>) {
        if let Some(durable) = &self.durable {
            durable.wants(held.clone(), outbox);
        }
    }

    /// Remembers how far the stream is, as this gateway has seen it.
    fn saw(&self, message: &Message) {
        if let (Some(durable), Some(stored)) = (&self.durable, message.stored) {
            durable.stream.saw(stored.seq, stored.at);
        }
    }

    /// Nobody is missed by taking the list first: a user's first session is
    /// welcomed only after a confirmation that this same task hands on.
    async fn broadcast(self: &Arc<Self>, message: &Message, behind: &mut Vec<Arc<Outbox>>) {
        self.saw(message);
        let mut frames = Frames::new(message, self.config.max_frame);
        // For the whole broadcast: clients that never read must not cost the
        // others a wait at each user.
        let mut turns = TURNS;
        for entry in self.entries() {
            self.deliver_frames(&entry, message, &mut frames, behind);
            while turns > 0 && self.limits.half_full() {
                turns -= 1;
                yield_now().await;
            }
        }
    }

    pub(super) fn entries(&self) -> Vec<Arc<Entry>> {
        let entries = self.users.0.iter();
        entries.map(|entry| entry.value().clone()).collect()
    }

    /// The sessions of a user that are open, or have everything up to this sequence.
    fn count(&self, held: &Entry, up_to: Option<u64>) -> usize {
        let mut count = 0;
        held.each(|outbox| {
            count += usize::from(match up_to {
                None => outbox.is_open(),
                Some(seq) => outbox.has_up_to(seq),
            });
        });
        count
    }

    /// Answers the probes that can be answered by now.
    fn answer_probes(&self, probes: &mut Probes, interest: &mut Interest<Arc<Entry>>) {
        probes.sift(|to, up_to, request| {
            let reached = self.count(to, up_to);
            if reached > 0 {
                self.answer(interest, request, reached);
            }
            reached > 0
        });
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

    /// Gives up a backlog that its session can be brought again later, and else the
    /// session with it.
    fn shed(&self, entry: Arc<Entry>, outbox: Arc<Outbox>) {
        if let Some(durable) = &self.durable
            && let Some((lost, wants)) = outbox.shed()
        {
            self.metrics.postponed(lost);
            if wants {
                durable.wants(entry, outbox);
            }
        } else {
            let lost = outbox.cut(CloseReason::SlowConsumer);
            self.metrics.dropped("slow_consumer", lost);
        }
    }

    /// Sessions with a backlog, the largest first; those first that can be brought it
    /// again.
    fn backlogs(&self) -> Vec<(Arc<Entry>, Arc<Outbox>)> {
        let mut backlogs = Vec::new();
        for entry in self.entries() {
            entry.each(|outbox| {
                let size = (outbox.droppable(), outbox.backlog());
                if size != (0, 0) {
                    backlogs.push((size, entry.clone(), outbox.clone()));
                }
            });
        }
        backlogs.sort_unstable_by_key(|(size, ..)| std::cmp::Reverse(*size));
        let sessions = backlogs.into_iter();
        sessions.map(|(_, entry, outbox)| (entry, outbox)).collect()
    }
}
