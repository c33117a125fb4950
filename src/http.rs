//! HTTP: the public door and the operators' door. `warp` lives here alone.

mod admit;
mod closing;
mod demo;
mod frame_rate;
mod listen;
mod ops;
mod public;
mod refusal;
mod session;
mod socket;
mod upgrade;

pub use self::{
    admit::{Config as DoorConfig, Door},
    demo::Demo,
    listen::{Deadlines, serve},
    ops::{Status, routes as ops_routes},
    public::routes as public_routes,
    session::{Config as SessionConfig, Sessions},
};
