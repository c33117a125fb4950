use super::*;
use crate::message::{EventName, Message};

const BOUNDS: Bounds = Bounds {
    messages: 4,
    bytes: 10_000,
};

fn look(first: u64, last: u64, per_subject: Option<u64>) -> Look {
    Look {
        epoch: "k3f9".into(),
        last_at: 0,
        set_backs: 0,
        first,
        last,
        per_subject,
        replicated: false,
    }
}

/// A handout with so much memory, to sessions of users `0..`, which want these of their user
/// and of the broadcast.
fn handout(room: usize, wanted: &[[Option<u64>; 2]]) -> Handout {
    let mut handout = Handout::new(Arc::new(Semaphore::new(room)), "broadcast".to_owned());
    for (user, after) in wanted.iter().enumerate() {
        handout.add(subjects(user, *after), BOUNDS);
    }
    handout
}

fn subjects(user: usize, after: [Option<u64>; 2]) -> Vec<Option<Wanted>> {
    let subjects = [format!("user.{user}"), "broadcast".to_owned()];
    let wanted = subjects.into_iter().zip(after);
    wanted
        .map(|(subject, after)| after.map(|after| Wanted { subject, after }))
        .collect()
}

fn pass(handout: &mut Handout, seq: u64, subject: &str, bytes: usize) {
    handout.hand(subject, |broadcast| Found {
        seq,
        at: 0,
        message: Message {
            event: EventName::default(),
            payload: "x".repeat(bytes).into(),
            broadcast,
            stored: None,
            probe: false,
            trace: None,
        },
    });
}

/// What a reader was handed of a kind: sequences, and how many more.
fn handed(handout: &Handout, reader: usize, kind: usize) -> (Vec<u64>, u64) {
    let part = handout.shares[reader].parts[kind].as_ref();
    let part = part.expect("it wants the kind");
    (
        part.found.iter().map(|found| found.seq).collect(),
        part.more,
    )
}

#[test]
fn each_is_handed_what_is_its_own_after_its_place() {
    let wanted = [[Some(0), Some(0)], [Some(3), None], [None, Some(4)]];
    let mut handout = handout(ROOM, &wanted);
    let subjects = [
        "user.0",
        "user.1",
        "broadcast",
        "user.1",
        "user.1",
        "orders",
    ];
    for (seq, subject) in (1..).zip(subjects) {
        pass(&mut handout, seq, subject, 10);
    }
    pass(&mut handout, 7, "broadcast", 10);
    pass(&mut handout, 8, "user.2", 10);
    assert_eq!(handed(&handout, 0, 0), (vec![1], 0));
    assert_eq!(handed(&handout, 0, 1), (vec![3, 7], 0));
    assert_eq!(handed(&handout, 1, 0), (vec![4, 5], 0));
    assert_eq!(handed(&handout, 2, 1), (vec![7], 0));
    let broadcast = &handout.shares[2].parts[1].as_ref().expect("a part").found[0];
    assert!(broadcast.message.broadcast);
}

#[test]
fn two_sessions_of_a_user_are_both_handed_theirs() {
    let mut handout = handout(ROOM, &[]);
    for after in [1, 2] {
        handout.add(subjects(0, [Some(after), None]), BOUNDS);
    }
    for seq in 1..=3 {
        pass(&mut handout, seq, "user.0", 10);
    }
    assert_eq!(handed(&handout, 0, 0), (vec![2, 3], 0));
    assert_eq!(handed(&handout, 1, 0), (vec![3], 0));
}

/// What is left out has nothing behind it: else it would be skipped.
#[test]
fn beyond_the_bounds_messages_are_counted() {
    let mut handout = handout(ROOM, &[[Some(0), None]; 2]);
    for seq in 1..=6 {
        pass(&mut handout, seq, "user.0", 10);
    }
    assert_eq!(handed(&handout, 0, 0), (vec![1, 2, 3, 4], 2));
    for (seq, bytes) in [(7, 20_000), (8, 10), (9, 10)] {
        pass(&mut handout, seq, "user.1", bytes);
    }
    assert_eq!(
        handed(&handout, 1, 0),
        (vec![7], 2),
        "one comes however large"
    );
}

#[test]
fn without_room_messages_are_counted_until_there_is_some() {
    let one = size_of::<Found>() + EventName::default().as_str().len() + 10;
    let mut handout = handout(2 * one, &[[Some(0), None]; 2]);
    let room = handout.room.clone();
    for seq in 1..=3 {
        pass(&mut handout, seq, "user.0", 10);
    }
    pass(&mut handout, 4, "user.1", 10);
    assert_eq!(handed(&handout, 0, 0), (vec![1, 2], 1));
    assert_eq!(handed(&handout, 1, 0), (vec![], 1));
    let scanned = Scanned {
        up_to: 4,
        now: look(1, 4, Some(10)),
    };
    let mut shares = handout.shares.into_iter();
    let mut answer = || {
        let share = shares.next().expect("a share");
        scanned.answer(share, &look(1, 4, Some(10)))
    };
    let reads = answer().expect("an answer");
    let read = reads.of[0].as_ref().expect("of that channel");
    assert_eq!((read.total(), read.intact, read.proven), (3, true, true));
    assert!(answer().is_none(), "it would not get any further");
    assert_eq!(room.available_permits(), 0);
    drop(reads);
    assert_eq!(room.available_permits(), 2 * one);
}

#[test]
fn nothing_is_said_that_is_not_shown() {
    let scanned = |up_to, now| Scanned { up_to, now };
    let shows =
        |scanned: Scanned, after, seen| scanned.shows_all(after, seen, &look(1, 50, Some(10)));
    assert!(shows(scanned(50, look(1, 50, Some(10))), 7, 9));
    assert!(shows(scanned(50, look(8, 50, None)), 7, 9));
    assert!(shows(scanned(60, look(1, 62, Some(10))), 7, 7));
    for (what, scanned, seen) in [
        (
            "as many as are kept",
            scanned(50, look(1, 50, Some(10))),
            10,
        ),
        (
            "as many with those beyond",
            scanned(60, look(1, 62, Some(10))),
            8,
        ),
        ("fewer are kept now", scanned(50, look(1, 50, Some(9))), 9),
        (
            "the beginning is gone",
            scanned(50, look(9, 50, Some(10))),
            9,
        ),
        ("a replica lags", scanned(49, look(1, 50, Some(10))), 3),
        (
            "another stream",
            Scanned {
                up_to: 50,
                now: Look {
                    epoch: "new".into(),
                    last_at: 0,
                    set_backs: 0,
                    ..look(1, 50, Some(10))
                },
            },
            3,
        ),
    ] {
        assert!(!shows(scanned, 7, seen), "{what}");
    }
    let before = look(9, 50, Some(10));
    let gone_before = scanned(50, look(1, 50, Some(10))).shows_all(7, 3, &before);
    assert!(!gone_before, "the beginning was gone before");
}
