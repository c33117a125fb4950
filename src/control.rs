//! What gateways tell and ask each other: which of them there are, who is online
//! at each, and that sessions end.

mod calls;
mod gateways;
mod users;
mod wire;

pub use self::{
    calls::{Control, ControlError, Online, Presence, Reached},
    gateways::{Gateways, Known},
    users::{Users, UsersError},
};
