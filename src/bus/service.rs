//! The connection of the service API (ADR-32). Anyone with the right to publish there writes to
//! it, so our own reader reads it, on a connection of its own. What the requests mean is the
//! API's.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use ulid::Ulid;

use super::{
    interest::{Link, News, Received, ServerMessage, Supervisor, Window, header_length},
    refusal::Refusal,
};
use crate::metrics::Metrics;

/// Requests that wait for the API, and answers that wait for the connection. A further request
/// is lost; a further answer waits.
const QUEUE: usize = 256;
/// Subscription id of the first endpoint.
const FIRST: u64 = 1;
/// The endpoints' queue group: of its members one gets each request. By ADR-32's default.
pub const GROUP: &str = "q";
/// What a PONG stands for: no request can come any more.
const LEFT: u64 = 0;
/// What a PONG stands for: the server has all answers before it.
const FLUSHED: u64 = 1;

/// The connection, and what comes on it.
#[derive(Debug)]
pub struct Service {
    /// What its endpoints' subjects begin with: `usher.api`.
    pub prefix: String,
    /// This gateway's name.
    pub gateway: String,
    /// What is said on the connection.
    pub answers: ServiceAnswers,
    /// Ends after [`ServiceAnswers::leave`].
    pub requests: mpsc::Receiver<ServiceRequest>,
}

/// A subject that callers ask on.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Built from checked parts.
    pub subject: String,
    /// Only one gateway hears each request.
    pub shared: bool,
}

/// What a caller has sent.
#[derive(Debug)]
pub struct ServiceRequest {
    /// The index of its [`Endpoint`].
    pub endpoint: usize,
    /// Its bytes.
    pub payload: Bytes,
    /// Where an answer goes, if one is wanted. It begins with `nats.reply_prefix`.
    pub reply: Option<Reply>,
}

/// Where an answer goes.
#[derive(Debug)]
pub struct Reply {
    subject: String,
    /// The connection that brought the request: NATS's `allow_responses` permits no other.
    link: Ulid,
}

/// Says something on the connection. Where its task has ended, so does the process.
#[derive(Debug, Clone)]
pub struct ServiceAnswers(mpsc::Sender<Job>);

#[derive(Debug)]
enum Job {
    Listen(Vec<Endpoint>),
    Answer(Reply, Vec<(&'static str, String)>, Bytes),
    Leave,
    Flush(oneshot::Sender<()>),
}

impl ServiceAnswers {
    /// Subscribes to these subjects, now and after each reconnect.
    pub async fn listen(&self, endpoints: Vec<Endpoint>) {
        let _ = self.0.send(Job::Listen(endpoints)).await;
    }

    /// Answers a request, at most once. Headers' values are free of line breaks.
    pub async fn answer(&self, to: Reply, headers: Vec<(&'static str, String)>, payload: Bytes) {
        let _ = self.0.send(Job::Answer(to, headers, payload)).await;
    }

    /// Unsubscribes from everything. The requests that NATS had sent by then still come.
    pub async fn leave(&self) {
        let _ = self.0.send(Job::Leave).await;
    }

    /// Returns when NATS has all answers so far, or the connection is lost.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        let _ = self.0.send(Job::Flush(done)).await;
        let _ = flushed.await;
    }
}

/// The service, and what keeps its connection for as long as it is polled.
pub(super) fn start(
    connection: Supervisor,
    (prefix, gateway, reply_prefix): (String, &str, &str),
    metrics: Arc<Metrics>,
) -> (Service, impl Future<Output = ()> + Send + 'static) {
    let (jobs, queue) = mpsc::channel(QUEUE);
    let (sender, requests) = mpsc::channel(QUEUE);
    let task = Task {
        connection,
        queue,
        requests: Some(sender),
        endpoints: Vec::new(),
        refused: Vec::new(),
        leaving: false,
        flushes: VecDeque::new(),
        reply_prefix: reply_prefix.to_owned(),
        metrics,
    };
    let service = Service {
        prefix,
        gateway: gateway.to_owned(),
        answers: ServiceAnswers(jobs),
        requests,
    };
    (service, task.run())
}

/// What the task does next.
enum Next {
    News(News),
    Job(Job),
}

struct Task {
    connection: Supervisor,
    queue: mpsc::Receiver<Job>,
    /// `None` when no more can come.
    requests: Option<mpsc::Sender<ServiceRequest>>,
    endpoints: Vec<Endpoint>,
    /// Endpoints that NATS forbids.
    refused: Vec<u64>,
    leaving: bool,
    /// Each waits for a PONG of the current connection.
    flushes: VecDeque<oneshot::Sender<()>>,
    reply_prefix: String,
    metrics: Arc<Metrics>,
}

impl Task {
    async fn run(mut self) {
        loop {
            match poll_fn(|cx| self.poll_next(cx)).await {
                Next::News(news) => self.handle(news),
                Next::Job(job) => self.take(job),
            }
        }
    }

    /// The connection sends while it is polled, and may have nothing to report when that has
    /// made room: so the queue is polled again after it.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if let Poll::Ready(job) = self.poll_job(cx) {
            return Poll::Ready(Next::Job(job));
        }
        if let Poll::Ready(news) = self.connection.poll_next(cx) {
            return Poll::Ready(Next::News(news));
        }
        self.poll_job(cx).map(Next::Job)
    }

    /// The next job, where the connection has room for it, or there is none.
    fn poll_job(&mut self, cx: &mut Context<'_>) -> Poll<Job> {
        match self.connection.current() {
            Some(link) if !link.has_room() => Poll::Pending,
            _ => match self.queue.poll_recv(cx) {
                Poll::Ready(Some(job)) => Poll::Ready(job),
                // The API has ended, and soon the process.
                Poll::Ready(None) | Poll::Pending => Poll::Pending,
            },
        }
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Listen(endpoints) => {
                self.endpoints = endpoints;
                self.subscribe_all();
            }
            Job::Answer(to, headers, payload) => self.answer(&to, &headers, &payload),
            Job::Leave => self.leave(),
            Job::Flush(done) => {
                if let Some(link) = self.connection.current() {
                    ping(link, FLUSHED);
                    self.flushes.push_back(done);
                }
            }
        }
    }

    fn handle(&mut self, news: News) {
        match news {
            News::Up => {
                self.subscribe_all();
                self.connection.tell_up();
            }
            News::Down => {
                self.flushes.clear();
                if self.leaving {
                    self.requests = None;
                }
            }
            News::SuccessorUp => {
                self.subscribe_all();
                if let Some(successor) = self.connection.successor() {
                    successor.ping(Window::default());
                }
            }
            // It is subscribed. What the old connection was sent by then still comes.
            News::FromSuccessor(Received::Pong(_)) => {
                if let Some(old) = self.connection.current() {
                    unsubscribe(&self.endpoints, old);
                }
                self.connection.promote();
            }
            News::FromSuccessor(Received::Message(message)) => {
                let id = self.connection.successor().map(|link| link.id());
                self.asked_in_a_move(id, message);
            }
            News::FromOld(id, Received::Message(message)) => {
                self.asked_in_a_move(Some(id), message);
            }
            News::Received(Received::Message(message)) => {
                let id = self.connection.current().map(|link| link.id());
                self.asked(id, message);
            }
            News::Received(Received::Pong(window)) | News::FromOld(_, Received::Pong(window)) => {
                self.confirmed(&window);
            }
            News::Received(Received::Error(text)) | News::FromSuccessor(Received::Error(text)) => {
                self.note_refused(&text);
            }
            News::AskAgain => {
                let ids = std::mem::take(&mut self.refused);
                self.subscribe(|id| ids.contains(&id));
            }
            News::Received(_)
            | News::FromSuccessor(_)
            | News::FromOld(..)
            | News::SuccessorLost
            | News::Ended(_) => {}
        }
    }

    fn subscribe_all(&mut self) {
        self.refused.clear();
        self.subscribe(|_| true);
    }

    /// Subscribes to the endpoints of these ids, on the connection that stays.
    fn subscribe(&mut self, is_wanted: impl Fn(u64) -> bool) {
        let endpoints = self.endpoints.iter().filter(|_| !self.leaving);
        let Some(link) = self.connection.newest() else {
            return;
        };
        for (id, endpoint) in (FIRST..).zip(endpoints) {
            if is_wanted(id) {
                let group = endpoint.shared.then_some(GROUP);
                link.subscribe_in(id, &endpoint.subject, group);
            }
        }
    }

    /// NATS forbids something, perhaps an endpoint.
    fn note_refused(&mut self, text: &str) {
        let Some(Refusal::Subscription { subject, .. }) = Refusal::of(text) else {
            return;
        };
        let endpoints = (FIRST..).zip(&self.endpoints);
        let refused = endpoints.filter(|(_, endpoint)| endpoint.subject == subject);
        self.refused.extend(refused.map(|(id, _)| id));
    }

    fn leave(&mut self) {
        self.leaving = true;
        for link in self.connection.links() {
            unsubscribe(&self.endpoints, link);
        }
        match self.connection.current() {
            Some(link) => ping(link, LEFT),
            None => self.requests = None,
        }
    }

    fn confirmed(&mut self, window: &Window) {
        match window.ids[..] {
            [LEFT] => self.requests = None,
            [FLUSHED] => {
                if let Some(done) = self.flushes.pop_front() {
                    let _ = done.send(());
                }
            }
            _ => {}
        }
    }

    /// Both connections of a move bring what all gateways hear; the current one's counts.
    fn asked_in_a_move(&self, link: Option<Ulid>, message: ServerMessage) {
        if self.endpoint(&message).is_some_and(|(_, it)| it.shared) {
            self.asked(link, message);
        }
    }

    fn asked(&self, link: Option<Ulid>, message: ServerMessage) {
        let (Some((endpoint, _)), Some(link)) = (self.endpoint(&message), link) else {
            return;
        };
        let reply = match message.reply {
            None => None,
            Some(reply) => {
                let subject = std::str::from_utf8(&reply).ok();
                let subject = subject.filter(|reply| reply.starts_with(&self.reply_prefix));
                // A caller must not have a gateway publish where only gateways may.
                let Some(subject) = subject.map(str::to_owned) else {
                    return self.metrics.receipts("refused");
                };
                Some(Reply { subject, link })
            }
        };
        if let Some(requests) = &self.requests {
            let _ = requests.try_send(ServiceRequest {
                endpoint,
                payload: message.payload,
                reply,
            });
        }
    }

    fn endpoint(&self, message: &ServerMessage) -> Option<(usize, &Endpoint)> {
        let index = usize::try_from(message.sid.checked_sub(FIRST)?).ok()?;
        Some((index, self.endpoints.get(index)?))
    }

    fn answer(&mut self, to: &Reply, headers: &[(&'static str, String)], payload: &[u8]) {
        let Some(link) = self.connection.heard(to.link) else {
            return;
        };
        let headers = headers.iter().map(|(name, value)| (*name, &**value));
        let headers: Vec<_> = headers.collect();
        // NATS ends a connection over a message that is too large.
        let size = header_length(headers.iter().copied()) + payload.len();
        if size <= link.info().max_payload {
            link.publish(&to.subject, None, &headers, payload);
        }
    }
}

fn unsubscribe(endpoints: &[Endpoint], link: &mut Link) {
    for (id, _) in (FIRST..).zip(endpoints) {
        link.unsubscribe(id);
    }
}

fn ping(link: &mut Link, stands_for: u64) {
    link.ping(Window::of(vec![stands_for]));
}
