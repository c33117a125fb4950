//! Brings each message from the bus to the backlogs of its sessions, and keeps the backlogs
//! within their bounds.

use std::{sync::Arc, time::Instant};

use tokio::task::yield_now;

use super::{
    Entry, Held, Registry,
    arrival::Arrivals,
    probes::Probes,
    session::{Pushed, Session},
};
use crate::{
    bus::{Event, Interest, Probe, Request},
    channel::Audience,
    close::CloseReason,
    frame::Frames,
    message::Message,
    provoke,
    supervision::contained,
};

/// How often the registry's task yields at most, so that the tasks of sessions can write: for one
/// session that has not had its turn, or for all sessions of one broadcast together.
pub(super) const TURNS: usize = 1000;

/// Something that the bus says.
pub(super) struct Arrived {
    pub(super) event: Event<Arc<Entry>>,
    /// When the registry's task took it from the bus.
    pub(super) at: Instant,
}

/// What the delivery of messages works with, all in one task.
pub(super) struct Work {
    pub(super) interest: Interest<Arc<Entry>>,
    /// Sessions whose tasks need a turn to write, since the last turns were given.
    pub(super) need_turns: Vec<Arc<dyn Session>>,
    probes: Probes,
}

impl Arrived {
    /// The next event of the bus. Dropping the future is safe.
    pub(super) async fn next(interest: &mut Interest<Arc<Entry>>) -> Self {
        let event = interest.next().await;
        let at = Instant::now();
        Self { event, at }
    }
}

impl Registry {
    /// Brings messages from the bus to sessions, for as long as the process lives: one task for
    /// the whole gateway.
    ///
    /// The steps of one message, from NATS to the client:
    ///
    /// 1. `bus::interest::link` reads it from the socket, `bus::interest::reader` finds the entry
    ///    of its audience. In durable mode the stream has stored it before, and republishes it.
    /// 2. This task takes it ([`Interest::next`]). A message for many (a broadcast, a topic with
    ///    many followers) goes to the sessions in slices: `fan_out`.
    /// 3. [`Frames`] builds the frame once for each protocol. All sessions share its bytes.
    /// 4. Live mode: `session::Live` puts the frame in the session's [`Backlog`](super::Backlog).
    ///    If it has no room, the session ends.
    /// 5. Durable mode: `durable::Session` compares the sequence with what the session has
    ///    (`durable::track`). The next message of its channel goes into the backlog; if that has
    ///    no room, it is taken back and read from the stream later. After a hole, or while the
    ///    session catches up, the frame waits in `durable::track::pending`.
    /// 6. The session's own task (`http::session::open`) takes frames from the backlog and writes
    ///    them to the socket.
    pub async fn run(self: Arc<Self>, interest: Interest<Arc<Entry>>) {
        let mut work = Work {
            interest,
            need_turns: Vec::new(),
            probes: Probes::default(),
        };
        // What came while a broadcast was on its way, and has to wait for its end.
        let mut next = None;
        loop {
            let Arrived { event, at } = match next.take() {
                Some(arrived) => arrived,
                None => tokio::select! {
                    arrived = Arrived::next(&mut work.interest) => arrived,
                    () = self.limits.over.notified() => {
                        self.keep_within_total().await;
                        continue;
                    }
                    () = work.probes.tick() => {
                        self.answer_probes(&mut work);
                        continue;
                    }
                },
            };
            match event {
                Event::Broadcast(message) => {
                    next = self.broadcast((&message, at), &mut work).await;
                }
                Event::Message { to, message, .. } if Self::is_for_many(&to) => {
                    next = self.to_topic(&to, (&message, at), &mut work).await;
                }
                event => self.event(Arrived { event, at }, &mut work).await,
            }
            self.give_way(&mut work.need_turns).await;
        }
    }

    /// Handles what is not for many.
    pub(super) async fn event(self: &Arc<Self>, Arrived { event, at }: Arrived, work: &mut Work) {
        match event {
            Event::Message {
                to,
                message,
                request,
            } => {
                let handling = async {
                    provoke::here("message", message.event.as_str());
                    self.message(to, (&message, at), request, work);
                };
                self.contained(handling).await;
            }
            Event::Confirmed(subscriptions) => {
                let number = self.connection_number();
                for (held, id) in subscriptions {
                    held.confirm(id, number);
                }
            }
            Event::Refused(refused) => self.refuse(refused),
            Event::Up { clustered } => self.up(clustered),
            Event::Down => self.down(),
            Event::Broadcast(_) => debug_assert!(false, "a broadcast has its own way"),
        }
    }

    fn message(
        &self,
        to: Arc<Entry>,
        (message, at): (&Message, Instant),
        request: Option<Request>,
        work: &mut Work,
    ) {
        if let Some(Request {
            probe: Some(probe), ..
        }) = &request
        {
            let (probe, reached) = (*probe, self.count(&to, *probe));
            match request {
                Some(request) if reached > 0 => {
                    self.answer(&mut work.interest, &to, &request, reached);
                }
                // Perhaps it is under way.
                Some(request) => work.probes.wait(to, probe, request),
                None => {}
            }
            return;
        }
        let mut frames = Frames::new(message, self.config.max_frame);
        if let Audience::User(user) = Held::key(&to) {
            frames = frames.to_user(user.as_str());
        }
        let mut arrivals = Arrivals::of(message, at, &self.config.tracer);
        let reached = self.deliver(&to, &mut frames, &mut arrivals, &mut work.need_turns);
        if let (Some(request), 1..) = (request, reached) {
            self.answer(&mut work.interest, &to, &request, reached);
        }
        self.answer_probes(work);
    }

    /// Gives sessions the turns that they need, and keeps all backlogs within their bounds.
    pub(super) async fn give_way(&self, need_turns: &mut Vec<Arc<dyn Session>>) {
        for session in need_turns.drain(..) {
            let needs_turn = || session.backlog().needs_turn(&self.limits);
            self.give_turns(needs_turn).await;
        }
        self.keep_within_total().await;
    }

    /// Handles one message; false where that has panicked. A panic over it drops this message
    /// and no other; all that handling changes is whole after each of its steps.
    pub(super) async fn contained(&self, handling: impl Future<Output = ()>) -> bool {
        let handled = contained(handling).await.is_ok();
        if !handled {
            self.metrics.dropped("panic", 1);
        }
        handled
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

    /// Brings a message to the sessions of one audience; to how many.
    fn deliver(
        &self,
        held: &Entry,
        frames: &mut Frames<'_>,
        arrivals: &mut Arrivals<'_>,
        need_turns: &mut Vec<Arc<dyn Session>>,
    ) -> usize {
        let mut sessions = Vec::new();
        held.each(|session| sessions.push(session.clone()));
        self.offer(sessions, frames, arrivals, need_turns)
    }

    /// Brings a message to these sessions; to how many.
    pub(super) fn offer(
        &self,
        sessions: impl IntoIterator<Item = Arc<dyn Session>>,
        frames: &mut Frames<'_>,
        arrivals: &mut Arrivals<'_>,
        need_turns: &mut Vec<Arc<dyn Session>>,
    ) -> usize {
        let mut reached = 0;
        for session in sessions {
            match session.clone().offer(frames, arrivals.next(), &self.limits) {
                Pushed::Queued => reached += 1,
                Pushed::NeedsTurn => {
                    reached += 1;
                    need_turns.push(session);
                }
                Pushed::Over => self.metrics.dropped("session_over", 1),
                Pushed::Overflowed(lost) => self.metrics.dropped("slow_consumer", lost),
                Pushed::TooLarge => self.metrics.dropped("too_large", 1),
                Pushed::NotQueued => {}
            }
        }
        reached
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
    pub(super) fn answer_probes(&self, work: &mut Work) {
        let Work {
            interest, probes, ..
        } = work;
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
