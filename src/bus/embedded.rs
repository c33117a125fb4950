//! The bus without NATS: for trying Usher out, in one process.
//!
//! It keeps the promises that NATS keeps: a subscription is confirmed before
//! messages come, messages of one publisher stay in order, and who asks where
//! nobody is gets an answer at once.

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
};

use serde::Deserialize;
use tokio::sync::mpsc;

use super::{
    interest::{Command, Event, Request, Subscriber, Subscriptions},
    publisher::{Job, Shared, Task},
    requests::Answer,
};
use crate::{message::Message, metrics::Metrics, user::UserId};

/// As NATS has it by default.
const MAX_PAYLOAD: usize = 1024 * 1024;

/// Subscriptions and messages of this process.
#[derive(Debug)]
pub struct Embedded<K> {
    queue: mpsc::Receiver<Job>,
    shared: Arc<Shared>,
    subscriptions: Arc<Subscriptions<K>>,
    metrics: Arc<Metrics>,
    ids: HashMap<u64, UserId>,
    users: HashMap<UserId, (u64, K)>,
    events: VecDeque<Event<K>>,
}

impl<K: Subscriber> Embedded<K> {
    /// Up from the start.
    pub(super) fn new(
        queue: mpsc::Receiver<Job>,
        shared: Arc<Shared>,
        subscriptions: Arc<Subscriptions<K>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        shared.max_payload.store(MAX_PAYLOAD, Ordering::Relaxed);
        Self {
            queue,
            shared,
            subscriptions,
            metrics,
            ids: HashMap::new(),
            users: HashMap::new(),
            events: VecDeque::from([Event::Up { clustered: false }]),
        }
    }

    pub(super) async fn next(&mut self) -> Event<K> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    pub(super) fn answer(&mut self, reply: &str, payload: &[u8]) {
        #[derive(Deserialize)]
        struct Body {
            sessions: u32,
        }
        if let Ok(Body { sessions }) = serde_json::from_slice(payload) {
            let answer = Answer::Sessions(sessions);
            self.shared.questions.answered(reply.as_bytes(), answer);
        }
        self.metrics.receipts("sent");
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Event<K>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            self.take_commands(cx);
            if !self.events.is_empty() {
                continue;
            }
            match ready!(self.queue.poll_recv(cx)) {
                Some(job) => self.carry_out(job),
                // Nobody is left to publish; subscriptions still come and go.
                None => return Poll::Pending,
            }
        }
    }

    fn take_commands(&mut self, cx: &Context<'_>) {
        let mut confirmed = Vec::new();
        for command in self.subscriptions.take(cx) {
            match command {
                Command::Subscribe(id, subscriber) => {
                    let user = subscriber.user().clone();
                    confirmed.push((subscriber.clone(), id));
                    self.ids.insert(id, user.clone());
                    self.users.insert(user, (id, subscriber));
                }
                Command::Unsubscribe(id) => {
                    // A later subscription of the same user stays.
                    if let Some(user) = self.ids.remove(&id)
                        && self.users.get(&user).is_some_and(|(now, _)| *now == id)
                    {
                        self.users.remove(&user);
                    }
                }
            }
        }
        self.metrics.subscriptions.set(self.ids.len() as i64);
        if !confirmed.is_empty() {
            self.events.push_back(Event::Confirmed(confirmed));
        }
    }

    fn carry_out(&mut self, job: Job) {
        let Job { task, reply, done } = job;
        // Probes are of the stream, which there is none of here.
        let Task::Push(push) = task else { return };
        match self.users.get(&push.user) {
            Some((_, subscriber)) => {
                self.metrics.messages_received.inc();
                self.events.push_back(Event::Message {
                    to: subscriber.clone(),
                    message: Message {
                        event: push.event.unwrap_or_default(),
                        payload: push.payload,
                        broadcast: false,
                        stored: None,
                    },
                    request: reply.map(|reply| Request { reply, probe: None }),
                });
            }
            None => {
                if let Some(reply) = reply {
                    let nobody = Answer::NoResponders;
                    self.shared.questions.answered(reply.as_bytes(), nobody);
                }
            }
        }
        // A caller that has gone needs no answer.
        let _ = done.send(Ok(()));
    }
}
