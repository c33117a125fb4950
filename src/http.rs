//! HTTP: the public listener and the operators' listener. `warp` lives here and in `api/json`.

mod address;
mod admit;
mod centrifuge;
mod chunks;
mod closing;
mod conformance;
mod cors;
mod credentials;
mod demo;
mod events;
mod filters;
mod frame_rate;
#[cfg(fuzzing)]
#[path = "../fuzz/reach/http.rs"]
pub mod fuzzing;
mod handover;
mod handshake;
mod join;
mod listen;
mod mint_rate;
mod ops;
mod permits;
mod refusal;
mod refusal_log;
mod refusal_rate;
mod request;
mod routes;
mod running_clock;
mod session;
mod socket;
mod target;
mod tickets;
mod transport;
mod upgrade;
mod websocket;

#[doc(hidden)]
pub use self::conformance::routes as conformance_routes;
pub use self::{
    admit::{Admissions, Config as AdmissionsConfig},
    credentials::Credentials,
    demo::Demo,
    join::Joins,
    listen::{Bounds, serve},
    mint_rate::MintRate,
    ops::Status,
    routes::{Public, ops as ops_routes, public as public_routes},
    session::{Config as SessionConfig, Sessions},
    tickets::Mint,
};
