use std::sync::atomic::Ordering;

use super::*;

fn limits(messages: usize, bytes: usize) -> Limits {
    Limits::new(messages, bytes, usize::MAX)
}

fn push(backlog: &Backlog, size: usize, limits: &Limits) -> Pushed {
    backlog.push(Outgoing::own(vec![0; size].into(), limits), limits)
}

/// Takes frames, and drops them.
fn take(backlog: &Backlog) -> Poll<(Next, usize)> {
    let mut taken = 0;
    let cx = Context::from_waker(Waker::noop());
    let next = backlog.poll_next(&cx, 64, |_| taken += 1);
    next.map(|next| (next, taken))
}

#[test]
fn what_is_taken_counts_until_it_is_sent() {
    let limits = limits(2, 100);
    let backlog = Backlog::new(Protocol::UsherV1);
    assert_eq!(push(&backlog, 10, &limits), Pushed::Queued);
    assert_eq!(push(&backlog, 10, &limits), Pushed::NeedsTurn);
    assert_eq!(take(&backlog), Poll::Ready((Next::Frames, 2)));
    backlog.sent(1, 10);
    assert_eq!(backlog.bytes(), 10);
    assert_eq!(push(&backlog, 10, &limits), Pushed::NeedsTurn);
    assert_eq!(
        push(&backlog, 10, &limits),
        Pushed::Overflowed(3),
        "1 unsent, 1 queued"
    );
    let slow = CloseReason::SlowConsumer.into();
    assert_eq!(take(&backlog), Poll::Ready((Next::Ended(slow), 0)));
    assert_eq!(limits.total.load(Ordering::Relaxed), 0);
}

#[test]
fn who_does_not_read_is_not_behind() {
    let limits = limits(4, 100);
    let backlog = Backlog::new(Protocol::UsherV1);
    for _ in 0..3 {
        push(&backlog, 10, &limits);
    }
    assert!(backlog.needs_turn(&limits));
    assert!(take(&backlog).is_ready());
    let cx = Context::from_waker(Waker::noop());
    assert!(backlog.poll_cut(&cx, false).is_pending());
    assert!(backlog.needs_turn(&limits), "its turn is over");
    assert!(backlog.poll_cut(&cx, true).is_pending());
    assert!(!backlog.needs_turn(&limits), "the kernel takes no more");
    backlog.sent(1, 10);
    assert_eq!(push(&backlog, 10, &limits), Pushed::NeedsTurn);
    backlog.end(CloseReason::Drain.into());
    assert!(!backlog.needs_turn(&limits));
}

#[test]
fn a_large_message_goes_to_an_empty_backlog_only() {
    let limits = limits(10, 100);
    let backlog = Backlog::new(Protocol::UsherV1);
    assert_eq!(push(&backlog, 1000, &limits), Pushed::Queued);
    assert_eq!(push(&backlog, 1, &limits), Pushed::Overflowed(2));
    let backlog = Backlog::new(Protocol::UsherV1);
    assert_eq!(push(&backlog, 1, &limits), Pushed::Queued);
    assert_eq!(push(&backlog, 1000, &limits), Pushed::Overflowed(2));
}

#[test]
fn an_ending_waits_for_what_is_queued_and_the_first_one_stays() {
    let limits = limits(10, 100);
    let backlog = Backlog::new(Protocol::RawV1);
    assert_eq!(push(&backlog, 1, &limits), Pushed::Queued);
    backlog.end(CloseReason::Replaced.into());
    backlog.end(CloseReason::Drain.into());
    assert_eq!(push(&backlog, 1, &limits), Pushed::Over);
    assert_eq!(take(&backlog), Poll::Ready((Next::Frames, 1)));
    backlog.sent(1, 1);
    let replaced = CloseReason::Replaced.into();
    assert_eq!(take(&backlog), Poll::Ready((Next::Ended(replaced), 0)));
    assert_eq!(limits.total.load(Ordering::Relaxed), 0);
}

#[test]
fn memory_counts_for_as_long_as_the_frame_is_kept() {
    let limits = limits(10, usize::MAX);
    let backlog = Backlog::new(Protocol::UsherV1);
    let now = || limits.total.load(Ordering::Relaxed);
    push(&backlog, 16 * 1024 + 1, &limits);
    push(&backlog, 1, &limits);
    assert_eq!(now(), 20 * 1024 + 16);
    let mut kept = Vec::new();
    let cx = Context::from_waker(Waker::noop());
    let taken = backlog.poll_next(&cx, 1, |outgoing| kept.push(outgoing));
    assert_eq!(taken, Poll::Ready(Next::Frames));
    backlog.cut(CloseReason::SlowConsumer);
    assert_eq!(now(), 20 * 1024, "what the session still has of it");
    kept.clear();
    assert_eq!(now(), 0);
}

/// A proof counts what is taken as sent.
#[test]
fn what_was_discarded_is_not_taken() {
    let limits = limits(10, 100);
    let backlog = Backlog::new(Protocol::UsherV1);
    assert_eq!(push(&backlog, 7, &limits), Pushed::Queued);
    assert!(!backlog.is_taken());
    assert_eq!(backlog.cut(CloseReason::SlowConsumer), 1);
    assert!(!backlog.is_taken());
}

#[test]
fn a_cut_gives_back_what_was_queued_and_taken() {
    let limits = limits(10, 100);
    let backlog = Backlog::new(Protocol::RawV1);
    assert_eq!(push(&backlog, 7, &limits), Pushed::Queued);
    assert!(take(&backlog).is_ready());
    assert_eq!(push(&backlog, 8, &limits), Pushed::Queued);
    assert_eq!(backlog.cut(CloseReason::ConnectionLost), 2);
    backlog.sent(1, 7);
    assert_eq!(backlog.cut(CloseReason::ConnectionLost), 0);
    assert_eq!(limits.total.load(Ordering::Relaxed), 0);
}
