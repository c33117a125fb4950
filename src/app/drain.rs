//! The drain, after `drain.delay`: see [`App::run`](super::App::run).

use std::{sync::Arc, time::Duration};

use futures_util::future::Shared;
use tokio::{
    sync::{oneshot, watch},
    time::{sleep, timeout},
};

use crate::{
    api::Phase,
    control::Gateways,
    http::{Admissions, Sessions},
    presence::Presence,
    registry::Registry,
};

/// How long the process waits for the closes of sessions after the last session was ended.
///
/// One close may take longer: `session.write_timeout` for the backlog, as long again for the last
/// frames, two seconds for the client's answer. So a client that reads slowly may be cut off.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Sessions that come up during a drain are ended this often.
const LATE: Duration = Duration::from_millis(10);

/// The parts of a gateway that a drain ends.
pub(super) struct Draining {
    pub(super) admissions: Arc<Admissions>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) registry: Arc<Registry>,
    pub(super) phase: watch::Sender<Phase>,
    /// The API's listener has ended.
    pub(super) api_done: Shared<oneshot::Receiver<()>>,
    /// With `presence.events`.
    pub(super) presence: Option<Presence>,
    /// `None` if this gateway is the only one.
    pub(super) gateways: Option<Arc<Gateways>>,
}

impl Draining {
    /// Ends all sessions evenly across `window`, then the API, and says goodbye to the other
    /// gateways. Returns within the bounds that [`App::run`](super::App::run) lists.
    pub(super) async fn run(&self, window: Duration) {
        self.admissions.close();
        self.phase.send_replace(Phase::Leaving);
        self.registry.drain(window).await;
        self.phase.send_replace(Phase::Ended);
        let gone = async {
            while self.admissions.held() > 0 {
                self.registry.end_all();
                sleep(LATE).await;
            }
        };
        let gone = timeout(LAST_WORDS, gone);
        // The API's listener bounds the time of its last answers.
        let (gone, _) = tokio::join!(gone, self.api_done.clone());
        if let Some(presence) = &self.presence
            && !presence.all_told().await
        {
            tracing::warn!("services are not told of all users who have gone");
        }
        if let Some(gateways) = &self.gateways {
            gateways.leave().await;
        }
        match gone {
            Ok(()) => tracing::info!("drained"),
            Err(_) => tracing::warn!(
                sessions = self.sessions.open(),
                "drained; what did not say goodbye in time is cut off"
            ),
        }
    }
}
