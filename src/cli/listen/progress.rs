//! How far in a user's stream we are: what to send as `since` next time.

use super::frame::{Following, Frame, Welcome};
use crate::{
    channel::{Channel, Topic},
    position::{Begun, Seen, Since, Tracker},
};

/// The position to keep, by the rules for any client.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// What was sent as `since`, until a gateway has answered it.
    sent: Option<String>,
    tracker: Tracker,
}

impl Progress {
    /// Starts where the user says.
    pub(super) fn new(since: Option<String>) -> Self {
        let position = since.as_deref().map(Since::parse);
        let tracker = match position {
            Some(Ok(Since::Position(position))) => Tracker::new(position),
            _ => Tracker::default(),
        };
        Self {
            sent: since,
            tracker,
        }
    }

    /// A frame comes; `None` if it has no position in a stream.
    pub(super) fn take_in(&mut self, frame: &Frame<'_>) -> Option<Seen> {
        if let Some(welcome) = &frame.welcome {
            self.welcomed(welcome);
        }
        if let Some(Following {
            topics,
            seq: Some(seq),
            at: Some(at),
        }) = &frame.following
        {
            self.tracker.following(parsed(topics), *seq, *at);
        }
        for proof in [&frame.ping, &frame.live].into_iter().flatten() {
            if let (Some(seq), Some(at)) = (proof.seq, proof.at) {
                self.tracker.proof(seq, at);
            }
        }
        let gap = frame.gap.as_ref();
        let (seq, prev, at, broadcast) = match (&frame.event, gap) {
            (Some(_), _) => (frame.seq, frame.prev, frame.at, frame.broadcast),
            (None, Some(gap)) => (gap.seq, gap.prev, gap.at, gap.broadcast),
            (None, None) => return None,
        };
        let channel = match (&frame.topic, broadcast) {
            (Some(topic), _) => Channel::Topic(Topic::parse(topic).ok()?),
            (None, true) => Channel::Broadcast,
            (None, false) => Channel::User,
        };
        Some(self.tracker.event(channel, seq?, prev?, at?))
    }

    fn welcomed(&mut self, welcome: &Welcome<'_>) {
        let begun = match welcome.resume.as_deref() {
            Some("complete") => Begun::Complete,
            Some("gap") => Begun::Gap,
            _ => Begun::Anew,
        };
        let epoch = welcome.epoch.as_deref().map(Into::into);
        let (seq, at) = (welcome.seq.unwrap_or(0), welcome.at.unwrap_or(0));
        let topics = welcome.topics.as_deref().unwrap_or_default();
        self.tracker.welcome(epoch, seq, at, begun, parsed(topics));
        self.sent = None;
    }

    /// The position, where there is one.
    pub(super) fn since(&self) -> Option<String> {
        let position = self.tracker.position().map(ToString::to_string);
        self.sent.clone().or(position)
    }
}

/// The topics that are some.
fn parsed(topics: &[String]) -> impl Iterator<Item = Topic> {
    topics.iter().filter_map(|topic| Topic::parse(topic).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_in(progress: &mut Progress, text: &str) -> Option<Seen> {
        progress.take_in(&Frame::read(text))
    }

    fn welcome(epoch: &str, seq: u64, resume: &str) -> String {
        format!(
            r#"{{"welcome":{{"session":"s","user":"u","gateway":"g","ping":25,
                "epoch":"{epoch}","seq":{seq},"at":{seq},"resume":"{resume}"}}}}"#
        )
    }

    #[test]
    fn what_was_sent_is_kept_until_it_is_answered() {
        let mut progress = Progress::new(Some("0".to_owned()));
        assert_eq!(progress.since().as_deref(), Some("0"));
        take_in(&mut progress, &welcome("k3f9", 120, "complete"));
        assert_eq!(progress.since().as_deref(), Some("k3f9.0.120.120"));
        let event = r#"{"event":"e","seq":5,"prev":0,"at":4,"data":1}"#;
        assert_eq!(take_in(&mut progress, event), Some(Seen::New));
        assert_eq!(take_in(&mut progress, event), Some(Seen::Already));
        assert_eq!(progress.since().as_deref(), Some("k3f9.0.120.120.u5"));
        take_in(&mut progress, r#"{"live":{"seq":120,"at":120}}"#);
        assert_eq!(progress.since().as_deref(), Some("k3f9.120.120.120"));
        let gap = r#"{"gap":{"reason":"too_large","seq":130,"prev":125,"at":9,"broadcast":true}}"#;
        assert_eq!(take_in(&mut progress, gap), Some(Seen::AfterGap));
        assert_eq!(progress.since().as_deref(), Some("k3f9.120.130.9.b130"));
    }

    #[test]
    fn a_topic_that_is_gone_loses_its_mark() {
        let mut progress = Progress::default();
        take_in(&mut progress, &welcome("k3f9", 120, "none"));
        let following = r#"{"following":{"topics":["news"],"seq":125,"at":125}}"#;
        take_in(&mut progress, following);
        assert_eq!(
            progress.since().as_deref(),
            Some("k3f9.120.125.125.tnews=125")
        );
        let event = r#"{"event":"e","seq":124,"prev":0,"at":4,"topic":"news","data":1}"#;
        assert_eq!(take_in(&mut progress, event), Some(Seen::Already));
        let following = r#"{"following":{"id":"1","topics":[],"seq":126,"at":126}}"#;
        take_in(&mut progress, following);
        assert_eq!(progress.since().as_deref(), Some("k3f9.120.126.126"));
    }

    #[test]
    fn live_mode_has_no_positions() {
        let mut progress = Progress::default();
        take_in(
            &mut progress,
            r#"{"welcome":{"session":"s","user":"u","gateway":"g","ping":25,"resume":"none"}}"#,
        );
        assert_eq!(take_in(&mut progress, r#"{"event":"e","data":1}"#), None);
        assert_eq!(
            take_in(&mut progress, r#"{"gap":{"reason":"bus_lost"}}"#),
            None
        );
        assert_eq!(progress.since(), None);
    }
}
