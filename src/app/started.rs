//! When a gateway can be used, and where.

use std::{io, net::SocketAddr};

use tokio::sync::watch;

use super::App;
use crate::readiness::Readiness;

/// A gateway that is about to run.
#[derive(Debug)]
pub struct Started {
    /// Where browsers connect.
    pub public: SocketAddr,
    /// Where services push.
    pub grpc: SocketAddr,
    serves: watch::Receiver<bool>,
    readiness: Readiness,
}

impl App {
    /// What others may learn of this gateway while it runs.
    ///
    /// # Errors
    ///
    /// The system does not say what was bound.
    pub fn started(&self) -> io::Result<Started> {
        Ok(Started {
            public: self.public.local_addr()?,
            grpc: self.grpc.local_addr()?,
            serves: self.serves.subscribe(),
            readiness: self.readiness.clone(),
        })
    }
}

impl Started {
    /// Waits until the gateway serves, and nothing speaks against new sessions; for ever where
    /// that never comes. Dropping the future is safe.
    pub async fn ready(&mut self) {
        if self.serves.wait_for(|serves| *serves).await.is_err() {
            // It has ended.
            std::future::pending::<()>().await;
        }
        let readiness = &self.readiness;
        readiness.changed_from(&false, Readiness::is_ready).await;
    }
}
