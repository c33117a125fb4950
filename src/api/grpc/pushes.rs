//! Streams of pushes: many under way at the same time, answered in the order in which they came.
//!
//! A task of its own reads and publishes, whether or not the caller reads its answers: what
//! is under way holds room that all callers share.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{
    FutureExt as _, Stream, StreamExt as _, future::OptionFuture, stream::FuturesOrdered,
};
use tokio::{
    sync::{
        OwnedSemaphorePermit,
        mpsc::{self, Permit},
        watch,
    },
    task::JoinHandle,
};
use tonic::{Code, Status, Streaming};

use super::{Counted, publishing, push_order, push_response};
use crate::{
    api::{Operations, in_flight::Held, not_published::not_published},
    metrics::Metrics,
    proto::{PushStreamRequest, PushStreamResponse, push_stream_response::Result as Answer},
    trace::Caller,
};

/// The method, as metrics have it.
pub(super) const METHOD: &str = "PushStream";
/// Pushes of one stream that are under way, or whose answers wait for the caller to read them.
const WINDOW: usize = 256;

type Answered = Result<PushStreamResponse, Status>;

/// A stream of pushes.
pub(super) struct Pushes {
    pub(super) operations: Operations,
    pub(super) metrics: Arc<Metrics>,
    /// What the stream's caller says of its trace.
    pub(super) caller: Caller,
    pub(super) pushes: Streaming<PushStreamRequest>,
    /// The bytes of what is under way.
    pub(super) held: Arc<Held>,
    /// True from the moment at which the connection was asked to close.
    pub(super) ending: watch::Receiver<bool>,
    pub(super) _permit: OwnedSemaphorePermit,
}

/// The answers to a stream of pushes. Dropping them ends it.
pub(super) struct Answers {
    answers: mpsc::Receiver<Answered>,
    task: JoinHandle<()>,
}

impl Pushes {
    /// Begins to read.
    pub(super) fn answers(self) -> Answers {
        let (sender, answers) = mpsc::channel(WINDOW);
        let task = tokio::spawn(async move { self.run(&sender).await });
        Answers { answers, task }
    }

    async fn run(mut self, answers: &mpsc::Sender<Answered>) {
        let Self {
            operations,
            metrics,
            caller,
            pushes,
            held,
            ending,
            ..
        } = &mut self;
        let (metrics, held) = (&**metrics, &**held);
        let mut closes = pin!(closes(ending));
        let mut under_way = FuturesOrdered::new();
        // Handed over one after the other, so that they are published in their order.
        let mut beginning = None;
        // For the answer to the next push.
        let mut room: Option<Permit<'_, Answered>> = None;
        let mut next = 0;
        // How the stream ends, once it is not read any more.
        let mut end = None;
        loop {
            let reads = end.is_none() && beginning.is_none();
            if end.is_some() && beginning.is_none() && under_way.is_empty() {
                break;
            }
            let begun = tokio::select! {
                biased;
                Some((room, answer)) = under_way.next(), if !under_way.is_empty() => {
                    Permit::send(room, Ok(answer));
                    continue;
                }
                status = &mut closes, if end.is_none() => {
                    end = Some(Some(status));
                    continue;
                }
                Some(begun) = OptionFuture::from(beginning.as_mut()) => begun,
                permit = answers.reserve(), if reads && room.is_none() => {
                    // Where nobody reads answers any more, this task is ended too.
                    let Ok(permit) = permit else { return };
                    room = Some(permit);
                    continue;
                }
                push = pushes.message(), if reads && room.is_some() => {
                    let push = match push {
                        Ok(Some(PushStreamRequest { push })) => push.unwrap_or_default(),
                        Ok(None) => {
                            end = Some(None);
                            continue;
                        }
                        Err(status) => {
                            end = Some(Some(status));
                            continue;
                        }
                    };
                    let order = push_order(push, caller.clone());
                    let mut begins = Box::pin(operations.begin_push(order));
                    match (&mut begins).now_or_never() {
                        Some(begun) => begun,
                        None => {
                            beginning = Some(begins);
                            continue;
                        }
                    }
                }
            };
            beginning = None;
            let (index, bytes) = (next, held.next());
            next += 1;
            let Some(room) = room.take() else { return };
            under_way.push_back(async move {
                let mut counted = Counted {
                    metrics,
                    method: METHOD,
                    code: Code::Cancelled,
                };
                let outcome = match begun {
                    Ok(sent) => sent.outcome().await.map_err(Into::into),
                    Err(failure) => Err(failure),
                };
                held.give_back(bytes);
                let result = match outcome {
                    Ok(published) => {
                        counted.code = Code::Ok;
                        Answer::Response(push_response(published))
                    }
                    Err(failure) => {
                        let status = publishing(failure);
                        counted.code = status.code();
                        Answer::Error(in_full(&status))
                    }
                };
                let result = Some(result);
                (room, PushStreamResponse { index, result })
            });
        }
        if let Some(Some(status)) = end {
            drop(room);
            let _ = answers.send(Err(status)).await;
        }
    }
}

/// Returns how a stream ends whose connection is asked to close.
async fn closes(ending: &mut watch::Receiver<bool>) -> Status {
    // The connection is gone where nobody can say so any more.
    let _ = ending.wait_for(|ending| *ending).await;
    let says = "the connection closes; open another stream, and send again what has no answer";
    not_published(&Status::unavailable(says))
}

/// A status as a message: with its details, which are one already.
fn in_full(status: &Status) -> tonic_types::Status {
    let details = prost::Message::decode(status.details());
    details
        .ok()
        .filter(|_| !status.details().is_empty())
        .unwrap_or_else(|| tonic_types::Status {
            code: status.code().into(),
            message: status.message().to_owned(),
            details: Vec::new(),
        })
}

impl Stream for Answers {
    type Item = Answered;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Answered>> {
        self.answers.poll_recv(cx)
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.task.abort();
    }
}
