//! From the bus to the outboxes: each message to whom it is for, each backlog
//! within its bounds.

use std::sync::Arc;

use tokio::task::yield_now;

use super::{
    Entry, Registry,
    probes::Probes,
    session::{Pushed, Session},
};
use crate::{
    bus::{Event, Interest, Probe, Request},
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
    /// Brings messages from the bus to sessions, for as long as the process lives.
    pub async fn run(self: Arc<Self>, mut interest: Interest<Arc<Entry>>) {
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
                            let (probe, reached) = (*probe, self.count(&to, *probe));
                            match request {
                                Some(request) if reached > 0 => {
                                    self.answer(&mut interest, &to, &request, reached);
                                }
                                // Perhaps it is under way.
                                Some(request) => probes.wait(to, probe, request),
                                None => {}
                            }
                            return;
                        }
                        let mut frames = Frames::new(&message, self.config.max_frame);
                        let reached = self.deliver(&to, &mut frames, &mut behind);
                        if let (Some(request), 1..) = (request, reached) {
                            self.answer(&mut interest, &to, &request, reached);
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
            for session in behind.drain(..) {
                let is_behind = || session.backlog().is_behind(&self.limits);
                self.give_turns(is_behind).await;
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
            for session in backlogs {
                if !self.limits.exceeded() {
                    return;
                }
                self.shed(&session);
                self.give_turns(|| self.limits.exceeded()).await;
            }
        }
    }

    /// Brings a message to the sessions of one user; to how many.
    fn deliver(
        &self,
        held: &Entry,
        frames: &mut Frames<'_>,
        behind: &mut Vec<Arc<dyn Session>>,
    ) -> usize {
        let mut sessions = Vec::new();
        held.each(|session| sessions.push(session.clone()));
        let mut reached = 0;
        for session in sessions {
            match session.clone().offer(frames, &self.limits) {
                Pushed::Queued => reached += 1,
                Pushed::Behind => {
                    reached += 1;
                    behind.push(session);
                }
                Pushed::Over => self.metrics.dropped("session_over", 1),
                Pushed::Overflowed(lost) => self.metrics.dropped("slow_consumer", lost),
                Pushed::TooLarge => self.metrics.dropped("too_large", 1),
                Pushed::Later => {}
            }
        }
        reached
    }

    /// Nobody is missed by taking the list first: a user's first session is
    /// welcomed only after a confirmation that this same task hands on.
    async fn broadcast(&self, message: &Message, behind: &mut Vec<Arc<dyn Session>>) {
        let mut frames = Frames::new(message, self.config.max_frame);
        // For the whole broadcast: clients that never read must not cost the
        // others a wait at each user.
        let mut turns = TURNS;
        for entry in self.entries() {
            self.deliver(&entry, &mut frames, behind);
            while turns > 0 && self.limits.half_full() {
                turns -= 1;
                yield_now().await;
            }
        }
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        let entries = self.users.0.iter();
        entries.map(|entry| entry.value().clone()).collect()
    }

    /// The sessions of a user that are open, or have everything up to a sequence.
    fn count(&self, held: &Entry, probe: Probe) -> usize {
        let mut count = 0;
        held.each(|session| {
            count += usize::from(match probe.up_to {
                None => session.backlog().is_open(),
                Some(seq) => session.has_up_to(seq),
            });
        });
        match probe.presence {
            true => self.presence.counts(held, count),
            false => count,
        }
    }

    /// Answers the probes that can be answered by now.
    fn answer_probes(&self, probes: &mut Probes, interest: &mut Interest<Arc<Entry>>) {
        probes.sift(|to, probe, request| {
            let reached = self.count(to, probe);
            if reached > 0 {
                self.answer(interest, to, request, reached);
            }
            reached > 0
        });
    }

    fn answer(
        &self,
        interest: &mut Interest<Arc<Entry>>,
        to: &Entry,
        request: &Request,
        sessions: usize,
    ) {
        if !request.reply.starts_with(&self.config.reply_prefix) {
            self.metrics.receipts("refused");
            return;
        }
        let mut answer = serde_json::json!({
            "gateway": self.config.gateway,
            "sessions": sessions,
        });
        if request.probe.is_some_and(|probe| probe.presence) && to.is_announced() {
            answer["online"] = true.into();
        }
        interest.answer(&request.reply, answer.to_string().as_bytes());
    }

    /// Frees a session's backlog: takes it back where it can be sent again later, and else ends
    /// the session.
    fn shed(&self, session: &Arc<dyn Session>) {
        if !session.clone().shed() {
            let lost = session.backlog().cut(CloseReason::SlowConsumer);
            self.metrics.dropped("slow_consumer", lost);
        }
    }

    /// Sessions with a backlog, the largest first; those first that can be sent it again.
    fn backlogs(&self) -> Vec<Arc<dyn Session>> {
        let mut backlogs = Vec::new();
        self.each(|session| {
            let size = (session.sheddable(), session.backlog().bytes());
            if size != (0, 0) {
                backlogs.push((size, session.clone()));
            }
        });
        backlogs.sort_unstable_by_key(|(size, _)| std::cmp::Reverse(*size));
        backlogs.into_iter().map(|(_, session)| session).collect()
    }
}
