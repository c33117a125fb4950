//! When a session ends, and when its client is told so.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::jitter;

/// How long before its end a client is told of it, at least.
pub(super) const SHORTEST_NOTICE: Duration = Duration::from_secs(60);
/// How long before its end a client is told of it, at most: it is random.
pub(super) const LONGEST_NOTICE: Duration = Duration::from_secs(90);

/// The ends of a session. Most sessions have none, and pay a pointer for it.
#[derive(Debug, Default)]
pub(super) struct Ends(Option<Box<Moments>>);

#[derive(Debug)]
struct Moments {
    /// As the ticket or token says.
    granted: Option<Instant>,
    /// By `session.max_lifetime`.
    lifetime: Option<Instant>,
    /// When the client is told of the earlier one; `None` once it was.
    notice: Option<Instant>,
}

impl Ends {
    pub(super) fn new(granted: Option<Instant>, lifetime: Option<Instant>, now: Instant) -> Self {
        let mut ends = Self(None);
        ends.set(granted, lifetime, now);
        ends
    }

    /// The moment at which the session ends.
    pub(super) fn end(&self) -> Option<Instant> {
        self.0.as_deref().and_then(Moments::end)
    }

    /// The next moment at which something is to be done.
    pub(super) fn next(&self) -> Option<Instant> {
        let notice = self.0.as_ref().and_then(|moments| moments.notice);
        notice.into_iter().chain(self.end()).min()
    }

    /// Forgets the end if it has come. Returns whether it has: true once.
    pub(super) fn take_end(&mut self, now: Instant) -> bool {
        let reached = self.end().is_some_and(|end| now >= end);
        if reached {
            self.0 = None;
        }
        reached
    }

    /// How long the session still lasts, where its client is to be told now: once for each
    /// end.
    pub(super) fn notice(&mut self, now: Instant) -> Option<Duration> {
        let moments = self.0.as_deref_mut()?;
        moments.notice.take_if(|at| now >= *at)?;
        moments.end().map(|end| end.saturating_duration_since(now))
    }

    /// Another ticket or token says when the session ends. Its lifetime goes on.
    pub(super) fn grant(&mut self, granted: Option<Instant>, now: Instant) {
        let lifetime = self.0.as_ref().and_then(|moments| moments.lifetime);
        self.set(granted, lifetime, now);
    }

    fn set(&mut self, granted: Option<Instant>, lifetime: Option<Instant>, now: Instant) {
        let before = self.0.take();
        if granted.is_none() && lifetime.is_none() {
            return;
        }
        let mut moments = Moments {
            granted,
            lifetime,
            notice: None,
        };
        moments.notice = match before {
            // The client was told of this end, or will be.
            Some(before) if is_same(before.end(), moments.end()) => before.notice,
            _ => moments.end().map(|end| notice_of(end, now)),
        };
        self.0 = Some(Box::new(moments));
    }
}

impl Moments {
    fn end(&self) -> Option<Instant> {
        self.granted.into_iter().chain(self.lifetime).min()
    }
}

/// Whether two moments of the wall's clock are the same, by that of the process.
fn is_same(one: Option<Instant>, other: Option<Instant>) -> bool {
    let (Some(one), Some(other)) = (one, other) else {
        return one == other;
    };
    one.max(other) - one.min(other) < Duration::from_secs(1)
}

/// 60–90 s before the end, so that clients of one moment do not all refresh together; in the
/// middle of a life that is not longer.
fn notice_of(end: Instant, now: Instant) -> Instant {
    let life = end.saturating_duration_since(now);
    match life > LONGEST_NOTICE {
        true => end - jitter::between(SHORTEST_NOTICE, LONGEST_NOTICE),
        false => now + life / 2,
    }
}

/// A moment of the wall's clock by that of the process.
pub(super) fn instant(at: SystemTime, now: Instant) -> Instant {
    let left = at.duration_since(SystemTime::now());
    now + left.unwrap_or(Duration::ZERO)
}

/// As frames say how long something lasts.
pub(super) fn in_seconds(left: Duration) -> u64 {
    left.as_secs_f64().round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn a_session_is_told_once_for_each_end() {
        let now = Instant::now();
        for _ in 0..100 {
            let mut ends = Ends::new(Some(now + HOUR), None, now);
            let notice = ends.next().expect("a notice");
            let left = now + HOUR - notice;
            assert!(
                (SHORTEST_NOTICE..=LONGEST_NOTICE).contains(&left),
                "{left:?}"
            );
            assert_eq!(ends.notice(notice - Duration::from_millis(1)), None);
            assert_eq!(ends.notice(notice), Some(left));
            assert_eq!(ends.notice(notice), None);
            assert_eq!(ends.next(), Some(now + HOUR));

            // Another token of the same login; the clocks differ a little.
            ends.grant(Some(now + HOUR + Duration::from_micros(3)), notice);
            assert_eq!(ends.next(), ends.end());

            ends.grant(Some(now + 2 * HOUR), notice);
            assert!(ends.next().expect("another") > now + HOUR);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_life_is_told_in_its_middle() {
        let now = Instant::now();
        let life = Duration::from_secs(90);
        let ends = Ends::new(Some(now + life), None, now);
        assert_eq!(ends.next(), Some(now + life / 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lifetime_is_not_prolonged() {
        let now = Instant::now();
        let mut ends = Ends::new(Some(now + HOUR / 2), Some(now + HOUR), now);
        assert_eq!(ends.end(), Some(now + HOUR / 2));
        ends.grant(Some(now + 2 * HOUR), now);
        assert_eq!(ends.end(), Some(now + HOUR));
        let notice = ends.next().expect("a notice");
        assert!(ends.notice(notice).is_some());
        // The same end is told of once, whatever comes.
        ends.grant(None, notice);
        assert_eq!(ends.end(), Some(now + HOUR));
        assert_eq!(ends.next(), ends.end());
        assert!(!ends.take_end(now + HOUR / 2));
        assert!(ends.take_end(now + HOUR));
        assert!(!ends.take_end(now + HOUR), "said once");
        ends = Ends::new(Some(now + HOUR), None, now);
        ends.grant(None, now);
        assert_eq!(ends.next(), None, "without an end");
    }
}
