//! The inbox of each connection. NATS ends a subscription that it forbids, and does not begin it
//! again when it permits it: so it is asked again.

use std::time::Duration;

use tokio::time::sleep;
use ulid::Ulid;

use super::{PULLS, Task};

/// How often it is tried whether the inbox is still forbidden.
const AGAIN: Duration = Duration::from_secs(5);
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
        self.again = None;
        let Some(link) = self.connection.newest() else {
            return;
        };
        let inbox = inbox(&self.reply_prefix, link.id());
        link.subscribe(INBOX, &format!("{inbox}*"));
        if self.feed.is_some() {
            link.subscribe(PULLS, &format!("{inbox}pull.*"));
        }
    }

    /// NATS refuses an operation on this connection. It names the subject.
    pub(super) fn refused(&mut self, connection: Option<Ulid>, text: &str) {
        let words = text.to_ascii_lowercase();
        if words.contains("permissions violation for subscription") {
            self.again = Some(Box::pin(sleep(AGAIN)));
        }
        let is_publish = words.contains("permissions violation for publish");
        let Some(subject) = text.split('"').nth(1).filter(|_| is_publish) else {
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
