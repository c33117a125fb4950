//! The auditor complains of each kind of fault.

use super::*;

const RETENTION: Retention = Retention {
    age: Duration::from_secs(60),
    per_channel: 5,
    replay: 8,
};
const ME: usize = 7;
const BEGIN: u64 = 1_798_000_000_000;

/// An auditor, and a client with its clock: a second passes with all that it reads.
struct Case {
    auditor: Auditor,
    heard: Vec<Heard>,
    now: Duration,
    /// When the stream stored each; 0 is the beginning.
    times: Vec<u64>,
}

impl Case {
    fn new() -> Self {
        let mut case = Self {
            auditor: Auditor::new(RETENTION, BEGIN),
            heard: Vec::new(),
            now: Duration::ZERO,
            times: vec![0],
        };
        case.begins();
        case
    }

    /// Comes without a position.
    fn begins(&mut self) {
        self.hear(What::Welcome {
            since: None,
            end: self.at(self.auditor.last()),
            resume: Resume::None,
        });
    }

    /// A sequence and its time.
    fn at(&self, seq: u64) -> Stored {
        let at = self.times[seq as usize];
        Stored { seq, at }
    }

    /// Stores the next one; its sequence is its number.
    fn store(&mut self, user: Option<usize>) -> u64 {
        self.store_one(user, false)
    }

    fn store_one(&mut self, user: Option<usize>, large: bool) -> u64 {
        let seq = self.auditor.last() + 1;
        let id = Self::id(user, seq);
        self.auditor.sending(id, large, self.now);
        self.auditor.acknowledged(id, seq);
        self.times.push(BEGIN + self.now.as_millis() as u64);
        seq
    }

    fn id(user: Option<usize>, seq: u64) -> Id {
        Id {
            publisher: 0,
            user,
            number: seq as usize,
        }
    }

    fn hear(&mut self, what: What) {
        self.now += Duration::from_secs(1);
        self.heard.push(Heard { at: self.now, what });
    }

    fn read(&mut self, user: Option<usize>, seq: u64) {
        self.read_after(user, seq, 0);
    }

    fn read_after(&mut self, user: Option<usize>, seq: u64, prev: u64) {
        self.hear(What::Event {
            stored: self.at(seq),
            prev,
            id: Self::id(user, seq),
        });
    }

    /// A `gap` in the place of one message.
    fn told_too_large(&mut self, seq: u64, broadcast: bool) {
        self.hear(What::TooLarge {
            stored: self.at(seq),
            prev: 0,
            broadcast,
        });
    }

    /// Comes back with a proof up to there, a largest sequence and a mark of each channel.
    fn back(&mut self, proven: u64, top: u64, marks: [u64; 2], resume: Resume) {
        let top = self.at(top);
        self.hear(What::Welcome {
            since: Some(Position { proven, top, marks }),
            end: self.at(self.auditor.last()),
            resume,
        });
    }

    fn live(&mut self, seq: u64) {
        self.hear(What::Live(self.at(seq)));
    }

    fn verdict(&self) -> Verdict {
        self.auditor.judge(ME, &self.heard)
    }

    #[track_caller]
    fn is_good(&self) -> Verdict {
        let verdict = self.verdict();
        assert_eq!(verdict.complaints, [""; 0]);
        assert_eq!((verdict.lost, verdict.false_gaps), (0, 0));
        verdict
    }
}

#[test]
fn who_has_everything_is_content_and_what_comes_twice_is_counted() {
    let mut case = Case::new();
    for to in [Some(ME), None, Some(1), Some(ME)] {
        case.store(to);
    }
    case.read(Some(ME), 1);
    case.back(0, 1, [1, 0], Resume::Complete);
    case.read(Some(ME), 1);
    case.read(None, 2);
    case.read(Some(ME), 4);
    case.live(4);
    let verdict = case.is_good();
    assert_eq!((verdict.accepted, verdict.duplicates), (3, 1));
}

#[test]
fn one_dropped_message_is_missed_wherever_it_is() {
    for dropped in 1..=4 {
        let mut case = Case::new();
        for seq in 1..=4 {
            case.store(Some(ME));
            if seq != dropped {
                case.read(Some(ME), seq);
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
    case.store(Some(ME));
    case.read(Some(ME), 1);
    case.store(Some(ME));
    case.store(None);
    case.back(0, 1, [1, 0], Resume::Complete);
    case.read(None, 3);
    case.live(3);
    let verdict = case.verdict();
    assert_eq!((verdict.lost, verdict.false_completes), (1, 1));
}

#[test]
fn live_and_ping_say_that_everything_has_come() {
    for said in [What::Live, What::Ping] {
        let mut case = Case::new();
        case.store(None);
        case.hear(said(case.at(1)));
        case.read(None, 1);
        assert_eq!(case.verdict().lost, 1);
    }
}

#[test]
fn a_gap_forgives_what_retention_took() {
    let mut case = Case::new();
    for _ in 0..7 {
        case.store(Some(ME));
    }
    case.back(0, 0, [0; 2], Resume::Gap);
    for seq in 3..=7 {
        case.read(Some(ME), seq);
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
        case.store(Some(ME));
    }
    case.back(0, 0, [0; 2], Resume::Complete);
    for seq in 3..=7 {
        case.read(Some(ME), seq);
    }
    assert_eq!(case.verdict().false_completes, 2);
}

#[test]
fn a_gap_frame_forgives_nothing_that_came_after_it() {
    let mut case = Case::new();
    for _ in 0..6 {
        case.store(Some(ME));
    }
    case.hear(What::Gap);
    for _ in 0..6 {
        case.store(Some(ME));
    }
    // Six are gone with good reason, and one was sent after the word.
    for seq in 8..=12 {
        case.read(Some(ME), seq);
    }
    let verdict = case.verdict();
    assert_eq!((verdict.forgiven, verdict.lost), (6, 1));
}

#[test]
fn a_gap_forgives_what_is_too_much_for_a_replay() {
    let mut case = Case::new();
    for seq in 0..10 {
        case.store([Some(ME), None, None][seq % 3]);
    }
    case.back(0, 0, [0; 2], Resume::Gap);
    for seq in 3..=10 {
        case.read([Some(ME), None, None][(seq as usize - 1) % 3], seq);
    }
    assert_eq!(case.is_good().forgiven, 2);
}

#[test]
fn a_gap_is_false_where_nothing_can_be_gone() {
    for of_a_frame in [true, false] {
        let mut case = Case::new();
        for _ in 0..4 {
            case.store(Some(ME));
        }
        match of_a_frame {
            true => case.hear(What::Gap),
            false => case.back(0, 0, [0; 2], Resume::Gap),
        }
        for seq in 1..=4 {
            case.read(Some(ME), seq);
        }
        let verdict = case.verdict();
        assert_eq!((verdict.lost, verdict.false_gaps), (0, 1));
    }
}

#[test]
fn a_gap_is_true_when_the_time_is_over() {
    let mut case = Case::new();
    case.store(Some(1));
    case.store(Some(ME));
    case.now += RETENTION.age;
    case.back(0, 0, [0; 2], Resume::Gap);
    assert_eq!(case.is_good().forgiven, 1);
}

/// A broadcast came, and the message before it did not: the position says so.
#[test]
fn a_mark_of_one_channel_says_nothing_of_the_other() {
    let broadcast_alone = || {
        let mut case = Case::new();
        case.store(Some(ME));
        case.store(None);
        case.read(None, 2);
        case.back(0, 2, [0, 2], Resume::Complete);
        case
    };
    let mut case = broadcast_alone();
    case.read(Some(ME), 1);
    case.live(2);
    case.is_good();
    let mut case = broadcast_alone();
    case.live(2);
    let verdict = case.verdict();
    assert_eq!((verdict.lost, verdict.false_completes), (1, 1));
}

#[test]
fn a_client_comes_back_with_what_the_rules_make() {
    let right = (0, 2, [1, 2]);
    for (proven, top, marks) in [
        right,
        (1, 2, [1, 2]),
        (0, 1, [1, 2]),
        (0, 2, [0, 2]),
        (0, 2, [1, 0]),
        (0, 2, [2, 2]),
    ] {
        let mut case = Case::new();
        case.store(Some(ME));
        case.store(None);
        case.read(Some(ME), 1);
        case.read(None, 2);
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
    case.store(None);
    case.store(Some(ME));
    case.read(None, 1);
    case.read(Some(ME), 2);
    case.live(1);
    case.back(1, 2, [2, 0], Resume::Complete);
    case.live(2);
    case.back(2, 2, [0; 2], Resume::Complete);
    case.is_good();
}

#[test]
fn complete_never_goes_beyond_the_end() {
    let mut case = Case::new();
    case.store(Some(ME));
    case.read(Some(ME), 1);
    let since = Position {
        proven: 0,
        top: case.at(1),
        marks: [1, 0],
    };
    case.hear(What::Welcome {
        since: Some(since),
        end: case.at(0),
        resume: Resume::Complete,
    });
    assert_eq!(case.verdict().complaints.len(), 1);
}

#[test]
fn a_client_that_was_told_of_a_gap_begins_anew() {
    let mut case = Case::new();
    for _ in 0..7 {
        case.store(Some(ME));
    }
    case.read(Some(ME), 1);
    case.back(0, 1, [1, 0], Resume::Gap);
    // It has forgotten all, and may get again what it had.
    case.read(Some(ME), 1);
    for seq in 3..=7 {
        case.read(Some(ME), seq);
    }
    case.back(0, 7, [7, 0], Resume::Complete);
    case.live(7);
    let verdict = case.is_good();
    assert_eq!((verdict.duplicates, verdict.forgiven), (1, 1));
}

#[test]
fn a_replay_keeps_the_order_across_channels() {
    for (resume, complaints) in [(Resume::Complete, 1), (Resume::None, 0)] {
        let mut case = Case::new();
        if resume == Resume::Complete {
            case.back(0, 0, [0; 2], resume);
        }
        case.store(None);
        case.store(Some(ME));
        case.read(Some(ME), 2);
        case.read(None, 1);
        case.live(2);
        let verdict = case.verdict();
        assert_eq!(verdict.complaints.len(), complaints);
        assert_eq!(verdict.crossed, 1 - complaints);
    }
}

/// Each with one millisecond of a time that is wrong, or an hour.
#[test]
fn a_wrong_time_is_found() {
    let mut case = Case::new();
    case.store(Some(ME));
    case.read(Some(ME), 1);
    case.times[1] += 1;
    case.live(1);
    assert_eq!(case.verdict().complaints.len(), 1, "not what it was");
    for hour in [-3_600_000, 3_600_000] {
        let mut case = Case::new();
        case.store(Some(ME));
        case.times[1] = case.times[1].wrapping_add_signed(hour);
        case.read(Some(ME), 1);
        assert_eq!(case.verdict().complaints.len(), 1, "{hour}");
    }
    let mut case = Case::new();
    case.times[0] = 1;
    case.live(0);
    assert_eq!(case.verdict().complaints.len(), 2, "0 has no time");
}

#[test]
fn a_stream_that_was_set_back_is_a_gap_and_nothing_else() {
    let set_back = |resume| {
        let mut case = Case::new();
        for seq in 1..=3 {
            case.store(Some(ME));
            case.read(Some(ME), seq);
        }
        let top = case.at(3);
        case.auditor.is_set_back(1, case.now);
        case.times.truncate(2);
        for number in 4..=6 {
            case.now += Duration::from_secs(1);
            let seq = case.auditor.last() + 1;
            let id = Case::id(Some(ME), number);
            case.auditor.sending(id, false, case.now);
            case.auditor.acknowledged(id, seq);
            case.times.push(BEGIN + case.now.as_millis() as u64);
        }
        case.hear(What::Welcome {
            since: Some(Position {
                proven: 0,
                top,
                marks: [3, 0],
            }),
            end: case.at(4),
            resume,
        });
        case
    };
    let read = |case: &mut Case, seqs: std::ops::RangeInclusive<u64>| {
        for seq in seqs {
            case.hear(What::Event {
                stored: case.at(seq),
                prev: 0,
                id: Case::id(Some(ME), seq + 2),
            });
        }
        case.live(4);
    };
    let mut case = set_back(Resume::Gap);
    read(&mut case, 2..=4);
    case.is_good();
    let mut case = set_back(Resume::Gap);
    read(&mut case, 3..=4);
    assert_eq!(case.verdict().lost, 1, "what the stream has is owed");
    let mut case = set_back(Resume::Complete);
    read(&mut case, 4..=4);
    assert!(case.verdict().false_completes > 0);
}

#[test]
fn a_gap_stands_for_one_message_that_is_too_large() {
    for broadcast in [false, true] {
        let to = (!broadcast).then_some(ME);
        let mut case = Case::new();
        case.store_one(to, true);
        case.store(to);
        case.told_too_large(1, broadcast);
        case.read_after(to, 2, 1);
        case.live(2);
        let verdict = case.is_good();
        assert_eq!((verdict.too_large, verdict.gap_frames), (1, 0));
    }
    // Without it, the message is lost.
    let mut case = Case::new();
    case.store_one(Some(ME), true);
    case.live(1);
    assert_eq!(case.verdict().lost, 1);
    // It came whole.
    let mut case = Case::new();
    case.store_one(Some(ME), true);
    case.read(Some(ME), 1);
    assert_eq!(case.verdict().complaints.len(), 1);
}

#[test]
fn too_large_is_false_of_any_other_message() {
    for (to, broadcast) in [(Some(ME), false), (Some(ME), true), (Some(1), false)] {
        let mut case = Case::new();
        // It is large where the channel is wrong.
        case.store_one(to, (to, broadcast) != (Some(ME), false));
        case.told_too_large(1, broadcast);
        assert_eq!(case.verdict().false_gaps, 1, "{to:?} {broadcast}");
    }
}

#[test]
fn nothing_of_others_and_nothing_that_is_not_stored() {
    let mut case = Case::new();
    case.store(Some(1));
    case.times.push(BEGIN);
    case.read(Some(1), 1);
    case.read(Some(ME), 2);
    case.read(Some(ME), 1);
    assert_eq!(case.verdict().complaints.len(), 3);
}

#[test]
fn what_nobody_acknowledged_may_come() {
    let mut case = Case::new();
    case.auditor.sending(Case::id(Some(ME), 1), false, case.now);
    case.times.push(BEGIN);
    case.read(Some(ME), 1);
    case.is_good();
    assert_eq!(case.auditor.unknown(), 1);
}

#[test]
fn what_shows_as_a_gap_is_one() {
    let mut case = Case::new();
    case.store(Some(ME));
    case.read(Some(ME), 1);
    case.store(Some(ME));
    case.store(Some(ME));
    case.read_after(Some(ME), 3, 2);
    let verdict = case.verdict();
    assert_eq!(verdict.complaints.len(), 2, "it shows, and it is lost");
}
