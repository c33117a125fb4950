//! Journeys through the gateway, told from outside: a real nats-server, a real
//! Redis, the program as it is built, and only what the contract promises.

mod support;

mod admission;
mod broadcasts;
mod browser;
mod bus_faults;
mod clear_token;
mod closing;
mod cluster;
mod commands;
mod control;
mod delivery;
mod durable;
mod either;
mod escapes;
mod events;
mod examples;
mod foreign;
mod grpc_bounds;
mod grpc_drain;
mod grpc_unavailable;
mod happened;
mod hostile;
mod json;
mod limits;
mod log_lines;
mod logins;
mod mint_rate;
mod minting;
mod nats_away;
mod operations;
mod paths;
mod permissions;
mod push;
mod push_stream;
mod readme;
mod receipts;
mod redis_away;
mod redis_check;
mod redis_cluster;
mod redis_sentinel;
mod redis_single;
mod refusals;
mod reloads;
mod signals;
mod smuggling;
mod stood_still;
mod subscriptions;
#[cfg(debug_assertions)]
mod supervision;
mod talking;
mod tickets;
mod tls;
mod too_large;
mod traces;
