//! The rule of docs/delivery.md by which a client sees holes, for each channel of a session.

use crate::cli::listen::frame::Frame;

/// The last sequence of each channel; without durable mode frames have none.
pub(super) struct Marks {
    /// `welcome.seq`: what is not above it is not owed.
    proven: u64,
    of_user: u64,
    of_broadcast: u64,
    of_topics: Vec<(Box<str>, u64)>,
}

impl Marks {
    pub(super) fn beginning_at(proven: u64) -> Self {
        Self {
            proven,
            of_user: 0,
            of_broadcast: 0,
            of_topics: Vec::new(),
        }
    }

    /// Whether the frame tells of messages that have not come: a `gap`, or an event whose
    /// `prev` has not come.
    pub(super) fn shows_a_hole(&mut self, frame: &Frame<'_>) -> bool {
        let (seq, prev, broadcast, topic) = match &frame.gap {
            Some(gap) => (gap.seq, gap.prev, gap.broadcast, gap.topic.as_deref()),
            None if frame.event.is_some() => {
                let topic = frame.topic.as_deref();
                (frame.seq, frame.prev, frame.broadcast, topic)
            }
            None => return false,
        };
        let hole = frame.gap.is_some();
        let Some(seq) = seq else { return hole };
        let proven = self.proven;
        let mark = match (broadcast, topic) {
            (true, _) => &mut self.of_broadcast,
            (false, Some(topic)) => self.of_topic(topic),
            (false, None) => &mut self.of_user,
        };
        let before = proven.max(*mark);
        if seq > before {
            *mark = seq;
        }
        hole || (seq > before && prev.unwrap_or_default() > before)
    }

    fn of_topic(&mut self, topic: &str) -> &mut u64 {
        let known = self.of_topics.iter().position(|(name, _)| **name == *topic);
        let place = known.unwrap_or_else(|| {
            self.of_topics.push((topic.into(), 0));
            self.of_topics.len() - 1
        });
        &mut self.of_topics[place].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channel_has_a_chain_of_its_own() {
        let mut marks = Marks::beginning_at(100);
        for (frame, hole) in [
            (r#"{"event":"e","seq":101,"prev":90,"data":1}"#, false),
            (
                r#"{"event":"e","seq":102,"prev":100,"broadcast":true,"data":1}"#,
                false,
            ),
            (
                r#"{"event":"e","seq":104,"prev":103,"topic":"t","data":1}"#,
                true,
            ),
            (
                r#"{"event":"e","seq":105,"prev":104,"topic":"t","data":1}"#,
                false,
            ),
            (r#"{"event":"e","seq":107,"prev":101,"data":1}"#, false),
            // It came again.
            (r#"{"event":"e","seq":105,"prev":103,"data":1}"#, false),
            (r#"{"event":"e","seq":109,"prev":108,"data":1}"#, true),
            (
                r#"{"gap":{"reason":"too_large","seq":110,"prev":109}}"#,
                true,
            ),
            (r#"{"event":"e","seq":111,"prev":110,"data":1}"#, false),
            (r#"{"gap":{"reason":"bus_lost"}}"#, true),
            (r#"{"ping":{"seq":120,"at":1}}"#, false),
            (r#"{"event":"e","data":1}"#, false),
        ] {
            assert_eq!(marks.shows_a_hole(&Frame::read(frame)), hole, "{frame}");
        }
    }
}
