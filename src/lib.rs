//! Usher: the last mile from NATS to your users' screens.
//!
//! A file imports only from floors below its own. `docs/architecture.md` tells
//! the journeys and the invariants; `tests/floors.rs` keeps the floors.
//!
//! | floor | modules |
//! |---|---|
//! | 6 | [`app`] builds the modules and runs the drain; [`config`] knows the keys |
//! | 5 | [`http`]: what clients connect to, and their sessions; [`api`]: the API for services |
//! | 4 | [`durable`]: sessions catch up from a stream; [`control`]: what gateways ask each other; [`presence`]: services are told who comes and goes |
//! | 3 | [`registry`]: who is here |
//! | 2 | [`bus`]: NATS; [`tickets`]: Redis; [`tokens`]: who somebody is |
//! | 1 | [`metrics`], [`readiness`], [`telemetry`] |
//! | 0 | [`client_address`], [`user`], [`channel`], [`grants`], [`message`], [`frame`], [`close`], [`jitter`], [`last_good`], [`origin`], [`position`], [`proto`], [`reach`], [`secret`], [`supervision`], [`tls`], [`trace`] |

pub mod accepting;
pub mod api;
pub mod app;
pub mod bus;
pub mod channel;
pub mod cli;
pub mod client_address;
pub mod close;
pub mod config;
pub mod control;
pub mod durable;
pub mod finding;
pub mod frame;
pub mod grants;
pub mod http;
pub mod jitter;
pub mod last_good;
pub mod message;
pub mod metrics;
pub mod origin;
pub mod position;
pub mod presence;
pub mod proto;
mod provoke;
pub mod reach;
pub mod readiness;
pub mod registry;
pub mod secret;
pub mod supervision;
pub mod telemetry;
pub mod tickets;
pub mod tls;
pub mod tokens;
pub mod trace;
pub mod user;
