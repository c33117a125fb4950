//! The end of a session.

use super::open::Session;
use crate::{
    close::Ending,
    http::{closing, transport::Transport},
};

impl<T: Transport> Session<T> {
    /// Says why it ends, and waits until its client has heard that.
    pub(super) async fn close(self, ending: Ending) {
        let Self {
            sessions,
            mut transport,
            handle,
            permit,
            talk,
            id,
            ..
        } = self;
        let protocol = handle.backlog().protocol();
        sessions.ended(handle.user(), id, protocol, ending.reason);
        if handle.backlog().is_discarded() {
            // Its client did not read.
            transport.drop_unsent();
        }
        // Nothing more is sent to it, so it holds no subscription while it goes.
        drop(handle);
        // Nor an answer.
        drop(talk);
        closing::close(
            &mut transport,
            ending,
            protocol,
            sessions.config.write_timeout,
        )
        .await;
        sessions.counts(transport.kind()).open.dec();
        drop(permit);
    }
}
