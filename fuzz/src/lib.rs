//! What the targets share: readers of frames, of JSON and of Protobuf that know
//! nothing of the readers they judge, and how an input is cut.

#![forbid(unsafe_code)]

pub mod centrifuge;
pub mod config;
pub mod cuts;
pub mod event;
pub mod json;
pub mod protobuf;
pub mod websocket;
