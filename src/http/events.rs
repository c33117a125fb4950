//! Server-sent events: what a request for them says, and how they are written.
//!
//! The answer has no length and is not chunked: it lasts as long as its connection,
//! which suits HTTP/1.0 too.

use std::{
    io, iter,
    net::IpAddr,
    sync::Arc,
    task::{Context, Poll, ready},
    time::SystemTime,
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tungstenite::Message;
use warp::{
    Rejection,
    http::{
        HeaderValue,
        header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, DATE},
    },
    reply::Response,
};

use super::{
    admit::{Admissions, Admitted, conclude},
    chunks::{Chunks, Written},
    cors,
    handover::Handover,
    refusal::Refusal,
    request::{Request, position},
    session::Sessions,
    transport::{Discarded, Kind, Transport, poll_discard},
};
use crate::{
    close::CloseReason,
    frame::{Protocol, sse},
    position::{Since, Step, Tracker},
    registry::{Arrival, Outgoing},
};

const LAST_EVENT_ID: &str = "last-event-id";
/// Bytes that a client may send after its request. They mean nothing; more of them end
/// the session.
const MAX_UPLOAD: usize = 4096;

/// Checks and admits a request.
pub(super) async fn admit(
    client: IpAddr,
    admissions: Arc<Admissions>,
    mut request: Request,
) -> Result<(Request, Admitted), Rejection> {
    let span = admissions.record(&mut request, Kind::Events);
    let admitted = async {
        let since = read(&request)?;
        let shown = request.shown(iter::empty());
        let admitted = admissions.admit(&request, client, shown, Protocol::Sse, since.as_ref());
        admitted.await
    }
    .await;
    let admitted = admitted.map_err(|refusal| admissions.refuse(client, &request.headers, refusal));
    conclude(span, &admitted);
    Ok((request, admitted?))
}

/// Checks all that the contract checks between the method and the gateway's own state:
/// body, where the client left off.
fn read(request: &Request) -> Result<Option<Since>, Refusal> {
    if request.has_body() {
        return Err(Refusal::BadRequest("a request for events has no body"));
    }
    let mut ids = request.headers.get_all(LAST_EVENT_ID).iter();
    let id = match (ids.next(), ids.next()) {
        (None, _) => b"",
        (Some(id), None) => id.as_bytes(),
        (Some(_), Some(_)) => return Err(Refusal::SinceMalformed("send Last-Event-ID once")),
    };
    match id {
        // What a browser sends that has seen no id, and so nothing of a position.
        b"" => request.since(),
        id => position(std::str::from_utf8(id).unwrap_or("?")).map(Some),
    }
}

/// The head of a good answer.
fn head() -> Response {
    let mut response = Response::default();
    let headers = response.headers_mut();
    let date = httpdate::fmt_http_date(SystemTime::now());
    let date = HeaderValue::try_from(date).expect("a date fits a header");
    headers.insert(DATE, date);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("no-store, no-transform"),
    );
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Takes the request's connection, and begins a session that writes the answer's head
/// and then events. No reply of warp's can do that: hyper would keep its buffers for as
/// long as the session lasts. The return value is written nowhere, since hyper's part of
/// the connection ends here.
pub(super) fn begin(
    (request, admitted): (Request, Admitted),
    admissions: Arc<Admissions>,
    sessions: Arc<Sessions>,
) -> Response {
    let reader = cors::reader(&admissions, &request.headers);
    let head = cors::share(reader, head());
    match request.connection.as_ref().and_then(Handover::take) {
        Some(stream) => {
            // Heartbeats are answered by nobody but the client's kernel.
            if let Err(error) = stream.set_unacknowledged_timeout(sessions.config.idle_timeout) {
                tracing::debug!(%error, "a client that goes silently will be noticed late");
            }
            let events = Events::new(stream, &head);
            sessions.begin(events, admitted);
        }
        None => tracing::error!("the connection of a request for events is gone"),
    }
    head
}

/// A stream of events.
pub(super) struct Events<S> {
    stream: S,
    chunks: Chunks,
    /// The client's position after all that is in `chunks`; `None` in live mode, and once frames
    /// were dropped. It is kept here, where frames come in the order in which they are written:
    /// frames that wait before may be taken back.
    position: Option<Box<Tracker>>,
    /// What is left of [`MAX_UPLOAD`].
    upload: usize,
}

impl<S> Events<S> {
    fn new(stream: S, head: &Response) -> Self {
        let mut chunks = Chunks::default();
        chunks.queue_head(written(head));
        Self {
            stream,
            chunks,
            position: None,
            upload: MAX_UPLOAD,
        }
    }
}

/// A head as HTTP/1.1 has it.
fn written(head: &Response) -> Bytes {
    let mut out = b"HTTP/1.1 200 OK\r\n".to_vec();
    for (name, value) in head.headers() {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out.into()
}

impl<S> Events<S> {
    /// Writes the client's position before the next frame, whose `id` it is.
    fn queue_id(&mut self) {
        let position = self
            .position
            .as_ref()
            .and_then(|tracker| tracker.position());
        if let Some(position) = position {
            self.chunks.queue_id(sse::id(position));
        }
    }

    /// The next frame says this of the client's position.
    fn tell(&mut self, step: Option<Step>) {
        if let (Some(tracker), Some(step)) = (&mut self.position, step) {
            tracker.step(step);
            self.queue_id();
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Transport for Events<S> {
    const ANSWERS: bool = false;

    fn kind(&self) -> Kind {
        Kind::Events
    }

    /// What a client sends after its request means nothing. The end of its side means
    /// that it has left.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, CloseReason>> {
        let ended = ready!(poll_discard(&mut self.stream, cx, &mut self.upload));
        Poll::Ready(Err(match ended {
            Ok(Discarded::All) => CloseReason::ClientLeft,
            Ok(Discarded::Part) => CloseReason::ProtocolError,
            Err(_) => CloseReason::ConnectionLost,
        }))
    }

    fn queue(&mut self, frame: Bytes) {
        self.chunks.queue(frame);
    }

    fn queue_welcome(&mut self, welcome: Bytes, position: impl FnOnce() -> Option<Tracker>) {
        self.position = position().map(Box::new);
        self.queue_id();
        self.queue(welcome);
    }

    fn queue_step(&mut self, frame: Bytes, step: Option<Step>) {
        self.tell(step);
        self.queue(frame);
    }

    fn queue_outgoing(&mut self, mut outgoing: Outgoing) {
        self.tell(outgoing.step.take().map(|step| *step));
        self.chunks.queue_outgoing(outgoing);
    }

    fn heartbeat(&mut self) {
        self.chunks
            .queue_control(Bytes::from_static(sse::HEARTBEAT));
    }

    fn has_unsent(&self) -> bool {
        self.chunks.has_unsent()
    }

    /// Each frame may have an `id` before it, which does not count.
    fn unsent(&self) -> usize {
        self.chunks.frames()
    }

    /// An event that has begun is kept: what follows would be read as its rest. No `id` follows,
    /// since the position counts what is dropped.
    fn drop_unsent(&mut self) {
        self.chunks.drop_unsent();
        self.position = None;
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        delivered: impl FnMut(Arrival),
    ) -> Poll<io::Result<Written>> {
        self.chunks.poll_write(&mut self.stream, cx, delivered)
    }

    /// There are no words for it: the stream ends.
    fn close(&mut self, _: u16, _: String) {}

    fn poll_heard(&mut self, cx: &mut Context<'_>, _: CloseReason) -> Poll<()> {
        let _ = std::pin::Pin::new(&mut self.stream).poll_shutdown(cx);
        poll_discard(&mut self.stream, cx, &mut self.upload).map(drop)
    }
}

#[cfg(test)]
mod tests;
