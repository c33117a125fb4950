//! Faults of NATS, of its network, of its servers' versions and limits, and of what
//! strangers publish: what a gateway must bear, and what it must say.

mod check;
mod credentials;
mod fewer_subscriptions;
mod late_cluster;
mod odd_replies;
mod old_server;
mod one_connection;
mod only_server;
mod payload_limits;
mod quiet_start;
mod retiring;
mod status_lines;
mod two_addresses;
