//! Who is who among the clients of a run.

use crate::auditor::{Channels, To};

/// How a client speaks to a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    WebSocket,
    Events,
    /// The Centrifuge protocol.
    Centrifuge,
}

/// A client, by its number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Who {
    pub(crate) channels: Channels,
    pub(crate) transport: Transport,
    /// It follows its topic at times, as its ticket allows; the ticket of another client names
    /// the topic.
    pub(crate) changes: bool,
    /// It speaks the Centrifuge protocol in Protobuf, if it speaks that; else in JSON.
    pub(crate) protobuf: bool,
}

impl Who {
    /// Client `index` of a run with so many users and topics.
    pub(crate) fn new(index: usize, users: usize, topics: usize) -> Self {
        let transport = match index {
            _ if index % 5 == 4 => Transport::Centrifuge,
            _ if index % 4 == 3 => Transport::Events,
            _ => Transport::WebSocket,
        };
        Self {
            channels: Channels {
                user: index % users,
                topic: index % topics,
            },
            transport,
            changes: index % 3 == 1,
            protobuf: index % 10 == 4,
        }
    }
}

/// A topic's name. In a subject it is escaped.
pub(crate) fn topic_name(topic: usize) -> String {
    format!("room.{topic}")
}

/// Where a publisher publishes.
pub(crate) fn subject(to: To) -> String {
    match to {
        To::User(user) => format!("usher.user.{user}"),
        To::Topic(topic) => format!("usher.topic.room%2E{topic}"),
        To::All => "usher.broadcast".to_owned(),
    }
}
