//! Waiting for what must happen, never for time to pass.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep, timeout};

/// How long anything may take before a test gives up on it: far longer than any
/// time limit of the gateway, on a machine that stalls for seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(45);

/// Asks again and again until the answer is yes.
///
/// # Panics
///
/// After [`PATIENCE`], naming `what` did not come true.
pub(crate) async fn eventually<F, Fut>(what: &str, mut check: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let deadline = Instant::now() + PATIENCE;
    while !check().await {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for `future`, at most [`PATIENCE`].
pub(crate) async fn patiently<F: Future>(what: &str, future: F) -> F::Output {
    match timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}
