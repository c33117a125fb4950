//! Chance, against everybody doing the same thing at once.

use std::time::Duration;

use rand::Rng as _;

/// A time between two, evenly distributed, both ends included.
pub fn between(least: Duration, most: Duration) -> Duration {
    rand::rng().random_range(least..=most.max(least))
}

/// A time between two fractions of another.
pub fn fraction_of(whole: Duration, least: f64, most: f64) -> Duration {
    between(whole.mul_f64(least), whole.mul_f64(most))
}
