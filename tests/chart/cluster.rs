//! The chart on a real control plane: what no rendering shows. `make cluster` builds what it needs
//! (Kubernetes from Go's modules) and runs this. Pods run on nodes that are none, so what is in a
//! pod is judged elsewhere.

mod accepted;
mod control_plane;
mod releases;

use std::time::Duration;

use self::control_plane::ControlPlane;
use crate::support::overdue;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go, and what make cluster builds with it"]
async fn the_chart_on_a_control_plane() {
    overdue::allow(Duration::from_secs(3600));
    let plane = ControlPlane::start().await;
    accepted::every_object_is_accepted(&plane);
    accepted::the_standard_channel_has_no_session_persistence(&plane);
    releases::a_drain_obeys_the_budget(&plane).await;
    for sides in ["true", "false"] {
        releases::an_autoscaler_is_turned_on_and_off(&plane, sides).await;
        releases::somebody_else_scales(&plane, sides).await;
        releases::a_tenants_release(&plane, sides).await;
    }
}
