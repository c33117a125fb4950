use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Included},
};

use proptest::prelude::*;

use super::*;
use crate::bus::interest::example_message;

const LIMIT: u64 = 4;

/// A message of a subject, as the stream's reply brings it.
fn message(subject: &str, more: &str) -> ServerMessage {
    let headers = format!("NATS/1.0\r\nNats-Subject: {subject}\r\n{more}\r\n");
    example_message("inbox", "", headers.as_bytes(), b"0123456789")
}

/// A stream that keeps so many messages of a subject, and all that it ever stored.
#[derive(Debug, Default)]
struct Kept {
    kept: BTreeMap<u64, usize>,
    all: Vec<(u64, usize)>,
    first: u64,
    last: u64,
}

impl Kept {
    fn store(&mut self, subject: usize) {
        self.last += 1;
        self.all.push((self.last, subject));
        self.kept.insert(self.last, subject);
        let of = self.kept.iter().filter(|(_, of)| **of == subject);
        let of: Vec<_> = of.map(|(seq, _)| *seq).collect();
        if of.len() as u64 > LIMIT {
            self.remove(of[0]);
        }
    }

    fn remove(&mut self, seq: u64) {
        self.kept.remove(&seq);
        self.first = self.kept.keys().next().copied().unwrap_or(self.last + 1);
    }

    fn leader(&self) -> LeaderState {
        let first = self
            .first
            .max(self.kept.keys().next().copied().unwrap_or(1));
        LeaderState::example(first, (self.last, 0), LIMIT)
    }

    /// What a scan sees after one sequence, up to another one; `during` happens on its way.
    fn scan(&mut self, after: u64, up_to: u64, during: &[usize]) -> Option<Index> {
        let mut part = Index::new(&self.leader(), after);
        let middle = after + (up_to - after) / 2;
        for (from, to) in [(after, middle), (middle, up_to)] {
            for (seq, subject) in self.kept.range((Excluded(from), Included(to))) {
                part.see(*seq, &message(&subject.to_string(), ""));
            }
            part.advance(to);
            if to == middle {
                during.iter().for_each(|subject| self.store(*subject));
            }
        }
        let now = self.leader();
        part.end(&now).then_some(part)
    }
}

#[derive(Debug, Clone)]
enum Step {
    Store(usize),
    /// The oldest messages of the stream are removed.
    Expire(u64),
    /// Somebody comes who has everything up to so many before the end; messages are stored
    /// while a scan is under way.
    Come(u64, Vec<usize>),
    Forget(u64),
    /// Half of the memory is needed elsewhere.
    LetGo,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..4usize).prop_map(Step::Store),
        1 => (1..4u64).prop_map(Step::Expire),
        4 => (0..30u64, proptest::collection::vec(0..4usize, 0..4))
            .prop_map(|(before, during)| Step::Come(before, during)),
        1 => (0..20u64).prop_map(Step::Forget),
        1 => Just(Step::LetGo),
    ];
    proptest::collection::vec(step, 1..100)
}

/// As `scan.rs` extends the index.
fn extend(
    index: &mut Index,
    stream: &mut Kept,
    oldest: u64,
    leader: &LeaderState,
    during: &[usize],
) {
    let covered = index.covers(leader).filter(|(_, up_to)| *up_to >= oldest);
    let Some((after, up_to)) = covered else {
        if let Some(part) = stream.scan(oldest, leader.last, during) {
            *index = part;
        }
        return;
    };
    if oldest < after
        && let Some(mut earlier) = stream.scan(oldest, after, during)
    {
        earlier.join(std::mem::take(index));
        *index = earlier;
    }
    if up_to < leader.last
        && let Some(later) = stream.scan(up_to, leader.last, during)
    {
        index.join(later);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// What the index says is all that there ever was of a subject is all, whatever limits
    /// removed before, during and after the scans.
    #[test]
    fn nothing_is_missing_in_what_the_index_shows(steps in steps()) {
        let (mut stream, mut index) = (Kept::default(), Index::default());
        for step in steps {
            match step {
                Step::Store(subject) => stream.store(subject),
                Step::Expire(count) => {
                    for _ in 0..count {
                        if let Some(oldest) = stream.kept.keys().next().copied() {
                            stream.remove(oldest);
                        }
                    }
                }
                Step::LetGo => index.let_go(index.bytes() / 2),
                Step::Forget(before) => index.forget(stream.last.saturating_sub(before)),
                Step::Come(before, during) => {
                    let leader = stream.leader();
                    let oldest = leader.last.saturating_sub(before);
                    extend(&mut index, &mut stream, oldest, &leader, &during);
                    let Some((_, up_to)) = index.covers(&leader) else { continue };
                    for subject in 0..4 {
                        let Some(seen) = index.after(&subject.to_string(), (oldest, Proof::default()), &leader) else {
                            continue;
                        };
                        let seen: Vec<_> = seen.iter().map(|seen| seen.seq).collect();
                        let all = stream.all.iter().filter(|(seq, of)| {
                            *of == subject && *seq > oldest && *seq <= up_to
                        });
                        let all: Vec<_> = all.map(|(seq, _)| *seq).collect();
                        prop_assert_eq!(&seen, &all, "of {} after {}", subject, oldest);
                    }
                }
            }
        }
    }
}

fn index(after: u64, messages: &[(u64, &str)], up_to: u64, last: u64) -> Index {
    let mut index = Index::new(&LeaderState::example(1, (last, 0), LIMIT), after);
    for (seq, subject) in messages {
        let more = match *subject {
            "fades" => "Nats-TTL: 5\r\n",
            _ => "",
        };
        index.see(*seq, &message(subject, more));
    }
    index.advance(up_to);
    assert!(index.end(&LeaderState::example(1, (last, 0), LIMIT)));
    index
}

fn seqs(index: &Index, subject: &str, after: u64, leader: &LeaderState) -> Option<Vec<u64>> {
    let seen = index.after(subject, (after, Proof::default()), leader)?;
    Some(seen.iter().map(|seen| seen.seq).collect())
}

#[test]
fn parts_join_where_they_meet_and_replace_each_other_elsewhere() {
    let leader = LeaderState::example(1, (20, 0), LIMIT);
    let mut joined = index(4, &[(5, "a"), (8, "b")], 10, 10);
    joined.join(index(10, &[(12, "a"), (20, "c")], 20, 20));
    assert_eq!(joined.covers(&leader), Some((4, 20)));
    assert_eq!(seqs(&joined, "a", 4, &leader), Some(vec![5, 12]));
    assert_eq!(seqs(&joined, "a", 5, &leader), Some(vec![12]));
    assert_eq!(seqs(&joined, "nobody", 9, &leader), Some(vec![]));
    assert_eq!(seqs(&joined, "a", 3, &leader), None, "not covered");
    let all = index(4, &[(5, "a"), (8, "b"), (12, "a"), (20, "c")], 20, 20);
    assert_eq!(joined.bytes(), all.bytes());

    joined.join(index(15, &[(20, "c")], 20, 20));
    assert_eq!(joined.covers(&leader), Some((15, 20)));
}

#[test]
fn what_is_forgotten_gives_its_memory_back() {
    let leader = LeaderState::example(1, (20, 0), LIMIT);
    let mut all = index(4, &[(5, "a"), (8, "b"), (12, "a"), (20, "c")], 20, 20);
    all.forget(8);
    assert_eq!(
        all.bytes(),
        index(8, &[(12, "a"), (20, "c")], 20, 20).bytes()
    );
    assert_eq!(seqs(&all, "a", 7, &leader), None);
    assert_eq!(seqs(&all, "a", 8, &leader), Some(vec![12]));
    all.forget(20);
    assert_eq!((all.bytes(), all.covers(&leader)), (0, None));
}

#[test]
fn another_stream_and_one_that_lost_its_end_are_not_shown() {
    let seen = index(4, &[(5, "a")], 10, 10);
    let mut set_back = LeaderState::example(1, (10, 0), LIMIT);
    set_back.replacements = 1;
    assert_eq!(seen.covers(&set_back), None);
    let mut short = Index::new(&LeaderState::example(1, (10, 0), LIMIT), 4);
    short.advance(10);
    assert!(!short.end(&LeaderState::example(1, (9, 0), LIMIT)));
}

#[test]
fn it_knows_when_a_message_was_stored_as_long_as_the_stream_is_the_same() {
    let mut leader = LeaderState::example(1, (20, 0), LIMIT);
    let mut seen = Index::new(&leader, 4);
    let stored = message("a", "Nats-Time-Stamp: 1970-01-01T00:00:00.07Z\r\n");
    seen.see(7, &stored);
    seen.advance(10);
    seen.let_go(0);
    assert_eq!(seen.stored_at("a", 7, &leader), Some(70));
    assert_eq!(seen.stored_at("a", 8, &leader), None);
    assert_eq!(seen.stored_at("b", 7, &leader), None);
    // The message that would have shown that it was set back is gone.
    leader.unsure = 1;
    assert_eq!(seen.stored_at("a", 7, &leader), None);
    assert_eq!(seen.covers(&leader), None);
}

#[test]
fn a_message_is_handed_on_as_it_was_published() {
    let mut seen = Index::new(&LeaderState::example(1, (20, 0), LIMIT), 4);
    let headers = "NATS/1.0\r\nEvent: paid\r\nNats-Stream: forged\r\nNats-Stream: USHER\r\n\
        Nats-Subject: a\r\nNats-Sequence: 7\r\n\r\n";
    let message = example_message("inbox", "", headers.as_bytes(), b"body");
    seen.see(7, &message);
    let held = seen.seen[0].found(&Channel::User).expect("it is held");
    assert_eq!((held.seq, held.message.event.as_str()), (7, "paid"));
    assert_eq!(&held.message.payload[..], b"body");
    seen.let_go(0);
    assert!(seen.seen[0].found(&Channel::User).is_none());
}

#[test]
fn what_is_gone_or_goes_by_itself_is_not_shown() {
    let leader = LeaderState::example(1, (20, 0), LIMIT);
    let all = index(4, &[(5, "a"), (8, "fades"), (12, "a")], 20, 20);
    assert_eq!(seqs(&all, "fades", 4, &leader), None);
    assert_eq!(seqs(&all, "fades", 8, &leader), Some(vec![]));
    let purged = LeaderState::example(12, (20, 0), LIMIT);
    assert_eq!(seqs(&all, "a", 5, &purged), None);
    assert_eq!(seqs(&all, "a", 11, &purged), Some(vec![12]));
}

/// Which messages it holds itself.
fn held(index: &Index) -> Vec<u64> {
    let held = index.seen.iter().filter(|seen| seen.is_held());
    held.map(|seen| seen.seq).collect()
}

#[test]
fn the_newest_messages_are_held_longest() {
    let leader = LeaderState::example(1, (20, 0), LIMIT);
    let mut joined = index(4, &[(5, "a"), (8, "b")], 10, 10);
    joined.join(index(10, &[(12, "a"), (20, "c")], 20, 20));
    assert_eq!(held(&joined), [5, 8, 12, 20]);
    joined.let_go(joined.bytes() - 1);
    assert_eq!(held(&joined), [8, 12, 20]);
    assert_eq!(
        seqs(&joined, "a", 4, &leader),
        Some(vec![5, 12]),
        "all are known"
    );
    joined.forget(10);
    joined.let_go(joined.bytes() - 1);
    assert_eq!(held(&joined), [20]);
    joined.let_go(0);
    assert!(held(&joined).is_empty());
    let bare = joined.bytes();
    joined.let_go(0);
    assert_eq!(joined.bytes(), bare);
    joined.forget(20);
    assert_eq!(joined.bytes(), 0);
}
