//! Answers that would go on for ever, such as a watch of the health: they end when their
//! connection was asked to close, or it could never close.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Frame, SizeHint};
use tonic::{Status, body::Body};

use super::peers::{HealthCheck, Peer};

/// A body that ends with its connection.
pub(super) struct Ending {
    body: Body,
    ended: Pin<Box<dyn Future<Output = ()> + Send>>,
    over: bool,
    _check: Option<HealthCheck>,
}

impl Ending {
    pub(super) fn new(body: Body, peer: &Arc<Peer>, check: Option<HealthCheck>) -> Self {
        let mut ending = peer.ending();
        Self {
            body,
            ended: Box::pin(async move {
                // The connection is gone where nobody can say so any more.
                let _ = ending.wait_for(|ending| *ending).await;
            }),
            over: false,
            _check: check,
        }
    }
}

impl hyper::body::Body for Ending {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        // An answer that is there is given, whatever happens.
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        ready!(this.ended.as_mut().poll(cx));
        this.over = true;
        let mut trailers = HeaderMap::new();
        let status = Status::unavailable("the connection closes; call again on another");
        Poll::Ready(match status.add_header(&mut trailers) {
            Ok(()) => Some(Ok(Frame::trailers(trailers))),
            Err(status) => Some(Err(status)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
