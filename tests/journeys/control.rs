//! What gateways tell and ask each other.

mod gateways;
