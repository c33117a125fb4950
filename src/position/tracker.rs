//! Keeps a position by the five rules, which are at the top of `position.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::Position;
use crate::channel::{Channel, Topic};

/// What `welcome` says became of a client's position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// It sent none.
    Anew,
    /// Nothing after it was lost.
    Complete,
    /// Something may have been lost.
    Gap,
}

/// What an event is to a client that has seen those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It is new.
    New,
    /// It is new, and one before it is missing.
    AfterGap,
    /// It was there before.
    Already,
}

/// What a frame says of its client's position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Rule 2.
    Event {
        /// Its channel.
        channel: Channel,
        /// Its sequence.
        seq: u64,
        /// The message of its channel before it.
        prev: u64,
        /// When the stream stored it.
        at: u64,
    },
    /// Rule 3.
    Following {
        /// All that the session follows now.
        topics: Vec<Topic>,
        /// New topics are owed from here on.
        seq: u64,
        /// When the stream stored that message.
        at: u64,
    },
    /// Rule 4.
    Proof {
        /// Everything up to here was sent.
        seq: u64,
        /// When the stream stored that message.
        at: u64,
    },
}

/// Keeps a client's position by the five rules of its module.
#[derive(Debug, Clone, Default)]
pub struct Tracker {
    position: Option<Position>,
    /// What the gateway last said that the session follows.
    topics: BTreeSet<Topic>,
}

impl Tracker {
    /// Goes on from a position.
    pub fn new(position: Position) -> Self {
        Self {
            position: Some(position),
            topics: BTreeSet::new(),
        }
    }

    /// The position; `None` before the first `welcome` with an epoch.
    pub fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// A frame with a sequence comes, `welcome` aside.
    pub fn step(&mut self, step: Step) {
        match step {
            Step::Event {
                channel,
                seq,
                prev,
                at,
            } => {
                self.event(channel, seq, prev, at);
            }
            Step::Following { topics, seq, at } => self.following(topics, seq, at),
            Step::Proof { seq, at } => self.proof(seq, at),
        }
    }

    /// Rule 1: `welcome`, with the topics that it names. Without an epoch the gateway keeps
    /// nothing.
    pub fn welcome(
        &mut self,
        epoch: Option<Arc<str>>,
        seq: u64,
        at: u64,
        begun: Begun,
        topics: impl IntoIterator<Item = Topic>,
    ) {
        self.topics = topics.into_iter().collect();
        let Some(epoch) = epoch else {
            self.position = None;
            return;
        };
        if begun != Begun::Complete || self.position.is_none() {
            let proven = match begun {
                Begun::Anew => seq,
                Begun::Complete | Begun::Gap => 0,
            };
            self.position = Some(Position {
                epoch,
                proven,
                top: 0,
                at: 0,
                marks: BTreeMap::new(),
            });
        }
        self.saw(seq, at);
    }

    /// Rule 2: an event, or a `gap` with a sequence that stands for one.
    pub fn event(&mut self, channel: Channel, seq: u64, prev: u64, at: u64) -> Seen {
        self.saw(seq, at);
        let Some(position) = &mut self.position else {
            return Seen::New;
        };
        let had = position.of(&channel);
        if seq <= had {
            return Seen::Already;
        }
        position.marks.insert(channel, seq);
        match prev > had {
            true => Seen::AfterGap,
            false => Seen::New,
        }
    }

    /// Rule 3: `following`, with all that the session follows now. The messages of a new topic
    /// are owed from `seq` on.
    pub fn following(&mut self, topics: impl IntoIterator<Item = Topic>, seq: u64, at: u64) {
        self.saw(seq, at);
        let before = std::mem::replace(&mut self.topics, topics.into_iter().collect());
        let Some(position) = &mut self.position else {
            return;
        };
        for gone in before.difference(&self.topics) {
            position.marks.remove(&Channel::Topic(gone.clone()));
        }
        for new in self.topics.difference(&before) {
            let channel = Channel::Topic(new.clone());
            match seq > position.proven {
                true => position.marks.insert(channel, seq),
                false => position.marks.remove(&channel),
            };
        }
    }

    /// Rule 4: `live`, and `ping` with a sequence.
    pub fn proof(&mut self, seq: u64, at: u64) {
        self.saw(seq, at);
        if let Some(position) = &mut self.position {
            position.proven = position.proven.max(seq);
            let proven = position.proven;
            position.marks.retain(|_, mark| *mark > proven);
        }
    }

    /// Rule 5.
    fn saw(&mut self, seq: u64, at: u64) {
        if let Some(position) = &mut self.position
            && seq > position.top
        {
            (position.top, position.at) = (seq, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::{MAX_LENGTH, Since};

    fn topic(name: &str) -> Topic {
        Topic::parse(name).expect("a topic")
    }

    fn channel(name: &str) -> Channel {
        Channel::Topic(topic(name))
    }

    fn text(tracker: &Tracker) -> Option<String> {
        tracker.position().map(ToString::to_string)
    }

    #[test]
    fn a_long_position_leaves_marks_out() {
        let mut tracker = Tracker::default();
        tracker.welcome(Some("k".into()), 1, 5, Begun::Anew, []);
        for topic in 0..400 {
            let topic = channel(&format!("a-topic-with-a-long-name-{topic}"));
            tracker.event(topic, 100, 0, 6);
        }
        let text = tracker.position().expect("a position").to_string();
        assert!(text.len() <= MAX_LENGTH && text.len() > MAX_LENGTH - 60);
        assert!(Since::parse(&text).is_ok());
    }

    #[test]
    fn the_rules_of_the_contract() {
        let mut tracker = Tracker::default();
        tracker.welcome(Some("k3f9".into()), 120, 11, Begun::Anew, []);
        assert_eq!(text(&tracker).as_deref(), Some("k3f9.120.120.11"));
        assert_eq!(tracker.event(Channel::User, 121, 90, 12), Seen::New);
        assert_eq!(tracker.event(Channel::User, 121, 90, 12), Seen::Already);
        assert_eq!(tracker.event(Channel::Broadcast, 122, 100, 13), Seen::New);
        assert_eq!(tracker.event(Channel::User, 127, 126, 14), Seen::AfterGap);
        assert_eq!(text(&tracker).as_deref(), Some("k3f9.120.127.14.u127.b122"));
        tracker.proof(125, 13);
        assert_eq!(text(&tracker).as_deref(), Some("k3f9.125.127.14.u127"));
        tracker.welcome(Some("k3f9".into()), 130, 15, Begun::Complete, []);
        assert_eq!(text(&tracker).as_deref(), Some("k3f9.125.130.15.u127"));
        tracker.welcome(Some("k3f9".into()), 140, 16, Begun::Gap, []);
        assert_eq!(text(&tracker).as_deref(), Some("k3f9.0.140.16"));
        assert_eq!(tracker.event(Channel::User, 131, 0, 15), Seen::New);
        tracker.welcome(Some("n".into()), 0, 0, Begun::Gap, []);
        assert_eq!(text(&tracker).as_deref(), Some("n.0.0.0"));
        tracker.welcome(None, 0, 0, Begun::Gap, []);
        assert_eq!(text(&tracker), None);
    }

    /// What the topic had before it was followed is not owed; what it has after it was left
    /// leaves no mark that would hide messages when it is followed again.
    #[test]
    fn a_topic_has_a_mark_from_where_it_is_followed_until_it_is_left() {
        let mut tracker = Tracker::default();
        tracker.welcome(Some("k".into()), 120, 11, Begun::Anew, [topic("news")]);
        tracker.event(channel("news"), 121, 0, 12);
        tracker.following([topic("news"), topic("room.7")], 130, 13);
        assert_eq!(
            text(&tracker).as_deref(),
            Some("k.120.130.13.tnews=121.troom%2E7=130")
        );
        assert_eq!(tracker.event(channel("room.7"), 129, 0, 12), Seen::Already);
        assert_eq!(tracker.event(channel("room.7"), 131, 129, 14), Seen::New);
        // Rule 5 alone, where nothing has changed.
        tracker.following([topic("news"), topic("room.7")], 132, 15);
        assert_eq!(
            text(&tracker).as_deref(),
            Some("k.120.132.15.tnews=121.troom%2E7=131")
        );
        tracker.following([topic("room.7")], 132, 15);
        assert_eq!(
            text(&tracker).as_deref(),
            Some("k.120.132.15.troom%2E7=131")
        );
        tracker.proof(140, 16);
        tracker.following([topic("news"), topic("room.7")], 140, 16);
        assert_eq!(text(&tracker).as_deref(), Some("k.140.140.16"));
        // It came back without that topic: what it had of it is no longer owed.
        tracker.event(channel("news"), 141, 0, 17);
        tracker.welcome(
            Some("k".into()),
            150,
            18,
            Begun::Complete,
            [topic("room.7")],
        );
        tracker.following([topic("news"), topic("room.7")], 151, 19);
        assert_eq!(text(&tracker).as_deref(), Some("k.140.151.19.tnews=151"));
        // In live mode there is no position.
        tracker.welcome(None, 0, 0, Begun::Gap, []);
        tracker.following([topic("news")], 0, 0);
        assert_eq!(text(&tracker), None);
    }
}
