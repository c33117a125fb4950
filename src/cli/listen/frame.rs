//! What a gateway sends, as far as this client looks at it (`usher.v1`).

use std::{borrow::Cow, time::Duration};

use serde::Deserialize;
use serde_json::value::RawValue;

/// One frame; exactly one of `welcome`, `event`, `ping`, `live`, `gap`,
/// `following` and `goodbye` is there. What is unknown is ignored.
#[derive(Debug, Default, Deserialize)]
pub(in crate::cli) struct Frame<'a> {
    #[serde(borrow)]
    pub(in crate::cli) welcome: Option<Welcome<'a>>,
    #[serde(borrow)]
    pub(in crate::cli) event: Option<Cow<'a, str>>,
    /// An event's.
    pub(in crate::cli) seq: Option<u64>,
    /// An event's: the sequence of the one before it of its kind.
    pub(in crate::cli) prev: Option<u64>,
    /// An event's: when the stream stored it.
    pub(in crate::cli) at: Option<u64>,
    #[serde(borrow)]
    pub(in crate::cli) topic: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(in crate::cli) data: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(in crate::cli) base64: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(in crate::cli) broadcast: bool,
    pub(in crate::cli) ping: Option<At>,
    pub(in crate::cli) live: Option<At>,
    #[serde(borrow)]
    pub(in crate::cli) gap: Option<Gap<'a>>,
    pub(in crate::cli) following: Option<Following>,
    #[serde(borrow)]
    pub(in crate::cli) goodbye: Option<Goodbye<'a>>,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Welcome<'a> {
    #[serde(borrow)]
    pub(in crate::cli) session: Cow<'a, str>,
    #[serde(borrow)]
    pub(in crate::cli) user: Cow<'a, str>,
    #[serde(borrow)]
    pub(in crate::cli) gateway: Cow<'a, str>,
    /// Seconds.
    pub(in crate::cli) ping: f64,
    #[serde(borrow)]
    pub(in crate::cli) epoch: Option<Cow<'a, str>>,
    pub(in crate::cli) seq: Option<u64>,
    pub(in crate::cli) at: Option<u64>,
    #[serde(borrow)]
    pub(in crate::cli) resume: Option<Cow<'a, str>>,
    /// All that it follows.
    pub(in crate::cli) topics: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct At {
    pub(in crate::cli) seq: Option<u64>,
    pub(in crate::cli) at: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Following {
    /// All that it follows now.
    #[serde(default)]
    pub(in crate::cli) topics: Vec<String>,
    pub(in crate::cli) seq: Option<u64>,
    pub(in crate::cli) at: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Gap<'a> {
    #[serde(borrow)]
    pub(in crate::cli) reason: Option<Cow<'a, str>>,
    pub(in crate::cli) seq: Option<u64>,
    pub(in crate::cli) prev: Option<u64>,
    pub(in crate::cli) at: Option<u64>,
    #[serde(default)]
    pub(in crate::cli) broadcast: bool,
    #[serde(borrow)]
    pub(in crate::cli) topic: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Goodbye<'a> {
    #[serde(borrow)]
    pub(in crate::cli) reason: Option<Cow<'a, str>>,
    /// What a service says besides.
    #[serde(borrow)]
    pub(in crate::cli) message: Option<Cow<'a, str>>,
    reconnect_after_ms: Option<u64>,
}

impl<'a> Frame<'a> {
    /// Reads one; what can't be read has nothing in it.
    pub(in crate::cli) fn read(text: &'a str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }
}

impl Welcome<'_> {
    /// How long the client waits for a frame before it gives the connection up.
    pub(in crate::cli) fn patience(&self) -> Option<Duration> {
        Duration::try_from_secs_f64(self.ping * 2.0)
            .ok()
            .filter(|patience| !patience.is_zero())
    }
}

impl Goodbye<'_> {
    /// When to come back.
    pub(in crate::cli) fn hint(&self) -> Option<Duration> {
        self.reconnect_after_ms.map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_the_contract_are_read() {
        let welcome = r#"{"welcome":{"session":"01J","user":"4\"2","gateway":"g","ping":0.5,"epoch":"k3f9","seq":120,"resume":"gap","new":1}}"#;
        let welcome = Frame::read(welcome).welcome.expect("a welcome");
        assert_eq!(welcome.user, "4\"2");
        assert_eq!(welcome.patience(), Some(Duration::from_secs(1)));
        assert_eq!(
            (welcome.epoch.as_deref(), welcome.seq),
            (Some("k3f9"), Some(120))
        );
        assert_eq!(welcome.resume.as_deref(), Some("gap"));

        let event = Frame::read(
            r#"{"data":{"order": 123},"prev":118,"event":"e","seq":121,"broadcast":true}"#,
        );
        assert_eq!(event.data.map(RawValue::get), Some(r#"{"order": 123}"#));
        assert_eq!((event.seq, event.broadcast), (Some(121), true));
        let goodbye = Frame::read(r#"{"goodbye":{"reason":"drain","reconnect_after_ms":4210}}"#);
        let hint = goodbye.goodbye.and_then(|goodbye| goodbye.hint());
        assert_eq!(hint, Some(Duration::from_millis(4210)));
    }

    #[test]
    fn an_odd_ping_is_no_reason_to_give_up_at_once() {
        for ping in ["0", "-1", "1e300"] {
            let text = format!(
                r#"{{"welcome":{{"session":"s","user":"u","gateway":"g","ping":{ping}}}}}"#
            );
            let welcome = Frame::read(&text).welcome.expect("a welcome");
            assert_eq!(welcome.patience(), None, "{ping}");
        }
    }
}
