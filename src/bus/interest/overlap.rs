//! Two connections that bring the same messages, while the one takes over from
//! the other: which message was brought by both.
//!
//! NATS numbers nothing, so messages are told apart by what they are: where they
//! go and all of their content. Of several that are alike, as many are delivered
//! as the connection that brought more of them did.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
};

use super::wire::ServerMessage;

/// Messages that are held back at most.
const MAX_HELD: usize = 16 * 1024;
/// Bytes of messages that are held back at most.
const MAX_HELD_BYTES: usize = 16 * 1024 * 1024;

/// What each of the two has brought since they overlap.
#[derive(Debug, Default)]
pub(super) struct Overlap {
    hasher: RandomState,
    /// How many more of each the old one has brought than the new one.
    ahead: HashMap<u64, i64>,
    /// How many of each the old one has brought since the new one was subscribed, until
    /// that is settled: so many may the new one bring after this.
    since: Option<HashMap<u64, i64>>,
    /// What the new one has brought before it took over, in order.
    held: VecDeque<(u64, ServerMessage)>,
    bytes: usize,
}

/// More is held back than may be.
#[derive(Debug)]
pub(super) struct TooMuch;

impl Overlap {
    /// The old one has brought this; it is delivered.
    pub(super) fn delivered(&mut self, message: &ServerMessage) {
        let identity = self.identity(message);
        *self.ahead.entry(identity).or_default() += 1;
        if let Some(since) = &mut self.since {
            *since.entry(identity).or_default() += 1;
        }
    }

    /// The new one's server has processed all subscriptions.
    pub(super) fn subscribed(&mut self) {
        self.since = Some(HashMap::new());
    }

    /// The other servers have learnt of the subscriptions. What the old one brought before the
    /// new one was subscribed is known by now to be the old one's alone: the next message that
    /// is like it is another one.
    pub(super) fn settled(&mut self) {
        let since = self.since.take().unwrap_or_default();
        self.ahead.retain(|identity, ahead| {
            let since = since.get(identity).copied().unwrap_or_default();
            *ahead = since.min(*ahead);
            *ahead != 0
        });
    }

    /// The new one has brought this, before it took over.
    pub(super) fn hold(&mut self, message: ServerMessage) -> Result<(), TooMuch> {
        let identity = self.identity(&message);
        *self.ahead.entry(identity).or_default() -= 1;
        self.bytes += message.payload.len();
        self.held.push_back((identity, message));
        if self.held.len() > MAX_HELD || self.bytes > MAX_HELD_BYTES {
            return Err(TooMuch);
        }
        Ok(())
    }

    /// The new one takes over: what the old one did not bring, in order.
    pub(super) fn take_over(&mut self) -> Vec<ServerMessage> {
        let mut missing = Vec::new();
        // Of several that are alike the last ones are those that are missing.
        for (identity, message) in std::mem::take(&mut self.held).into_iter().rev() {
            if let Some(ahead) = self.ahead.get_mut(&identity)
                && *ahead < 0
            {
                *ahead += 1;
                missing.push(message);
            }
        }
        self.bytes = 0;
        self.ahead.retain(|_, ahead| *ahead > 0);
        missing.reverse();
        missing
    }

    /// The new connection brings this, after it took over. Returns whether the old one had brought
    /// it already: then one of the two is crossed off.
    pub(super) fn cancel_out(&mut self, message: &ServerMessage) -> bool {
        let identity = self.identity(message);
        match self.ahead.get_mut(&identity) {
            Some(ahead) if *ahead > 0 => {
                *ahead -= 1;
                true
            }
            _ => false,
        }
    }

    fn identity(&self, message: &ServerMessage) -> u64 {
        let ServerMessage {
            sid,
            subject: _,
            reply,
            headers,
            payload,
        } = message;
        self.hasher
            .hash_one((sid, reply, headers.as_bytes(), payload))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(sid: u64, payload: &'static str) -> ServerMessage {
        ServerMessage {
            sid,
            subject: "s".into(),
            reply: None,
            headers: Default::default(),
            payload: payload.into(),
        }
    }

    fn payloads(messages: Vec<ServerMessage>) -> Vec<String> {
        let text = |message: ServerMessage| String::from_utf8_lossy(&message.payload).into_owned();
        messages.into_iter().map(text).collect()
    }

    #[test]
    fn what_only_the_new_one_brought_comes_when_it_takes_over() {
        let mut overlap = Overlap::default();
        overlap.delivered(&message(1, "a"));
        for payload in ["a", "b", "a", "c"] {
            overlap.hold(message(1, payload)).expect("room");
        }
        overlap.delivered(&message(1, "b"));
        overlap.delivered(&message(1, "d"));
        overlap.hold(message(2, "b")).expect("room");
        assert_eq!(payloads(overlap.take_over()), ["a", "c", "b"]);
        assert!(overlap.cancel_out(&message(1, "d")));
        assert!(!overlap.cancel_out(&message(1, "d")), "another one like it");
        assert!(!overlap.cancel_out(&message(1, "a")));
    }

    #[test]
    fn what_the_old_one_brought_before_the_subscription_has_no_copy() {
        let mut overlap = Overlap::default();
        overlap.delivered(&message(1, "a"));
        overlap.subscribed();
        overlap.delivered(&message(1, "b"));
        overlap.settled();
        overlap.hold(message(1, "a")).expect("room");
        assert_eq!(payloads(overlap.take_over()), ["a"]);
        assert!(!overlap.cancel_out(&message(1, "a")));
        assert!(overlap.cancel_out(&message(1, "b")));
    }

    #[test]
    fn it_is_bounded() {
        let mut overlap = Overlap::default();
        let held = (0..).take_while(|_| overlap.hold(message(1, "x")).is_ok());
        assert_eq!(held.count(), MAX_HELD);
    }

    proptest! {
        /// One publisher's messages, seen by the old one up to somewhere, and by
        /// the new one from somewhere before that: each is delivered once, in order.
        #[test]
        fn nothing_is_lost_and_nothing_comes_twice(
            kinds in proptest::collection::vec(0..50u64, 1..60),
            cuts in (0.0..1.0f64, 0.0..1.0f64, 0.0..1.0f64),
        ) {
            let messages: Vec<ServerMessage> = kinds
                .iter()
                .enumerate()
                // Different ones: those that are alike cannot be told apart.
                .map(|(index, kind)| ServerMessage {
                    payload: format!("{kind}-{index}").into(),
                    ..message(1, "")
                })
                .collect();
            let at = |part: f64| (part * messages.len() as f64) as usize;
            let (begins, ends) = (at(cuts.0.min(cuts.1)), at(cuts.0.max(cuts.1)));
            // How far the new one is when it takes over.
            let reached = begins + ((messages.len() - begins) as f64 * cuts.2) as usize;
            let mut overlap = Overlap::default();
            let mut delivered = Vec::new();
            for message in &messages[..ends] {
                overlap.delivered(message);
                delivered.push(message.clone());
            }
            for message in &messages[begins..reached] {
                overlap.hold(message.clone()).expect("room");
            }
            delivered.extend(overlap.take_over());
            for message in &messages[reached..] {
                if !overlap.cancel_out(message) {
                    delivered.push(message.clone());
                }
            }
            prop_assert_eq!(payloads(delivered), payloads(messages));
        }

        /// The same with messages that are alike: by the end of the pause the new one has
        /// brought all that it will bring of what came before its subscription.
        #[test]
        fn messages_that_are_alike_are_not_lost(
            kinds in proptest::collection::vec(0..3usize, 1..60),
            cuts in (0.0..1.0f64, 0.0..1.0f64, 0.0..1.0f64, 0.0..1.0f64),
        ) {
            let messages: Vec<_> = kinds
                .iter()
                .map(|kind| message(1, ["a", "b", "c"][*kind]))
                .collect();
            let after = |from: usize, part: f64| {
                from + ((messages.len() - from) as f64 * part) as usize
            };
            let begins = after(0, cuts.0);
            let subscribed = after(begins, cuts.1);
            let (ends, reached) = (after(subscribed, cuts.2), after(subscribed, cuts.3));
            let mut overlap = Overlap::default();
            for message in &messages[..subscribed] {
                overlap.delivered(message);
            }
            overlap.subscribed();
            for message in &messages[begins..subscribed] {
                overlap.hold(message.clone()).expect("room");
            }
            overlap.settled();
            for message in &messages[subscribed..ends] {
                overlap.delivered(message);
            }
            for message in &messages[subscribed..reached] {
                overlap.hold(message.clone()).expect("room");
            }
            let mut delivered = messages[..ends].to_vec();
            delivered.extend(overlap.take_over());
            for message in &messages[reached..] {
                if !overlap.cancel_out(message) {
                    delivered.push(message.clone());
                }
            }
            prop_assert_eq!(payloads(delivered), payloads(messages));
        }
    }
}
