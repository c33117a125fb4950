mod history;

use super::*;
use crate::{
    channel::Topic,
    durable::chain::Compared,
    registry::{Limits, Outgoing, Source},
};

fn limits() -> Limits {
    Limits::new(8, usize::MAX, usize::MAX)
}

/// Channels of a session: its user's, the broadcast, and topics.
fn channels(count: usize) -> Vec<Channel> {
    let topics =
        (2..count).map(|topic| Channel::Topic(Topic::parse(&topic.to_string()).expect("a topic")));
    [Channel::User, Channel::Broadcast]
        .into_iter()
        .chain(topics)
        .collect()
}

fn beginning(at: u64, channels: usize) -> Beginning {
    Beginning {
        at: vec![at; channels],
        proven: Proof { seq: at, at: 0 },
        known: Proof::default(),
        resumed: None,
    }
}

#[test]
fn where_it_begins_decides_what_is_known() {
    let mut track = Track::joining(channels(2));
    let stored = |seq, prev| Stored { seq, prev, at: 0 };
    assert_eq!(track.compare(0, stored(5, 4)), None);
    track.start(beginning(7, 2));
    assert_eq!(track.compare(0, stored(5, 4)), None, "it catches up");
    let seq = 7;
    let finished = track.finish(7, Proof { seq, at: 0 }, 0);
    assert!(finished.expect("nothing was lost").frames.is_empty());
    assert_eq!(track.compare(0, stored(7, 5)), Some(Compared::Duplicate));
    assert_eq!(
        track.compare(0, stored(9, 6)),
        Some(Compared::Next { prev: 6 })
    );
    assert_eq!(track.compare(1, stored(10, 8)), Some(Compared::Hole));
    track.note_sent(0, 9);
    assert_eq!(track.compare(0, stored(12, 11)), Some(Compared::Hole));
    assert_eq!(
        track.compare(0, stored(12, 9)),
        Some(Compared::Next { prev: 9 })
    );
}

#[test]
fn what_a_session_was_not_sent_is_no_predecessor() {
    let mut track = Track::joining(channels(2));
    track.start(beginning(0, 2));
    track.finish(0, Proof::default(), 0);
    track.note_sent(0, 3);
    for (seq, prev) in [(5, 3), (6, 5)] {
        track.note_skipped(0, seq, prev);
    }
    let stored = Stored {
        seq: 9,
        prev: 6,
        at: 0,
    };
    assert_eq!(track.compare(0, stored), Some(Compared::Next { prev: 3 }));
}

#[test]
fn what_waits_is_bounded_and_the_rest_is_left_to_the_stream() {
    let mut track = Track::joining(channels(2));
    track.start(beginning(0, 2));
    for seq in 1..=9 {
        let (prev, at) = (seq - 1, 0);
        let outgoing = Outgoing::new(vec![0; 9].into(), None, Source::Own, &limits());
        track.hold(
            Waits::whole(0, Stored { seq, prev, at }, outgoing),
            &limits(),
        );
    }
    assert_eq!(track.pending_bytes(), 0);
    let finished = track
        .finish(0, Proof::default(), 0)
        .expect("nothing was lost");
    assert!(finished.frames.is_empty() && !track.is_live());
}

#[test]
fn a_loss_during_a_round_keeps_the_session_behind() {
    let mut track = Track::joining(channels(2));
    track.start(beginning(0, 2));
    let want = track.want().expect("it catches up");
    track.lose();
    assert!(
        track
            .finish(5, Proof { seq: 5, at: 0 }, want.connection_changes)
            .is_none()
    );
    assert!(!track.is_live() && track.proven().is_none());
}

/// All sessions together use too much memory.
#[test]
fn what_waits_for_a_session_on_its_way_in_can_be_taken_back() {
    let mut track = Track::joining(channels(2));
    let stored = |seq| Stored {
        seq,
        prev: seq - 1,
        at: seq,
    };
    let outgoing = || Outgoing::new(vec![0; 9].into(), None, Source::Own, &limits());
    track.hold(Waits::whole(0, stored(8), outgoing()), &limits());
    assert_eq!(track.pending_bytes(), 9);
    track.take_back();
    assert_eq!(track.pending_bytes(), 0);
    track.hold(Waits::whole(0, stored(9), outgoing()), &limits());
    assert_eq!(track.pending_bytes(), 0, "it is left to the stream");
    track.start(beginning(7, 2));
    let proof = Proof { seq: 7, at: 7 };
    let finished = track.finish(7, proof, 0).expect("nothing was lost");
    assert!(finished.frames.is_empty() && !track.is_live());
    let want = track.want().expect("it catches up");
    assert!(want.chains[0].doubtful);
    track.hold(Waits::whole(0, stored(10), outgoing()), &limits());
    assert_eq!(track.pending_bytes(), 9, "they wait again");
    track.leave();
    assert_eq!(track.pending_bytes(), 0);
}
