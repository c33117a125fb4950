//! The order in which the changes of one session's topics are made.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Arc, Mutex},
};

use tokio::sync::Notify;

use super::Change;
use crate::{channel::Topic, registry::sync::lock};

/// The changes under way. Each is made when no earlier one is under way.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// In the order in which they began.
    under_way: Mutex<VecDeque<Arc<About>>>,
    /// A change is over.
    over: Notify,
}

/// What a change is about.
#[derive(Debug)]
struct About {
    follow: Vec<Topic>,
    unfollow: Vec<Topic>,
    /// It may unfollow any topic.
    any: bool,
}

/// A change under way. Dropping it lets the next one be made.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    about: Arc<About>,
}

impl Turns {
    /// Begins a change. `followed` is called while no change ends.
    ///
    /// Also returns what the session follows once the earlier changes are made, as far as that is
    /// certain; `None` if one of them is about a topic of this change. Then NATS must not be asked
    /// for the topics of this change before its turn: a session that joins a topic twice would get
    /// each message twice.
    pub(super) fn begin(
        &self,
        change: &Change,
        followed: impl FnOnce() -> Vec<Topic>,
    ) -> (Turn<'_>, Option<Vec<Topic>>) {
        let about = Arc::new(About {
            follow: change.follow.clone(),
            unfollow: change.unfollow.clone(),
            any: change.keep_only.is_some(),
        });
        let mut under_way = lock(&self.under_way);
        let mut earlier = under_way.iter();
        let now = (!earlier.any(|earlier| earlier.meets(&about))).then(|| {
            let mut now = followed();
            for earlier in under_way.iter() {
                now.retain(|topic| !earlier.unfollow.contains(topic));
                let new = earlier.follow.iter().filter(|topic| !now.contains(topic));
                let new: Vec<_> = new.cloned().collect();
                now.extend(new);
            }
            now
        });
        under_way.push_back(about.clone());
        drop(under_way);
        let turn = Turn { turns: self, about };
        (turn, now)
    }
}

impl About {
    fn meets(&self, other: &Self) -> bool {
        let topics =
            |about: &Self, topic| about.follow.contains(topic) || about.unfollow.contains(topic);
        let mut others = other.follow.iter().chain(&other.unfollow);
        self.any || other.any || others.any(|topic| topics(self, topic))
    }
}

impl Turn<'_> {
    /// Waits until all earlier changes are over. Dropping the future is safe.
    pub(super) async fn comes(&self) {
        loop {
            let mut over = pin!(self.turns.over.notified());
            over.as_mut().enable();
            let first = lock(&self.turns.under_way).front().cloned();
            if first.is_some_and(|first| Arc::ptr_eq(&first, &self.about)) {
                return;
            }
            over.await;
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut under_way = lock(&self.turns.under_way);
        under_way.retain(|about| !Arc::ptr_eq(about, &self.about));
        if under_way.is_empty() {
            *under_way = VecDeque::new();
        }
        drop(under_way);
        self.turns.over.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn topics(names: &[&str]) -> Vec<Topic> {
        let topic = |name: &&str| Topic::parse(name).expect("a topic");
        names.iter().map(topic).collect()
    }

    fn change(follow: &[&str], unfollow: &[&str]) -> Change {
        Change {
            follow: topics(follow),
            unfollow: topics(unfollow),
            ..Change::default()
        }
    }

    #[test]
    fn changes_are_made_in_their_order_and_prepared_together() {
        let turns = Turns::default();
        let followed = || topics(&["old"]);
        let (first, now) = turns.begin(&change(&["a"], &[]), followed);
        assert_eq!(now, Some(topics(&["old"])));
        let (second, now) = turns.begin(&change(&["b"], &["old"]), followed);
        assert_eq!(now, Some(topics(&["old", "a"])));
        let (third, now) = turns.begin(&change(&["c"], &[]), followed);
        assert_eq!(now, Some(topics(&["a", "b"])));
        let (again, now) = turns.begin(&change(&["old"], &[]), followed);
        assert_eq!(now, None, "an earlier change is about it");
        assert!(first.comes().now_or_never().is_some());
        assert!(second.comes().now_or_never().is_none());
        // One that ends early makes no room for a later one.
        drop(third);
        assert!(again.comes().now_or_never().is_none());
        drop(first);
        assert!(second.comes().now_or_never().is_some());
        drop(second);
        assert!(again.comes().now_or_never().is_some());
    }

    #[test]
    fn a_change_of_grants_is_about_all_topics() {
        let turns = Turns::default();
        let keep_only = Change {
            keep_only: Some(Box::default()),
            ..Change::default()
        };
        let (_first, now) = turns.begin(&keep_only, Vec::new);
        assert_eq!(now, Some(Vec::new()));
        let (_second, now) = turns.begin(&change(&["a"], &[]), Vec::new);
        assert_eq!(now, None);
    }
}
