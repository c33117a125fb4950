//! The inbox of each connection.

use ulid::Ulid;

use super::{PULLS, Task};
use crate::bus::refusal::Refusal;

/// Subscription id of the inbox.
const INBOX: u64 = 1;

/// What the inbox of a connection begins with.
pub(super) fn inbox(reply_prefix: &str, connection: Ulid) -> String {
    format!("{reply_prefix}{connection}.")
}

impl Task {
    /// Subscribes on a connection that was just made.
    pub(super) fn subscribe(&mut self) {
        self.listen();
        if let Some(feed) = &mut self.feed {
            feed.up();
        }
    }

    /// Subscribes to the inbox, on the newest connection.
    pub(super) fn listen(&mut self) {
        let Some(link) = self.connection.newest() else {
            return;
        };
        let inbox = inbox(&self.reply_prefix, link.id());
        link.subscribe(INBOX, &format!("{inbox}*"));
        if self.feed.is_some() {
            link.subscribe(PULLS, &format!("{inbox}pull.*"));
        }
    }

    /// NATS refuses an operation on this connection.
    pub(super) fn refused(&mut self, connection: Option<Ulid>, text: &str) {
        let Some(Refusal::Publish(subject)) = Refusal::of(text) else {
            return;
        };
        if let Some(feed) = &self.feed {
            feed.refused(subject);
        }
        if let Some(connection) = connection {
            self.questions.refused(connection, subject);
        }
    }
}
