//! Random times, so that clients and gateways do not all do the same thing at the same moment.

use std::time::Duration;

use rand::{Rng as _, seq::SliceRandom as _};
use tokio::time::{Instant, sleep_until};

/// A time between two, evenly distributed, both ends included.
pub fn between(least: Duration, most: Duration) -> Duration {
    rand::rng().random_range(least..=most.max(least))
}

/// A time between two fractions of another.
pub fn fraction_of(whole: Duration, least: f64, most: f64) -> Duration {
    between(whole.mul_f64(least), whole.mul_f64(most))
}

/// Calls `act(item, from, to)` for each item, in a random order, evenly across `window`. `from` and
/// `to` (0 to 1) are the part of the window that is the item's. Returns after the last call, which
/// is at the beginning of the last part: an empty list and a single item take no time. If the
/// future is dropped, `act` is not called for the other items.
pub async fn spread<T>(mut all: Vec<T>, window: Duration, act: impl Fn(T, f64, f64)) {
    all.shuffle(&mut rand::rng());
    let start = Instant::now();
    let part = 1.0 / all.len() as f64;
    for (index, one) in (0u32..).zip(all) {
        let (from, to) = (f64::from(index) * part, f64::from(index + 1) * part);
        sleep_until(start + window.mul_f64(from)).await;
        act(one, from, to);
    }
}
