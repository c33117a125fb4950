//! What NATS refuses, by the text of its `-ERR`.
//!
//! NATS ends a subscription that it forbids, and does not begin it again when it permits it. So
//! its owner asks for it again after a while ([`AGAIN`]).

use std::time::Duration;

/// How often it is tried whether something is still forbidden.
pub(super) const AGAIN: Duration = Duration::from_secs(5);

/// What NATS refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal<'a> {
    /// To publish to this subject.
    Publish(&'a str),
    /// To hear this subject. A permission that is taken away later names the subscription.
    Subscription { subject: &'a str, id: Option<u64> },
    /// One more subscription.
    TooManySubscriptions,
    /// A message of this size. NATS closes the connection over it.
    TooLarge,
}

impl<'a> Refusal<'a> {
    /// Reads the text. `None` for an error that refuses nothing of these.
    pub(super) fn of(text: &'a str) -> Option<Self> {
        let words = text.to_ascii_lowercase();
        let quoted = |text: &'a str| text.split('"').nth(1);
        if words.contains("permissions violation for publish") {
            Some(Self::Publish(quoted(text)?))
        } else if words.contains("permissions violation for subscription") {
            let id = text.split_once("(sid ").and_then(|(_, rest)| quoted(rest));
            Some(Self::Subscription {
                subject: quoted(text)?,
                id: id.and_then(|id| id.parse().ok()),
            })
        } else if words.contains("subscriptions exceeded") {
            Some(Self::TooManySubscriptions)
        } else {
            let is_too_large = words.contains("maximum payload");
            is_too_large.then_some(Self::TooLarge)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_nats_are_read() {
        let heard = |id| Refusal::Subscription { subject: "a.b", id };
        for (text, refusal) in [
            (
                r#"Permissions Violation for Publish to "a.b""#,
                Some(Refusal::Publish("a.b")),
            ),
            (
                r#"nats: permissions violation for subscription to "a.b""#,
                Some(heard(None)),
            ),
            (
                r#"Permissions Violation for Subscription to "a.b" using queue "q""#,
                Some(heard(None)),
            ),
            (
                r#"Permissions Violation for Subscription to "a.b" (sid "7")"#,
                Some(heard(Some(7))),
            ),
            (
                "maximum subscriptions exceeded",
                Some(Refusal::TooManySubscriptions),
            ),
            ("Maximum Payload Violation", Some(Refusal::TooLarge)),
            ("Stale Connection", None),
        ] {
            assert_eq!(Refusal::of(text), refusal, "{text}");
        }
    }
}
