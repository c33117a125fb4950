use std::task::{Context, Poll};

use futures_util::task::noop_waker_ref;
use tokio::{
    sync::oneshot,
    time::{Instant, advance},
};

use super::*;
use crate::{
    bus::stream::{Found, Read},
    channel::Channel,
    durable::{
        Opening,
        resume::{Asked, ELECTION_TRIES},
        tests::away::{self, MAX_REPLAY},
    },
    message::{EventName, Message},
    position::Since,
    registry::Session as _,
};

/// A client that waits to be told where it begins, and has seen far more than the stream has.
fn ahead(durable: &Arc<Durable>) -> (Waiting, oneshot::Receiver<Result<Opening, StreamError>>) {
    let (opening, opened) = oneshot::channel();
    let since = Since::parse("k.9999999999.9999999999.1").expect("a position");
    let asked = Some(Asked {
        since,
        opening,
        span: None,
        tries: 0,
    });
    let session = away::joining(durable, &[]);
    (Waiting { session, asked }, opened)
}

#[tokio::test(start_paused = true)]
async fn a_round_does_not_wait_for_a_client_that_is_ahead_of_the_leader() {
    let durable = away::durable(8).await;
    let leader = away::leader(7).replicated();
    let (mut waiting, opened) = ahead(&durable);
    for _ in 0..ELECTION_TRIES {
        let began = Instant::now();
        assert!(
            durable
                .reader(waiting, (&leader, &Lasts::unknown()))
                .await
                .is_none()
        );
        assert_eq!(began.elapsed(), Duration::ZERO);
        // Its pause begins, and ends.
        tokio::task::yield_now().await;
        assert!(lock(&durable.joining).is_empty());
        advance(ELECTION_PAUSE).await;
        tokio::task::yield_now().await;
        waiting = lock(&durable.joining).pop_front().expect("it waits again");
    }
    let reader = durable
        .reader(waiting, (&leader, &Lasts::unknown()))
        .await
        .expect("no election");
    let (_, standing) = reader.joins.expect("it joins");
    assert!(!standing.known, "its position is not of this stream");
    drop(opened);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_left_does_not_come_into_a_round() {
    let durable = away::durable(8).await;
    let leader = away::leader(7).replicated();
    let (waiting, opened) = ahead(&durable);
    drop(opened);
    assert!(
        durable
            .reader(waiting, (&leader, &Lasts::unknown()))
            .await
            .is_none()
    );
    advance(ELECTION_PAUSE).await;
    tokio::task::yield_now().await;
    assert!(lock(&durable.joining).is_empty());
}

/// A topic was followed by a newer leader query than that of the round.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_ahead_of_a_rounds_leader_gets_another_round() {
    let durable = away::durable(8).await;
    let session = away::open(&durable, &[], &away::leader(7));
    session.track().take_back();
    let waiting = || Waiting {
        session: session.clone(),
        asked: None,
    };
    let leader = away::leader(6);
    assert!(
        durable
            .reader(waiting(), (&leader, &Lasts::unknown()))
            .await
            .is_none()
    );
    assert!(session.backlog().is_open());
    let newer = away::leader(7);
    assert!(
        durable
            .reader(waiting(), (&newer, &Lasts::unknown()))
            .await
            .is_some()
    );
    for _ in 0..40 {
        assert!(
            durable
                .reader(waiting(), (&leader, &Lasts::unknown()))
                .await
                .is_none()
        );
    }
    assert!(!session.backlog().is_open(), "it has more than the stream");
}

/// A message of this channel.
fn found(channel: Channel, seq: u64) -> Found {
    Found {
        seq,
        at: seq,
        message: Message {
            event: EventName::default(),
            payload: "1".into(),
            channel,
            stored: None,
            probe: false,
            trace: None,
        },
    }
}

/// The last of `missed` messages of the user: two of them are read.
fn read(after: u64, missed: u64) -> Reads {
    let found = (after + 1..=after + 2).map(|seq| found(Channel::User, seq));
    let mut reads = Reads::none(2);
    reads.of[0] = Some(Read {
        intact: true,
        proven: true,
        found: found.collect(),
        more: missed - 2,
    });
    reads
}

/// A round for a session that is up to date with message 7, of a leader with this many messages.
async fn reader(durable: &Arc<Durable>, session: &Arc<Session>, leader: &LeaderState) -> Reader {
    let waiting = Waiting {
        session: session.clone(),
        asked: None,
    };
    let reader = durable.reader(waiting, (leader, &Lasts::unknown())).await;
    reader.expect("it wants")
}

#[tokio::test]
async fn a_round_brings_half_a_backlog_of_all_channels_together() {
    let durable = away::durable(8).await;
    let names = ["a", "b", "c", "d"];
    let session = away::open(&durable, &names, &away::leader(7));
    session.track().take_back();
    let leader = away::leader(17);
    let facts = Facts::new(&leader, 17);
    let mut brought = Vec::new();
    for _ in 0..2 {
        let mut reader = reader(&durable, &session, &leader).await;
        // Two of each topic, one topic after the other.
        let last = |topic: u64| 17 - (names.len() as u64 - 1 - topic);
        reader.lasts = vec![0, 0, last(0), last(1), last(2), last(3)];
        let mut reads = Reads::none(6);
        for (index, chain) in reader.want.chains.iter().enumerate().skip(2) {
            let seqs = [last(index as u64 - 2) - 4, last(index as u64 - 2)];
            let seqs = seqs.into_iter().filter(|seq| *seq > chain.covered);
            reads.of[index] = Some(Read {
                intact: true,
                proven: true,
                found: seqs.map(|seq| found(chain.channel.clone(), seq)).collect(),
                more: 0,
            });
        }
        let delivered = durable.deliver(&reader, None, reads, &facts).await;
        assert!(delivered.is_ok());
        brought.push(write(&session));
        session.clone().idle();
    }
    // With the `live` at the end.
    assert_eq!(brought, [4, 5]);
}

/// What it was told that it may have lost is left out, and nothing else.
#[tokio::test]
async fn what_came_after_a_gap_is_not_left_out_for_a_topic_that_is_gone() {
    let durable = away::durable(8).await;
    let session = away::open(&durable, &[], &away::leader(7));
    session.track().take_back();
    session.amend(|catching_up| {
        (catching_up.judged, catching_up.skip, catching_up.gap_up_to) = (true, 100, 8);
    });
    let leader = away::leader(9);
    let facts = Facts::new(&leader, 9);
    let mut reader = reader(&durable, &session, &leader).await;
    reader.lasts = vec![9, 0];
    let delivered = durable.deliver(&reader, None, read(7, 2), &facts).await;
    assert!(delivered.is_ok());
    // The message 9, and `live`.
    assert_eq!(write(&session), 2);
}

/// Its client is written all that is queued.
fn write(session: &Session) -> usize {
    let (mut frames, mut bytes) = (0, 0);
    let cx = Context::from_waker(noop_waker_ref());
    let taken = session.backlog().poll_next(&cx, usize::MAX, |one| {
        frames += 1;
        bytes += one.bytes.len();
    });
    assert!(matches!(taken, Poll::Ready(_)), "nothing was queued");
    session.backlog().sent(frames, bytes);
    frames
}

#[tokio::test]
async fn a_slow_session_that_was_held_back_is_told_a_gap_and_stays() {
    let durable = away::durable(8).await;
    let session = away::open(&durable, &[], &away::leader(7));
    session.track().take_back();
    session.amend(|catching_up| catching_up.held_back = Some(durable.held_back.one()));
    let missed = MAX_REPLAY + 6;
    let last = 7 + missed;
    let leader = away::leader(last);
    let facts = Facts::new(&leader, last);
    for passed in [0, 2] {
        let mut reader = reader(&durable, &session, &leader).await;
        reader.lasts = vec![last, 0];
        let reads = read(7 + passed, missed - passed);
        let delivered = durable.deliver(&reader, None, reads, &facts).await;
        assert!(delivered.is_ok() && session.backlog().is_open());
        if passed == 0 {
            // The gap; the messages are more than `max_replay` ago.
            assert_eq!(write(&session), 1);
            session.clone().idle();
        }
    }
    assert_eq!(durable.metrics.sessions_held_back.get(), 0);
    assert_eq!(session.track().covered()[0], 11, "both rounds count");
}
