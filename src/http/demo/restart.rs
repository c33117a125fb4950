//! What a restart of the gateway looks like to its clients, while the process stays.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::time::{Instant, sleep_until};
use warp::{http::StatusCode, reply::Response};

use super::{Demo, json as answer};
use crate::supervision;

/// Newcomers are refused for this long.
const AWAY: Duration = Duration::from_secs(1);
/// Sessions are closed across this. It is shorter than [`AWAY`], so that a client which comes
/// back is not closed again.
const WINDOW: Duration = Duration::from_millis(800);

/// Closes all sessions as a drain does, and refuses newcomers for a second. A restart that is
/// under way is not begun again.
pub(in crate::http) fn restart(demo: Arc<Demo>) -> Response {
    if demo.admissions.begin_restart() {
        // A caller that goes away does not leave the gateway closed.
        supervision::spawn("a restart of the demo", async move {
            let over = Instant::now() + AWAY;
            demo.registry.drain(WINDOW).await;
            sleep_until(over).await;
            demo.admissions.end_restart();
        });
    }
    answer(StatusCode::OK, &json!({ "status": "restarting" }))
}
