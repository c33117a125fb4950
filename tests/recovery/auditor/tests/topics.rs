//! A topic, which a client follows always or at times.

use super::*;

impl Case {
    /// A client that follows no topic yet.
    fn without_topic() -> Self {
        let mut case = Self::new();
        (case.follows, case.heard) = (false, Vec::new());
        case.begins();
        case
    }

    fn following(&mut self, seq: u64, follows: bool) {
        self.follows = follows;
        let stored = self.at(seq);
        self.hear(What::Following { stored, follows });
    }
}

#[test]
fn a_message_of_the_topic_is_missed() {
    for dropped in 0..=3 {
        let mut case = Case::new();
        for seq in 1..=3 {
            case.store(NEWS);
            if seq != dropped {
                case.read(NEWS, seq);
            }
        }
        case.live(3);
        assert_eq!(case.verdict().lost, usize::from(dropped > 0));
    }
}

#[test]
fn another_topic_is_for_others() {
    let mut case = Case::new();
    case.store(To::Topic(4));
    case.read(To::Topic(4), 1);
    assert_eq!(case.verdict().complaints.len(), 1);
}

#[test]
fn nothing_of_a_topic_comes_to_a_client_that_does_not_follow_it() {
    let mut case = Case::without_topic();
    case.store(NEWS);
    case.live(1);
    assert_eq!(case.is_good().accepted, 0, "and it is not owed");
    case.read(NEWS, 1);
    assert_eq!(case.verdict().complaints.len(), 1);
    // Nor when it has left it.
    let mut case = Case::new();
    case.following(0, false);
    case.store(NEWS);
    case.read(NEWS, 1);
    assert_eq!(case.verdict().complaints.len(), 1);
    // Nor in the place of one that is too large.
    let mut case = Case::without_topic();
    case.store_one(NEWS, true);
    case.told_too_large(1, TOPIC);
    assert_eq!(case.verdict().complaints.len(), 1);
}

/// From the answer on, to the answer without it.
#[test]
fn a_topic_is_owed_while_it_is_followed() {
    for reads in [true, false] {
        let mut case = Case::without_topic();
        case.store(NEWS);
        case.store(ME);
        case.read(ME, 2);
        case.following(2, true);
        case.store(NEWS);
        if reads {
            case.read(NEWS, 3);
        }
        case.live(3);
        case.following(3, false);
        case.store(NEWS);
        case.live(4);
        let verdict = case.verdict();
        assert_eq!(verdict.lost, usize::from(!reads), "{verdict:?}");
        assert_eq!(verdict.complaints.len(), usize::from(!reads));
        assert_eq!(verdict.followed, 1);
    }
}

#[test]
fn what_was_sent_after_the_answer_is_owed() {
    let mut case = Case::without_topic();
    // The answer says 2, and only 1 was there.
    case.store(ME);
    case.read(ME, 1);
    case.times.push(case.times[1]);
    case.following(2, true);
    case.now += Duration::from_secs(1);
    case.times.pop();
    case.store(NEWS);
    assert_eq!(case.verdict().lost, 1);
}

#[test]
fn a_topic_never_begins_below_a_proof() {
    for (seq, complaints) in [(1, 1), (2, 0)] {
        let mut case = Case::without_topic();
        case.store(ME);
        case.store(ME);
        case.read(ME, 1);
        case.read(ME, 2);
        case.live(2);
        case.following(seq, true);
        assert_eq!(case.verdict().complaints.len(), complaints);
    }
}

/// Rule 3.
#[test]
fn a_topic_has_a_mark_from_its_answer_on() {
    let right = [1, 0, 3];
    for marks in [right, [1, 0, 0], [1, 0, 2]] {
        let mut case = Case::without_topic();
        case.store(ME);
        case.read(ME, 1);
        case.store(OTHER);
        case.store(OTHER);
        case.following(3, true);
        case.back(0, 3, marks, Resume::Complete);
        case.live(3);
        let complaints = case.verdict().complaints;
        assert_eq!(
            complaints.len(),
            usize::from(marks != right),
            "{complaints:?}"
        );
    }
    // Without it, it has none.
    for (mark, complaints) in [(0, 0), (2, 1)] {
        let mut case = Case::new();
        case.store(NEWS);
        case.store(NEWS);
        case.read(NEWS, 1);
        case.read(NEWS, 2);
        case.following(2, false);
        case.back(0, 2, [0, 0, mark], Resume::Complete);
        case.live(2);
        assert_eq!(case.verdict().complaints.len(), complaints);
    }
}

/// It asks with `&follow=` when it comes back: its position covers the topic.
#[test]
fn a_topic_of_a_return_is_owed_from_the_position() {
    for reads in [true, false] {
        let mut case = Case::without_topic();
        case.store(NEWS);
        case.live(1);
        case.store(NEWS);
        case.follows = true;
        case.back(1, 1, [0; CHANNELS], Resume::Complete);
        if reads {
            case.read(NEWS, 2);
        }
        case.live(2);
        let verdict = case.verdict();
        assert_eq!(verdict.lost, usize::from(!reads));
        assert_eq!(verdict.false_completes, usize::from(!reads));
        assert_eq!(verdict.complaints.len(), usize::from(!reads));
    }
}

/// A mark of another channel says nothing of the topic.
#[test]
fn what_came_of_others_says_nothing_of_the_topic() {
    for reads in [true, false] {
        let mut case = Case::new();
        case.store(NEWS);
        case.store(ME);
        case.read(ME, 2);
        case.back(0, 2, [2, 0, 0], Resume::Complete);
        if reads {
            case.read(NEWS, 1);
        }
        case.live(2);
        assert_eq!(case.verdict().false_completes, usize::from(!reads));
    }
}

#[test]
fn a_gap_of_the_topic_is_true_only_where_it_follows_it() {
    for (follows, false_gaps) in [(true, 0), (false, 1)] {
        let mut case = Case::without_topic();
        case.follows = follows;
        // Other messages that stand first in the stream are not gone.
        for _ in 0..4 {
            case.store(ME);
        }
        for _ in 0..RETENTION.per_channel + 1 {
            case.store(NEWS);
        }
        case.hear(What::Live(case.at(0)));
        case.back(0, 0, [0; CHANNELS], Resume::Gap);
        for seq in 1..=4 {
            case.read(ME, seq);
        }
        assert_eq!(case.verdict().false_gaps, false_gaps);
    }
}
