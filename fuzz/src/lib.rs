//! What the targets share: readers of frames and of JSON that know nothing of
//! the readers they judge, and how an input is cut.

#![forbid(unsafe_code)]

pub mod config;
pub mod cuts;
pub mod event;
pub mod json;
pub mod websocket;
