//! The position that a client comes back with, and the times in it.

use super::*;

#[test]
fn a_client_comes_back_with_what_the_rules_make() {
    let right = (0, 2, [1, 2, 0]);
    for (proven, top, marks) in [
        right,
        (1, 2, [1, 2, 0]),
        (0, 1, [1, 2, 0]),
        (0, 2, [0, 2, 0]),
        (0, 2, [1, 0, 0]),
        (0, 2, [2, 2, 0]),
    ] {
        let mut case = Case::new();
        case.store(ME);
        case.store(ALL);
        case.read(ME, 1);
        case.read(ALL, 2);
        case.back(proven, top, marks, Resume::Complete);
        case.live(2);
        let expected = usize::from((proven, top, marks) != right);
        let complaints = case.verdict().complaints;
        assert_eq!(complaints.len(), expected, "{complaints:?}");
    }
}

#[test]
fn a_proof_takes_the_marks_that_are_not_above_it() {
    let mut case = Case::new();
    case.store(ALL);
    case.store(ME);
    case.read(ALL, 1);
    case.read(ME, 2);
    case.live(1);
    case.back(1, 2, [2, 0, 0], Resume::Complete);
    case.live(2);
    case.back(2, 2, [0; CHANNELS], Resume::Complete);
    case.is_good();
}

#[test]
fn complete_never_goes_beyond_the_end() {
    let mut case = Case::new();
    case.store(ME);
    case.read(ME, 1);
    let since = Position {
        proven: 0,
        top: case.at(1),
        marks: [1, 0, 0],
    };
    case.hear(What::Welcome {
        since: Some(since),
        end: case.at(0),
        resume: Resume::Complete,
        follows: true,
    });
    assert_eq!(case.verdict().complaints.len(), 1);
}

/// Each with one millisecond of a time that is wrong, or an hour.
#[test]
fn a_wrong_time_is_found() {
    let mut case = Case::new();
    case.store(ME);
    case.read(ME, 1);
    case.times[1] += 1;
    case.live(1);
    assert_eq!(case.verdict().complaints.len(), 1, "not what it was");
    for hour in [-3_600_000, 3_600_000] {
        let mut case = Case::new();
        case.store(ME);
        case.times[1] = case.times[1].wrapping_add_signed(hour);
        case.read(ME, 1);
        assert_eq!(case.verdict().complaints.len(), 1, "{hour}");
    }
    let mut case = Case::new();
    case.times[0] = 1;
    case.live(0);
    assert_eq!(case.verdict().complaints.len(), 2, "0 has no time");
}
