//! One user's sessions at this gateway, for operators.

use ulid::Ulid;

use super::Registry;
use crate::{channel::Topic, frame::Protocol, user::UserId};

/// An open session, as it is at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Here {
    /// As in `welcome`. It has the time at which the session began.
    pub session: Ulid,
    /// What the session speaks.
    pub protocol: Protocol,
    /// Frames that the kernel has not taken yet.
    pub messages: usize,
    /// Their bytes.
    pub bytes: usize,
    /// What it follows.
    pub topics: Vec<Topic>,
}

impl Registry {
    /// The sessions of a user that were welcomed and are open, the oldest first.
    pub fn sessions_here(&self, user: &UserId) -> Vec<Here> {
        // Nothing else is locked while the user's sessions are listed.
        let mut sessions = Vec::new();
        self.each_of(user, |session| sessions.push(session.clone()));
        let here = sessions.iter().filter_map(|session| {
            let backlog = session.backlog();
            let is_here = backlog.is_welcomed() && backlog.is_open();
            let session_id = backlog.session().filter(|_| is_here)?;
            let (messages, bytes) = backlog.unsent();
            Some(Here {
                session: session_id,
                protocol: backlog.protocol(),
                messages,
                bytes,
                topics: session.follows().topics(),
            })
        });
        here.collect()
    }
}
