use std::future::poll_fn;

use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt as _, DuplexStream};

use super::*;
use crate::{
    channel::Channel,
    http::closing::poll_flush,
    position::Begun,
    registry::{Limits, Source},
};

/// A stream in durable mode, its welcome queued. It takes so many bytes at a time.
fn events(takes: usize) -> (Events<DuplexStream>, DuplexStream) {
    let (stream, client) = tokio::io::duplex(takes);
    let mut events = Events::new(stream, &head());
    events.queue_welcome("data: 0\n\n".into(), || {
        let mut tracker = Tracker::default();
        tracker.welcome(Some("k".into()), 0, 0, Begun::Anew, []);
        Some(tracker)
    });
    (events, client)
}

/// Queues an event of the user's channel; its data is its sequence.
fn queue_event(events: &mut Events<DuplexStream>, seq: u64) {
    let limits = Limits::new(usize::MAX, usize::MAX, usize::MAX);
    let step = Step::Event {
        channel: Channel::User,
        seq,
        prev: seq - 1,
        at: seq,
    };
    events.queue_outgoing(Outgoing {
        step: Some(Box::new(step)),
        ..Outgoing::new(
            sse::frame(seq.to_string().as_bytes()),
            None,
            Source::Own,
            &limits,
        )
    });
}

/// A session takes 64 frames from its backlog at a time, and reads its client's side while 80
/// wait.
#[tokio::test]
async fn the_ids_of_a_batch_do_not_keep_a_session_from_reading() {
    let (mut events, _client) = events(1);
    for seq in 1..=64 {
        queue_event(&mut events, seq);
    }
    assert_eq!(events.unsent(), 65);
    assert_eq!(events.chunks.len(), 1 + 2 * 65, "each frame has an id");
}

/// What the client is sent, from the head on, if this is done when the kernel has taken so many
/// bytes of two events.
async fn sent(taken: usize, then: impl FnOnce(&mut Events<DuplexStream>)) -> String {
    let (mut events, mut client) = events(taken);
    (1..=2).for_each(|seq| queue_event(&mut events, seq));
    let _ = poll_fn(|cx| events.poll_write(cx, drop)).now_or_never();
    then(&mut events);
    let mut text = String::new();
    let write = async move { poll_fn(|cx| poll_flush(&mut events, cx)).await };
    let (written, read) = tokio::join!(write, client.read_to_string(&mut text));
    assert!(written && read.is_ok());
    text
}

/// Else what follows is read as the rest of an event, or has the `id` of one that was not sent.
#[tokio::test]
async fn what_has_begun_is_not_dropped() {
    let goodbye = "data: {\"goodbye\":{}}\n\n";
    let all = sent(1, |_| {}).await;
    for taken in 1..=all.len() {
        let text = sent(taken, |events| {
            events.drop_unsent();
            events.queue(goodbye.into());
        })
        .await;
        let before = text.strip_suffix(goodbye).expect("a goodbye");
        let whole = before.ends_with("\n\n") || before.ends_with("\r\n\r\n");
        assert!(whole && all.starts_with(before), "{taken}: {text}");
    }
}
