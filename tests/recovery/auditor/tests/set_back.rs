//! A stream that somebody set back to an older state.

use super::*;

/// Ends of the first three messages' state: the client read all of them, and the stream
/// keeps this many.
const KEPT: u64 = 1;

impl Case {
    /// The stream has messages up to here, and goes on from there.
    fn set_back(&mut self, to: u64) {
        let time = BEGIN + self.now.as_millis() as u64;
        let at = self.now;
        self.auditor.is_set_back(SetBack { to, at, time });
        self.times.truncate(to as usize + 1);
        self.now += Duration::from_secs(1);
    }

    /// Stores a message that the client knows by its time; numbers are not used again.
    fn store_anew(&mut self, number: u64) -> u64 {
        let seq = self.auditor.last() + 1;
        let id = Self::id(ME, number);
        self.auditor.sending(id, false, self.now);
        self.auditor.acknowledged(id, seq);
        self.times.push(BEGIN + self.now.as_millis() as u64);
        seq
    }

    fn read_anew(&mut self, seq: u64, number: u64) {
        self.hear(What::Event {
            stored: self.at(seq),
            prev: 0,
            id: Self::id(ME, number),
        });
    }

    fn welcomed(&mut self, since: Position, resume: Resume) {
        self.hear(What::Welcome {
            since: Some(since),
            end: self.at(self.auditor.last()),
            resume,
            follows: true,
        });
    }
}

/// Three are read, one is kept, and 4, 5 and 6 come in the place of 2 and 3, as 2, 3 and 4.
/// Returns the client's position before that.
fn overtaken() -> (Case, Position) {
    let mut case = Case::new();
    for seq in 1..=3 {
        case.store(ME);
        case.read(ME, seq);
    }
    let since = Position {
        proven: 0,
        top: case.at(3),
        marks: [3, 0, 0],
    };
    case.set_back(KEPT);
    for number in 4..=6 {
        case.store_anew(number);
    }
    (case, since)
}

#[test]
fn it_is_a_gap_and_then_all_that_the_stream_has_is_owed() {
    for begin in [2, 3] {
        let (mut case, since) = overtaken();
        case.welcomed(since, Resume::Gap);
        for seq in begin..=4 {
            case.read_anew(seq, seq + 2);
        }
        case.live(4);
        let verdict = case.verdict();
        assert_eq!(verdict.told_of_set_back, 1);
        assert_eq!(verdict.lost as u64, begin - 2, "{verdict:?}");
        assert_eq!(verdict.complaints.len() as u64, begin - 2, "{verdict:?}");
    }
    assert_eq!(overtaken().0.auditor.lost_by_the_stream(), 2);
}

#[test]
fn complete_is_false_of_a_client_that_read_what_is_lost() {
    let (mut case, since) = overtaken();
    case.welcomed(since, Resume::Complete);
    case.read_anew(4, 6);
    case.live(4);
    let verdict = case.verdict();
    // Itself, and the two that did not come.
    assert_eq!((verdict.lost, verdict.false_completes), (2, 3));
}

#[test]
fn a_client_that_read_nothing_that_is_lost_is_not_told() {
    for resume in [Resume::Complete, Resume::Gap] {
        let mut case = Case::new();
        case.store(ME);
        case.read(ME, 1);
        case.store(ME);
        case.set_back(KEPT);
        case.store_anew(3);
        case.back(0, 1, [1, 0, 0], resume);
        case.read_anew(2, 3);
        case.live(2);
        let verdict = case.verdict();
        let false_gaps = usize::from(resume == Resume::Gap);
        assert_eq!(
            (verdict.false_gaps, verdict.complaints.len()),
            (false_gaps, false_gaps)
        );
        assert_eq!((verdict.lost, verdict.told_of_set_back), (0, 0));
    }
}

/// It stays connected, and is owed everything as before.
#[test]
fn a_session_that_read_nothing_that_is_lost_goes_on() {
    for comes in [true, false] {
        let mut case = Case::new();
        case.store(ME);
        case.read(ME, 1);
        case.store(ME);
        case.set_back(KEPT);
        case.store_anew(3);
        if comes {
            case.read_anew(2, 3);
        }
        case.live(2);
        let verdict = case.verdict();
        assert_eq!(verdict.lost, usize::from(!comes));
        assert_eq!(verdict.complaints.len(), usize::from(!comes));
    }
}

/// A session gets what was under way, and then newer events, before its gateway closes it.
#[test]
fn frames_of_both_states_may_come_until_the_close() {
    let mut case = Case::new();
    for _ in 1..=3 {
        case.store(ME);
    }
    case.read(ME, 1);
    case.read(ME, 2);
    let under_way = case.at(3);
    case.set_back(KEPT);
    let event = |number| Case::id(ME, number);
    case.hear(What::Event {
        stored: under_way,
        prev: 2,
        id: event(3),
    });
    case.hear(What::Live(under_way));
    for number in 4..=7 {
        case.store_anew(number);
    }
    case.read_anew(5, 7);
    let since = Position {
        proven: 3,
        top: case.at(5),
        marks: [5, 0, 0],
    };
    case.welcomed(since, Resume::Gap);
    for seq in 2..=5 {
        case.read_anew(seq, seq + 2);
    }
    case.live(5);
    assert_eq!(case.is_good().told_of_set_back, 1);
}

#[test]
fn nothing_is_proven_to_a_session_that_read_what_is_lost() {
    for says in [What::Live, What::Ping] {
        let (mut case, since) = overtaken();
        case.hear(says(case.at(4)));
        let proven = Position {
            proven: 4,
            top: case.at(4),
            marks: [0; CHANNELS],
        };
        assert_ne!(since, proven);
        case.welcomed(proven, Resume::Gap);
        for seq in 2..=4 {
            case.read_anew(seq, seq + 2);
        }
        case.live(4);
        let verdict = case.verdict();
        assert_eq!((verdict.lost, verdict.false_completes), (0, 1));
        assert_eq!(verdict.complaints.len(), 1, "{:?}", verdict.complaints);
    }
}

#[test]
fn somebody_has_to_tell_it() {
    let (mut case, _) = overtaken();
    case.read_anew(4, 6);
    assert_eq!(case.verdict().complaints.len(), 1);
}

/// A client is away for both.
#[test]
fn twice_is_told_once() {
    for resume in [Resume::Gap, Resume::Complete] {
        let mut case = Case::new();
        for seq in 1..=3 {
            case.store(ME);
            case.read(ME, seq);
        }
        let since = Position {
            proven: 0,
            top: case.at(3),
            marks: [3, 0, 0],
        };
        case.set_back(2);
        for number in 4..=6 {
            case.store_anew(number);
        }
        case.set_back(4);
        case.store_anew(7);
        case.welcomed(since, resume);
        for (seq, number) in [(3, 4), (4, 5), (5, 7)] {
            case.read_anew(seq, number);
        }
        case.live(5);
        let verdict = case.verdict();
        let told = usize::from(resume == Resume::Gap);
        assert_eq!((verdict.told_of_set_back, verdict.lost), (told, 1 - told));
        assert_eq!(verdict.complaints.is_empty(), resume == Resume::Gap);
    }
}

/// A `gap` of retention was under way when the stream was set back.
#[test]
fn a_gap_under_way_may_be_of_either_state() {
    for (stored, false_gaps) in [(7, 0), (2, 1)] {
        let mut case = Case::new();
        case.store(ME);
        case.read(ME, 1);
        case.store(ME);
        case.set_back(KEPT);
        for number in 1..=stored {
            case.store_anew(number + 2);
        }
        case.hear(What::Gap);
        assert_eq!(case.verdict().false_gaps, false_gaps);
    }
}

/// A client that was told of a set-back gets all again from the beginning, and retention
/// passes it: a gap, though it had read these messages before.
#[test]
fn a_gap_is_true_of_what_a_client_gets_again() {
    for (passes, false_gaps) in [(RETENTION.age, 0), (Duration::ZERO, 1)] {
        let mut case = Case::new();
        for seq in 1..=3 {
            case.store(ME);
            case.read(ME, seq);
        }
        let since = Position {
            proven: 0,
            top: case.at(3),
            marks: [3, 0, 0],
        };
        case.now += RETENTION.age / 2;
        case.set_back(2);
        case.store_anew(4);
        case.welcomed(since, Resume::Gap);
        case.now += passes / 2;
        case.hear(What::Gap);
        case.read_anew(3, 4);
        case.live(3);
        assert_eq!(case.verdict().false_gaps, false_gaps);
    }
}

/// A session whose gateway did not reach NATS for long: retention took all that could show the
/// set-back, and a `gap` tells it. What is not gone is owed.
#[test]
fn a_gap_frame_tells_a_session_of_what_is_gone() {
    for (passes, lost) in [(RETENTION.age, 0), (Duration::ZERO, 2)] {
        let mut case = Case::new();
        for seq in 1..=3 {
            case.store(ME);
            case.read(ME, seq);
        }
        case.set_back(KEPT);
        for number in 4..=5 {
            case.store_anew(number);
        }
        case.now += passes;
        case.hear(What::Gap);
        case.store_anew(6);
        case.read_anew(4, 6);
        case.live(4);
        let verdict = case.verdict();
        assert_eq!((verdict.lost, verdict.forgiven), (lost, 2 - lost));
        assert_eq!(verdict.complaints.len(), lost, "{:?}", verdict.complaints);
    }
}
