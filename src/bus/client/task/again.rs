//! NATS ends a subscription that it forbids, and does not begin it again when it permits it. So it
//! is asked again.

use std::sync::atomic::Ordering;

use tokio::time::sleep;

use super::{AGAIN, Task, Work};

impl Task {
    /// NATS refuses something, perhaps a subscription of this connection.
    pub(super) fn note_refused(&mut self, text: &str) {
        let subject = text.split('"').nth(1);
        self.inbox_refused |= subject == Some(&*self.client.pending.subject());
        if self.inbox_refused || self.client.peers_forbidden.load(Ordering::Relaxed) {
            let again = || Box::pin(sleep(AGAIN)) as Work;
            self.again.get_or_insert_with(again);
        }
    }

    /// Asks for what was refused. The echo is another matter: pushes wait for it.
    pub(super) async fn subscribe_again(&mut self) {
        self.client.ask_again_for_peers();
        if std::mem::take(&mut self.inbox_refused) {
            let inbox = self.client.pending.subject();
            if let Ok(inbox) = self.client.nats.subscribe(inbox).await {
                self.inbox = inbox;
            }
        }
    }
}
