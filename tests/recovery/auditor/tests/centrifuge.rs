//! A client of the Centrifuge protocol, each of whose channels is judged by itself.

use super::*;

impl Case {
    fn centrifuge() -> Self {
        let mut case = Self::new();
        case.heard = Vec::new();
        case.connects([None; CHANNELS], [false; CHANNELS]);
        case
    }

    /// Comes with these offsets, and is told which channels are recovered.
    fn connects(&mut self, since: [Option<u64>; CHANNELS], recovered: [bool; CHANNELS]) {
        self.hear(What::Connected { asked: self.now });
        for channel in 0..CHANNELS {
            self.subscribes(channel, since[channel], recovered[channel]);
        }
    }

    fn subscribes(&mut self, channel: usize, since: Option<u64>, recovered: bool) {
        let last = self.auditor.last();
        let offset = since.filter(|_| recovered).unwrap_or(last);
        self.subscribed_at(channel, since, (offset, recovered));
    }

    fn subscribed_at(
        &mut self,
        channel: usize,
        since: Option<u64>,
        (offset, recovered): (u64, bool),
    ) {
        let asked = self.now;
        self.hear(What::Subscribed {
            channel,
            since,
            offset,
            recovered,
            asked,
        });
    }

    fn publication(&mut self, to: To, seq: u64) {
        self.publication_of(to, seq, seq);
    }

    fn publication_of(&mut self, to: To, seq: u64, number: u64) {
        let channel = MINE.number(to).expect("one of mine");
        let id = Some(Self::id(to, number));
        self.hear(What::Publication { channel, seq, id });
    }

    fn judged(&self) -> Verdict {
        self.auditor.judge_each(MINE, &self.heard)
    }

    #[track_caller]
    fn is_complained_of(&self, complaints: usize) -> Verdict {
        let verdict = self.judged();
        let all = &verdict.complaints;
        assert_eq!(all.len(), complaints, "{all:#?}");
        verdict
    }

    /// Another message in the place of one that the stream lost.
    fn stores_anew(&mut self, to: To, number: u64) -> u64 {
        let seq = self.auditor.last() + 1;
        let id = Self::id(to, number);
        self.auditor.sending(id, false, self.now);
        self.auditor.acknowledged(id, seq);
        seq
    }

    fn sets_back(&mut self, to: u64) {
        let at = self.now;
        let time = BEGIN + at.as_millis() as u64;
        self.auditor.is_set_back(SetBack { to, at, time });
        self.now += Duration::from_secs(1);
    }
}

const ALL_RECOVERED: [bool; CHANNELS] = [true; CHANNELS];

#[test]
fn who_has_everything_is_content() {
    let mut case = Case::centrifuge();
    for (seq, to) in (1..).zip([ME, ALL, NEWS]) {
        case.store(to);
        case.publication(to, seq);
    }
    case.connects([1, 2, 3].map(Some), ALL_RECOVERED);
    case.store(NEWS);
    case.publication(NEWS, 4);
    let verdict = case.is_complained_of(0);
    assert_eq!((verdict.accepted, verdict.recovered), (4, 3));
}

#[test]
fn one_dropped_message_is_missed_in_each_channel() {
    for to in MINE.to() {
        for dropped in 1..=3 {
            let mut case = Case::centrifuge();
            for seq in 1..=3 {
                case.store(to);
                if seq != dropped {
                    case.publication(to, seq);
                }
            }
            assert_eq!(case.is_complained_of(1).lost, 1);
        }
    }
}

#[test]
fn a_false_recovered_is_one() {
    for (number, to) in MINE.to().into_iter().enumerate() {
        for reads in [true, false] {
            let mut case = Case::centrifuge();
            case.store(to);
            case.publication(to, 1);
            case.store(to);
            case.store(to);
            let mut since = [Some(0); CHANNELS];
            since[number] = Some(1);
            case.connects(since, ALL_RECOVERED);
            if reads {
                case.publication(to, 2);
            }
            case.publication(to, 3);
            let verdict = case.is_complained_of(usize::from(!reads));
            assert_eq!(verdict.false_completes, usize::from(!reads));
        }
    }
}

#[test]
fn nothing_comes_twice() {
    let mut case = Case::centrifuge();
    case.store(ME);
    case.publication(ME, 1);
    case.publication(ME, 1);
    assert_eq!(case.is_complained_of(1).duplicates, 1);
    // Nor after a return.
    case.heard.pop();
    case.connects([Some(1), Some(0), Some(0)], ALL_RECOVERED);
    case.publication(ME, 1);
    assert_eq!(case.is_complained_of(1).duplicates, 1);
}

#[test]
fn what_is_not_recovered_has_to_be_gone() {
    for (stored, false_gaps) in [(RETENTION.per_channel + 1, 0), (2, 1)] {
        let mut case = Case::centrifuge();
        for _ in 0..stored {
            case.store(ME);
        }
        case.connects([Some(0); CHANNELS], [false, true, true]);
        let verdict = case.is_complained_of(false_gaps);
        assert_eq!(verdict.false_gaps, false_gaps);
        assert_eq!(verdict.forgiven + verdict.lost, 0, "it begins at 0");
    }
}

/// What another channel lost is no reason.
#[test]
fn each_channel_is_judged_by_itself() {
    let mut case = Case::centrifuge();
    case.store(ME);
    case.publication(ME, 1);
    for _ in 0..=RETENTION.per_channel {
        case.store(NEWS);
    }
    case.connects([1, 0, 0].map(Some), [true, true, false]);
    case.is_complained_of(0);
    let mut case = Case::centrifuge();
    case.store(ME);
    case.publication(ME, 1);
    case.store(ALL);
    case.publication(ALL, 2);
    for _ in 0..=RETENTION.per_channel {
        case.store(NEWS);
    }
    // The first that is kept after 2 may be gone, but not for this channel, which has its last.
    case.times.truncate(3);
    case.connects([1, 2, 0].map(Some), [true, false, false]);
    let gone = case.judged();
    assert_eq!(gone.unrecovered, 2);
}

#[test]
fn a_recovered_channel_has_the_offset_of_the_client() {
    let mut case = Case::centrifuge();
    case.store(ME);
    case.publication(ME, 1);
    case.store(OTHER);
    case.hear(What::Connected { asked: case.now });
    case.subscribed_at(0, Some(1), (2, true));
    case.is_complained_of(1);
    // A client that sends another offset than it has breaks the rule too.
    let mut case = Case::centrifuge();
    case.store(ME);
    case.publication(ME, 1);
    case.hear(What::Connected { asked: case.now });
    case.subscribes(0, Some(0), true);
    assert!(!case.judged().complaints.is_empty());
}

#[test]
fn what_was_sent_after_the_answer_is_owed() {
    let mut case = Case::centrifuge();
    case.hear(What::Connected { asked: case.now });
    case.subscribed_at(0, Some(0), (1, false));
    case.now += Duration::from_secs(1);
    case.store(ME);
    assert_eq!(case.judged().lost, 1);
}

#[test]
fn a_topic_comes_only_while_it_is_subscribed() {
    let left = What::Unsubscribed { channel: TOPIC };
    for leaves in [
        left,
        What::Connected {
            asked: Duration::ZERO,
        },
    ] {
        let mut case = Case::centrifuge();
        case.hear(leaves);
        case.store(NEWS);
        case.is_complained_of(0);
        case.publication(NEWS, 1);
        case.is_complained_of(1);
    }
    // A client that comes back to it recovers it; one that had left it begins anew.
    for (since, lost) in [(Some(1), 1), (None, 0)] {
        let mut case = Case::centrifuge();
        case.store(NEWS);
        case.publication(NEWS, 1);
        case.hear(match since {
            Some(_) => What::Connected { asked: case.now },
            None => left,
        });
        case.store(NEWS);
        case.subscribes(TOPIC, since, since.is_some());
        assert_eq!(case.is_complained_of(lost).lost, lost);
    }
}

#[test]
fn too_large_stands_for_one_message_that_is() {
    for (large, complaints) in [(true, 0), (false, 1)] {
        let mut case = Case::centrifuge();
        let seq = case.store_one(NEWS, large);
        case.hear(What::Publication {
            channel: TOPIC,
            seq,
            id: None,
        });
        let verdict = case.judged();
        assert_eq!(verdict.false_gaps, complaints);
        assert_eq!(verdict.too_large, 1);
    }
    let mut case = Case::centrifuge();
    case.store_one(NEWS, true);
    case.publication(NEWS, 1);
    case.is_complained_of(1);
}

#[test]
fn nothing_of_others() {
    let mut case = Case::centrifuge();
    let seq = case.store(OTHER);
    let id = Some(Case::id(OTHER, seq));
    case.hear(What::Publication {
        channel: 0,
        seq,
        id,
    });
    case.is_complained_of(1);
}

/// Three are read, and one is kept. The stream is shorter than what the client saw, or
/// beyond it.
#[test]
fn a_stream_that_was_set_back_shows_where_it_is_shorter() {
    for (stored, recovered, complaints) in [(1, false, 0), (1, true, 1), (2, true, 0)] {
        let mut case = Case::centrifuge();
        for seq in 1..=3 {
            case.store(ME);
            case.publication(ME, seq);
        }
        case.sets_back(1);
        for number in 4..4 + stored {
            case.stores_anew(ME, number);
        }
        case.now += Duration::from_secs(1);
        case.connects([3, 0, 0].map(Some), [recovered, true, true]);
        // 4, 5 and more in the place of 2 and 3.
        let next = case.stores_anew(ME, 9);
        if next > 3 || !recovered {
            case.publication_of(ME, next, 9);
        }
        let verdict = case.judged();
        assert_eq!(verdict.false_completes, complaints, "{verdict:?}");
        assert_eq!(verdict.told_of_set_back, usize::from(!recovered));
        assert_eq!(verdict.complaints.len(), complaints, "{verdict:?}");
    }
}

/// A channel of which the client read nothing that is lost is owed as always.
#[test]
fn a_channel_that_lost_nothing_is_owed_after_a_set_back() {
    for reads in [true, false] {
        let mut case = Case::centrifuge();
        case.store(NEWS);
        case.publication(NEWS, 1);
        case.store(ME);
        case.publication(ME, 2);
        case.sets_back(1);
        case.stores_anew(NEWS, 3);
        case.stores_anew(NEWS, 4);
        case.now += Duration::from_secs(1);
        case.connects([2, 0, 1].map(Some), ALL_RECOVERED);
        if reads {
            case.publication_of(NEWS, 2, 3);
        }
        case.publication_of(NEWS, 3, 4);
        let verdict = case.is_complained_of(usize::from(!reads));
        assert_eq!(verdict.lost, usize::from(!reads));
    }
}

#[test]
fn somebody_has_to_close_it() {
    let mut case = Case::centrifuge();
    case.store(ME);
    case.store(ME);
    case.publication(ME, 1);
    case.publication(ME, 2);
    case.sets_back(1);
    case.stores_anew(ME, 3);
    case.stores_anew(NEWS, 4);
    case.publication_of(NEWS, 3, 4);
    case.is_complained_of(1);
}
