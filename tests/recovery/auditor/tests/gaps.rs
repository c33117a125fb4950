//! What a `gap` forgives, and when it is false.

use super::*;

#[test]
fn a_gap_forgives_what_retention_took() {
    let mut case = Case::new();
    for _ in 0..7 {
        case.store(ME);
    }
    case.back(0, 0, [0; CHANNELS], Resume::Gap);
    for seq in 3..=7 {
        case.read(ME, seq);
    }
    assert_eq!(case.is_good().forgiven, 2);
    // Not one more.
    case.heard
        .retain(|heard| !matches!(heard.what, What::Event { stored, .. } if stored.seq == 3));
    assert_eq!(case.verdict().lost, 1);
}

#[test]
fn without_a_gap_nothing_is_forgiven() {
    let mut case = Case::new();
    for _ in 0..7 {
        case.store(ME);
    }
    case.back(0, 0, [0; CHANNELS], Resume::Complete);
    for seq in 3..=7 {
        case.read(ME, seq);
    }
    assert_eq!(case.verdict().false_completes, 2);
}

#[test]
fn a_gap_frame_forgives_nothing_that_came_after_it() {
    let mut case = Case::new();
    for _ in 0..6 {
        case.store(ME);
    }
    case.hear(What::Gap);
    for _ in 0..6 {
        case.store(ME);
    }
    // Six are gone with good reason, and one was sent after the word.
    for seq in 8..=12 {
        case.read(ME, seq);
    }
    let verdict = case.verdict();
    assert_eq!((verdict.forgiven, verdict.lost), (6, 1));
}

#[test]
fn a_gap_forgives_what_is_too_much_for_a_replay() {
    let mut case = Case::new();
    for seq in 0..10 {
        case.store([ME, ALL, ALL][seq % 3]);
    }
    case.back(0, 0, [0; CHANNELS], Resume::Gap);
    for seq in 3..=10 {
        case.read([ME, ALL, ALL][(seq as usize - 1) % 3], seq);
    }
    assert_eq!(case.is_good().forgiven, 2);
}

#[test]
fn a_gap_is_false_where_nothing_can_be_gone() {
    for of_a_frame in [true, false] {
        let mut case = Case::new();
        for _ in 0..4 {
            case.store(ME);
        }
        match of_a_frame {
            true => case.hear(What::Gap),
            false => case.back(0, 0, [0; CHANNELS], Resume::Gap),
        }
        for seq in 1..=4 {
            case.read(ME, seq);
        }
        let verdict = case.verdict();
        assert_eq!((verdict.lost, verdict.false_gaps), (0, 1));
    }
}

#[test]
fn a_gap_is_true_when_the_time_is_over() {
    let mut case = Case::new();
    case.store(OTHER);
    case.store(ME);
    case.now += RETENTION.age;
    case.back(0, 0, [0; CHANNELS], Resume::Gap);
    assert_eq!(case.is_good().forgiven, 1);
}

#[test]
fn a_client_that_was_told_of_a_gap_begins_anew() {
    let mut case = Case::new();
    for _ in 0..7 {
        case.store(ME);
    }
    case.read(ME, 1);
    case.back(0, 1, [1, 0, 0], Resume::Gap);
    // It has forgotten all, and may get again what it had.
    case.read(ME, 1);
    for seq in 3..=7 {
        case.read(ME, seq);
    }
    case.back(0, 7, [7, 0, 0], Resume::Complete);
    case.live(7);
    let verdict = case.is_good();
    assert_eq!((verdict.duplicates, verdict.forgiven), (1, 1));
}

#[test]
fn what_shows_as_a_gap_is_one() {
    let mut case = Case::new();
    case.store(ME);
    case.read(ME, 1);
    case.store(ME);
    case.store(ME);
    case.read_after(ME, 3, 2);
    let verdict = case.verdict();
    assert_eq!(verdict.complaints.len(), 2, "it shows, and it is lost");
}
