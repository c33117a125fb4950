//! What a client is owed, and what it may read.

use super::*;

#[test]
fn who_has_everything_is_content() {
    let mut case = Case::new();
    for to in [ME, ALL, OTHER, ME] {
        case.store(to);
    }
    case.read(ME, 1);
    case.back(0, 1, [1, 0, 0], Resume::Complete);
    case.read(ALL, 2);
    case.read(ME, 4);
    case.live(4);
    assert_eq!(case.is_good().accepted, 3);
}

#[test]
fn nothing_comes_twice() {
    for again in [1, 2] {
        let mut case = Case::new();
        case.store(ME);
        case.store(ME);
        case.read(ME, 1);
        case.read(ME, 2);
        case.read(ME, again);
        let verdict = case.verdict();
        assert_eq!((verdict.accepted, verdict.duplicates), (2, 1));
        assert_eq!(verdict.complaints.len(), 1);
    }
}

#[test]
fn one_dropped_message_is_missed_wherever_it_is() {
    for dropped in 1..=4 {
        let mut case = Case::new();
        for seq in 1..=4 {
            case.store(ME);
            if seq != dropped {
                case.read(ME, seq);
            }
        }
        let verdict = case.verdict();
        assert_eq!(verdict.lost, 1, "{dropped}: {verdict:?}");
        assert_eq!(verdict.complaints.len(), 1);
    }
}

#[test]
fn a_false_complete_is_one() {
    let mut case = Case::new();
    case.store(ME);
    case.read(ME, 1);
    case.store(ME);
    case.store(ALL);
    case.back(0, 1, [1, 0, 0], Resume::Complete);
    case.read(ALL, 3);
    case.live(3);
    let verdict = case.verdict();
    assert_eq!((verdict.lost, verdict.false_completes), (1, 1));
}

#[test]
fn live_and_ping_say_that_everything_has_come() {
    for said in [What::Live, What::Ping] {
        let mut case = Case::new();
        case.store(ALL);
        case.hear(said(case.at(1)));
        case.read(ALL, 1);
        assert_eq!(case.verdict().lost, 1);
    }
}

/// A broadcast came, and the message before it did not: the position says so.
#[test]
fn a_mark_of_one_channel_says_nothing_of_the_other() {
    let broadcast_alone = || {
        let mut case = Case::new();
        case.store(ME);
        case.store(ALL);
        case.read(ALL, 2);
        case.back(0, 2, [0, 2, 0], Resume::Complete);
        case
    };
    let mut case = broadcast_alone();
    case.read(ME, 1);
    case.live(2);
    case.is_good();
    let mut case = broadcast_alone();
    case.live(2);
    let verdict = case.verdict();
    assert_eq!((verdict.lost, verdict.false_completes), (1, 1));
}

#[test]
fn a_replay_keeps_the_order_across_channels() {
    for (resume, complaints) in [(Resume::Complete, 1), (Resume::None, 0)] {
        let mut case = Case::new();
        if resume == Resume::Complete {
            case.back(0, 0, [0; CHANNELS], resume);
        }
        case.store(ALL);
        case.store(ME);
        case.read(ME, 2);
        case.read(ALL, 1);
        case.live(2);
        let verdict = case.verdict();
        assert_eq!(verdict.complaints.len(), complaints);
        assert_eq!(verdict.crossed, 1 - complaints);
    }
}

#[test]
fn nothing_of_others_and_nothing_that_is_not_stored() {
    let mut case = Case::new();
    case.store(OTHER);
    case.times.push(BEGIN);
    case.read(OTHER, 1);
    case.read(ME, 2);
    case.read(ME, 1);
    assert_eq!(case.verdict().complaints.len(), 3);
}

#[test]
fn what_nobody_acknowledged_may_come() {
    let mut case = Case::new();
    case.auditor.sending(Case::id(ME, 1), false, case.now);
    case.times.push(BEGIN);
    case.read(ME, 1);
    case.is_good();
    assert_eq!(case.auditor.unknown(), 1);
}
