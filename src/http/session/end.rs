//! The end of a session.

use super::{Sessions, open::Session};
use crate::{
    close::Ending,
    http::{
        closing,
        transport::{Kind, Transport},
    },
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
        let _counted = Counted(&sessions, transport.kind());
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
        drop(permit);
    }
}

/// An open session among others, until this is dropped.
struct Counted<'a>(&'a Sessions, Kind);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let Self(sessions, kind) = self;
        sessions.counts(*kind).open.dec();
    }
}
