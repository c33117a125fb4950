//! Many sessions: what they leave behind when they are gone, and what those cost
//! that do not read. `make churn` and `make stuck` run these at full size, with a
//! verdict on memory; here they are small, and judge all but that.

mod churn;
mod process;
mod stuck;
#[path = "../journeys/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the journeys use all of it")]
mod support;
mod thin;
mod tickets;

use std::{env, time::Duration};

/// A number from the environment: the full size is asked for by name.
fn size(name: &str, small: usize) -> usize {
    match env::var(name) {
        Ok(text) => {
            support::overdue::allow(Duration::from_secs(3600));
            text.parse().unwrap_or_else(|_| panic!("{name}={text}"))
        }
        Err(_) => small,
    }
}

/// Whether a run is at full size, so that its memory says something.
fn is_full(name: &str) -> bool {
    env::var_os(name).is_some()
}
