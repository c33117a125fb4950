//! A position, as a client sends it, and what a client makes of it by the five rules.
//!
//! The input's first line is the position. Each further line is a frame: a letter (`w` for
//! `welcome`, `e` for an event, `f` for `following`, `p` for a proof), and its words after a space
//! each. The topics of `following` stand after a comma each.

#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use usher::{
    channel::{Channel, Topic},
    position::{Begun, MAX_LENGTH, Position, Seen, Since, Tracker},
};

fuzz_target!(|input: &str| {
    let mut lines = input.split('\n');
    let since = Since::parse(lines.next().unwrap_or_default());
    let mut tracker = match since {
        Ok(Since::Position(position)) => {
            is_printed_as_it_is(&position);
            Tracker::new(position)
        }
        _ => Tracker::default(),
    };
    for line in lines {
        let before = tracker.clone();
        let mut words = line.split(' ');
        let letter = words.next().unwrap_or_default();
        let name = words.next().unwrap_or_default();
        let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        match letter {
            "w" => is_welcomed(&mut tracker, name, number(), number(), number()),
            "e" => reads(&mut tracker, channel(name), number(), number(), number()),
            "f" => follows(&mut tracker, name, number(), number()),
            "p" => is_proven(&mut tracker, number(), number()),
            _ => continue,
        }
        if let Some(position) = tracker.position() {
            is_printed_as_it_is(position);
            let kept = |before: &&Position| letter != "w" && before.epoch == position.epoch;
            if let Some(before) = before.position().filter(kept) {
                assert!(position.proven >= before.proven, "a proof is forgotten");
                assert!(position.top >= before.top, "the largest is forgotten");
                for channel in before.marks.keys() {
                    // Rule 3 has others.
                    if letter == "f" && matches!(channel, Channel::Topic(_)) {
                        continue;
                    }
                    let had = before.of(channel);
                    assert!(position.of(channel) >= had, "{channel:?} is forgotten");
                }
            }
        }
    }
});

/// What is printed can be sent, and says no more than the position.
fn is_printed_as_it_is(position: &Position) {
    let text = position.to_string();
    assert!(text.len() <= MAX_LENGTH, "{text}");
    let Ok(Since::Position(read)) = Since::parse(&text) else {
        panic!("no position: {text}");
    };
    assert_eq!(
        (&read.epoch, read.proven, read.top, read.at),
        (&position.epoch, position.proven, position.top, position.at),
    );
    for (channel, seq) in &read.marks {
        assert_eq!(position.of(channel), *seq, "{channel:?} in {text}");
    }
    // A short one is whole.
    let longest = |channel: &Channel| match channel {
        Channel::Topic(topic) => 3 * topic.as_str().len() + 24,
        Channel::User | Channel::Broadcast => 24,
    };
    if 128 + position.marks.keys().map(longest).sum::<usize>() <= MAX_LENGTH {
        for channel in position.marks.keys() {
            assert_eq!(read.of(channel), position.of(channel), "{channel:?}");
        }
    }
    assert_eq!(read.to_string(), text);
}

/// The name of an epoch is what a position can hold: the gateway makes no other.
fn is_welcomed(tracker: &mut Tracker, name: &str, seq: u64, at: u64, begun: u64) {
    let begun = match begun % 3 {
        0 => Begun::Anew,
        1 => Begun::Complete,
        _ => Begun::Gap,
    };
    let good = matches!(
        Since::parse(&format!("{name}.0.0.0")),
        Ok(Since::Position(_))
    );
    let before = tracker.position().cloned();
    tracker.welcome(good.then(|| name.into()), seq, at, begun, []);
    let Some(position) = tracker.position() else {
        return assert!(!good, "an epoch makes a position");
    };
    match (begun, before) {
        (Begun::Complete, Some(before)) => {
            assert_eq!(position.proven, before.proven);
            assert_eq!(position.marks, before.marks);
            assert_eq!(position.top, before.top.max(seq));
        }
        (begun, _) => {
            let proven = if begun == Begun::Anew { seq } else { 0 };
            assert_eq!((position.proven, position.top), (proven, seq));
            assert!(position.marks.is_empty());
        }
    }
}

fn reads(tracker: &mut Tracker, channel: Channel, seq: u64, prev: u64, at: u64) {
    let had = tracker.position().map(|position| position.of(&channel));
    let seen = tracker.event(channel.clone(), seq, prev, at);
    let expected = match had {
        Some(had) if seq <= had => Seen::Already,
        Some(had) if prev > had => Seen::AfterGap,
        _ => Seen::New,
    };
    assert_eq!(seen, expected);
    if let Some(position) = tracker.position() {
        assert_eq!(position.of(&channel), had.unwrap_or(0).max(seq));
        assert!(position.top >= seq);
    }
}

/// A topic that is new begins at `seq`; one that is gone, or was there, owes what it owed.
fn follows(tracker: &mut Tracker, names: &str, seq: u64, at: u64) {
    let topics: BTreeSet<_> = names.split(',').map(channel).collect();
    let topics = topics.into_iter().filter_map(|channel| match channel {
        Channel::Topic(topic) => Some(topic),
        Channel::User | Channel::Broadcast => None,
    });
    let topics: Vec<_> = topics.collect();
    tracker.following(topics.clone(), seq, at);
    let position = tracker.position().cloned();
    // The same again changes nothing.
    tracker.following(topics.clone(), seq, at);
    assert_eq!(tracker.position().cloned(), position);
    let mut fresh = tracker.clone();
    fresh.following([], seq, at);
    if let Some(position) = fresh.position() {
        assert!(position.top >= seq);
        for topic in topics.iter().cloned().map(Channel::Topic) {
            assert_eq!(position.of(&topic), position.proven, "{topic:?} is gone");
        }
    }
    fresh.following(topics.clone(), seq, at);
    if let Some(position) = fresh.position() {
        for topic in topics.into_iter().map(Channel::Topic) {
            assert_eq!(
                position.of(&topic),
                seq.max(position.proven),
                "{topic:?} is new"
            );
        }
    }
}

fn is_proven(tracker: &mut Tracker, seq: u64, at: u64) {
    tracker.proof(seq, at);
    if let Some(position) = tracker.position() {
        assert!(position.proven >= seq && position.top >= seq);
        assert!(position.marks.values().all(|mark| *mark > position.proven));
    }
}

/// Any topic that is one: 1–128 bytes.
fn channel(name: &str) -> Channel {
    match name {
        "u" | "" => Channel::User,
        "b" => Channel::Broadcast,
        name => {
            let topic: String = name.chars().take(32).filter(|c| !c.is_control()).collect();
            Topic::parse(&topic).map_or(Channel::User, Channel::Topic)
        }
    }
}
