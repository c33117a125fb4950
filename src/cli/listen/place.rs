//! How far in a user's stream we are: what to send as `since` next time.

/// The position to keep, by the rule for any client.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// What was sent as `since`.
    sent: Option<String>,
    /// Of this connection's stream; none in live mode.
    epoch: Option<String>,
    welcomed_at: Option<u64>,
    /// The largest of what events, `live` and `ping` said.
    reached: Option<u64>,
    /// The sequence of the last event of this stream: to the user, to all.
    last: [u64; 2],
}

/// What an event is to somebody who has seen those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Not yet.
    New,
    /// Not yet; and one before it is missing.
    AfterGap,
    /// It was there before.
    Already,
}

impl Place {
    /// Starts where the user says.
    pub(super) fn new(since: Option<String>) -> Self {
        Self {
            sent: since,
            ..Self::default()
        }
    }

    /// A new connection was welcomed, after [`Place::since`] was sent.
    pub(super) fn welcomed(&mut self, epoch: Option<String>, seq: Option<u64>) {
        self.sent = self.since();
        // Another stream, or one that has lost its end, counts anew.
        if self.epoch != epoch || self.last.iter().any(|last| Some(*last) > seq) {
            self.last = [0; 2];
        }
        self.epoch = epoch;
        self.welcomed_at = seq;
        // Sequences of another stream say nothing of this one.
        self.reached = None;
    }

    /// An event of the stream comes.
    pub(super) fn event(&mut self, seq: u64, prev: u64, broadcast: bool) -> Seen {
        let last = &mut self.last[usize::from(broadcast)];
        if seq <= *last {
            return Seen::Already;
        }
        let gap = prev > *last && Some(prev) > self.welcomed_at;
        *last = seq;
        match gap {
            true => Seen::AfterGap,
            false => Seen::New,
        }
    }

    /// An event, a `live` or a `ping` says how far this connection is.
    pub(super) fn reached(&mut self, seq: Option<u64>) {
        self.reached = self.reached.max(seq);
    }

    /// The position, where there is one.
    pub(super) fn since(&self) -> Option<String> {
        let at = |seq: u64| Some(format!("{}.{seq}", self.epoch.as_deref()?));
        (self.reached.and_then(at))
            .or_else(|| self.sent.clone())
            .or_else(|| self.welcomed_at.and_then(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn welcomed(place: &mut Place, epoch: &str, seq: u64) {
        place.welcomed(Some(epoch.to_owned()), Some(seq));
    }

    #[test]
    fn the_largest_of_what_was_said_is_kept() {
        let mut place = Place::default();
        assert_eq!(place.since(), None);
        welcomed(&mut place, "k3f9", 120);
        assert_eq!(
            place.since().as_deref(),
            Some("k3f9.120"),
            "welcome's, with none sent"
        );
        for (seq, kept) in [
            (Some(118), "k3f9.118"),
            (Some(131), "k3f9.131"),
            (Some(7), "k3f9.131"),
            (None, "k3f9.131"),
        ] {
            place.reached(seq);
            assert_eq!(place.since().as_deref(), Some(kept));
        }
    }

    #[test]
    fn before_any_event_it_is_what_was_sent() {
        let mut place = Place::new(Some("0".to_owned()));
        assert_eq!(place.since().as_deref(), Some("0"));
        welcomed(&mut place, "k3f9", 120);
        assert_eq!(
            place.since().as_deref(),
            Some("0"),
            "the replay may be cut off"
        );
        place.reached(Some(5));
        welcomed(&mut place, "k3f9", 130);
        assert_eq!(place.since().as_deref(), Some("k3f9.5"));
    }

    #[test]
    fn another_stream_counts_anew() {
        let mut place = Place::default();
        welcomed(&mut place, "old", 900);
        place.reached(Some(950));
        welcomed(&mut place, "new", 3);
        assert_eq!(place.since().as_deref(), Some("old.950"), "as it was sent");
        place.reached(Some(4));
        assert_eq!(place.since().as_deref(), Some("new.4"));
    }

    #[test]
    fn an_event_shows_whether_one_is_missing_or_came_before() {
        let mut place = Place::default();
        welcomed(&mut place, "k3f9", 120);
        for (seq, prev, broadcast, seen) in [
            (121, 90, false, Seen::New),
            (121, 90, false, Seen::Already),
            (122, 100, true, Seen::New),
            (125, 121, false, Seen::New),
            (127, 126, false, Seen::AfterGap),
            (128, 122, true, Seen::New),
            (123, 0, true, Seen::Already),
        ] {
            assert_eq!(place.event(seq, prev, broadcast), seen, "{seq}");
        }
        welcomed(&mut place, "k3f9", 130);
        assert_eq!(place.event(127, 0, false), Seen::Already, "sent again");
        assert_eq!(place.event(129, 0, false), Seen::New);
        welcomed(&mut place, "new", 2);
        assert_eq!(place.event(1, 0, false), Seen::New);
        welcomed(&mut place, "new", 0);
        assert_eq!(place.event(1, 0, false), Seen::New, "it has lost its end");
    }

    #[test]
    fn live_mode_has_no_positions() {
        let mut place = Place::default();
        place.welcomed(None, None);
        place.reached(None);
        assert_eq!(place.since(), None);
    }
}
