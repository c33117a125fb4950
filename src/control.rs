//! What gateways tell and ask each other: which of them there are.

mod gateways;

pub use self::gateways::{Gateways, Known};
