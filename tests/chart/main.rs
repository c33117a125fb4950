//! The chart, by the real Helm: what it renders, what it refuses, and that what it
//! sets works: the proxies' settings with real proxies, the alerts and the dashboard
//! with a real Prometheus, the commands of `helm test` with a real gateway.
//!
//! `helm/README.md`'s table, `helm/values.schema.json` and the golden renders are made
//! anew by `USHER_WRITE=1 cargo test --test chart`. A golden that has changed fails in
//! that run too; and no assertion but the golden's own reads a golden.

mod accepted;
mod cluster;
mod configuration;
mod documents;
mod golden;
mod helm;
mod helm_test;
mod image;
mod matrix;
mod objects;
mod presets;
mod prometheus;
mod proxies;
mod refusals;
mod registry;
#[path = "../journeys/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the journeys use all of it")]
mod support;
mod values;
