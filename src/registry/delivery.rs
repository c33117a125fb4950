//! From the bus to the outboxes: each message to whom it is for, each backlog
//! within its bounds.

use std::sync::Arc;

use tokio::task::yield_now;

use super::{
    Entry, Registry,
    chain::Kind,
    durable::{Checked, Genuine},
    outbox::{Outbox, Pushed},
    probes::Probes,
};
use crate::{
    bus::{Event, Interest, Request, Task},
    close::CloseReason,
    frame::Frames,
    message::Message,
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
        let mut checked = Checked::default();
        let mut probes = Probes::default();
        loop {
            let event = tokio::select! {
                event = interest.next() => event,
                () = probes.tick() => {
                    self.answer_probes(&mut probes, &mut interest);
                    continue;
                }
                () = checked.is_due() => {
                    self.check(&mut checked).await;
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
                        if self
                            .is_genuine_message(&message, Some(&to), &mut checked)
                            .await
                        {
                            let mut frames = Frames::new(&message, self.epoch());
                            let reached = self.deliver(&to, &message, &mut frames, &mut behind);
                            if let (Some(request), 1..) = (request, reached) {
                                self.answer(&mut interest, &request, reached);
                            }
                            self.answer_probes(&mut probes, &mut interest);
                        }
                    };
                    self.contained(handling).await;
                }
                Event::Broadcast(message) => {
                    let handling = async {
                        provoke::here("message", message.event.as_str());
                        if self.is_genuine_message(&message, None, &mut checked).await {
                            self.broadcast(&message, &mut behind).await;
                        }
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

    /// Whether a message may be delivered. Where that cannot be said, those whom it is for
    /// are brought it from the stream.
    async fn is_genuine_message(
        self: &Arc<Self>,
        message: &Message,
        to: Option<&Arc<Entry>>,
        checked: &mut Checked,
    ) -> bool {
        let (Some(durable), Some(stored)) = (&self.durable, message.stored) else {
            return true;
        };
        match self.is_genuine(durable, stored, checked).await {
            Genuine::Yes => true,
            Genuine::No => {
                self.metrics.dropped("not_in_stream", 1);
                false
            }
            Genuine::Unknown => {
                let missing = |entry: &Arc<Entry>| {
                    let mut outboxes = Vec::new();
                    entry.each(|outbox| outboxes.push(outbox.clone()));
                    for outbox in outboxes {
                        self.is_missing_something(durable, entry, &outbox);
                    }
                };
                match to {
                    Some(entry) => missing(entry),
                    None => self.entries().iter().for_each(missing),
                }
                false
            }
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

    fn deliver(
        self: &Arc<Self>,
        held: &Arc<Entry>,
        message: &Message,
        frames: &mut Frames<'_>,
        behind: &mut Vec<Arc<Outbox>>,
    ) -> usize {
        let arrived = Some(std::time::Instant::now());
        let kind = match message.broadcast {
            true => Kind::Broadcast,
            false => Kind::User,
        };
        let stored = message.stored.map(|stored| (kind, stored));
        let mut reached = 0;
        let mut known = false;
        let mut wants = Vec::new();
        held.each(|outbox| {
            let bytes = frames.get(outbox.protocol());
            match outbox.push(bytes, arrived, stored, &self.limits) {
                Pushed::Queued => reached += 1,
                Pushed::Behind => {
                    reached += 1;
                    behind.push(outbox.clone());
                }
                Pushed::Over => self.metrics.dropped("session_over", 1),
                Pushed::Overflowed(lost) => self.metrics.dropped("slow_consumer", lost),
                Pushed::Known => known = true,
                Pushed::Later => {}
                Pushed::Hole => wants.push(outbox.clone()),
                Pushed::Dropped(lost, now) => {
                    self.metrics.postponed(lost);
                    if now {
                        wants.push(outbox.clone());
                    }
                }
            }
        });
        if let Some(durable) = &self.durable {
            for outbox in wants {
                durable.wants(held.clone(), outbox);
            }
            if known {
                self.look_again(durable);
            }
        }
        reached
    }

    /// Nobody is missed by taking the list first: a user's first session is
    /// welcomed only after a confirmation that this same task hands on.
    async fn broadcast(self: &Arc<Self>, message: &Message, behind: &mut Vec<Arc<Outbox>>) {
        let mut frames = Frames::new(message, self.epoch());
        // For the whole broadcast: clients that never read must not cost the
        // others a wait at each user.
        let mut turns = TURNS;
        for entry in self.entries() {
            self.deliver(&entry, message, &mut frames, behind);
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
