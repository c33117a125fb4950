//! What `fuzz/` reaches of this room: a server's bytes, as the reader takes them.

use std::{fmt::Debug, sync::Arc};

use super::{
    Auth, Config, Event, Subscriber,
    reader::Reader,
    wire::{Decoder, ServerOp},
};
use crate::{metrics::Metrics, tls::ClientFiles};

/// What a server said.
#[derive(Debug, PartialEq)]
pub struct Said<Op> {
    /// Its operations, in order.
    pub ops: Vec<Op>,
    /// Whether something else followed, which ends the connection.
    pub broken: bool,
    /// The most that waited for the rest of an operation.
    pub waiting: usize,
}

/// Reads a server's bytes as they come.
pub fn read(chunks: &[&[u8]]) -> Said<impl Debug + PartialEq + use<>> {
    let mut decoder = Decoder::default();
    let mut said = Said {
        ops: Vec::new(),
        broken: false,
        waiting: 0,
    };
    for chunk in chunks {
        decoder.buffer.extend_from_slice(chunk);
        loop {
            match decoder.next() {
                Ok(Some(op)) => said.ops.push(op),
                Ok(None) => break,
                Err(_) => {
                    said.broken = true;
                    return said;
                }
            }
        }
        said.waiting = said.waiting.max(decoder.buffer.len());
    }
    said
}

/// Holds subscribers and reads messages to them.
#[derive(Debug)]
pub struct Gateway<K>(Reader<K>);

impl<K: Subscriber> Gateway<K> {
    /// One that is not connected.
    pub fn new(held: impl IntoIterator<Item = (u64, K)>) -> Self {
        let config = Config {
            servers: Vec::new(),
            auth: Auth::Anonymous,
            tls: ClientFiles::default(),
            name: "fuzz".to_owned(),
            prefix: "usher".to_owned(),
            settle: None,
            reply_prefix: "_INBOX.".to_owned(),
            stream: None,
        };
        let mut reader = Reader::new(config, Arc::default(), Arc::new(Metrics::new()));
        reader.hold(held);
        Self(reader)
    }

    /// The event that these bytes make, if they are one message.
    pub fn event(&self, bytes: &[u8]) -> Option<Event<K>> {
        let mut decoder = Decoder::default();
        decoder.buffer.extend_from_slice(bytes);
        match decoder.next() {
            Ok(Some(ServerOp::Message(message))) if decoder.buffer.is_empty() => {
                self.0.message(message)
            }
            _ => None,
        }
    }
}
