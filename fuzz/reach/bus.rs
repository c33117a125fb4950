//! What `fuzz/` reaches of this module: a server's bytes, as the reader takes them.

use std::{fmt::Debug, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    Auth, CallsConfig, Config, Event, Health, Servers, Subscriber, Subscriptions,
    interest::{Decoder, Dialer, Reader, ServerOp, Supervisor},
    stream::{Reply, offline_event as event_of},
};
use crate::{
    metrics::Metrics,
    readiness::{Part, Readiness},
    telemetry::Tracer,
    tls::ClientFiles,
};

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
            calls: CallsConfig {
                timeout: Duration::ZERO,
                max_in_flight: 0,
                max_total: 0,
                echoes: false,
            },
            presence_events: false,
            stream: None,
            tracer: Tracer::default(),
        };
        let (_, commands) = Subscriptions::new();
        let metrics = Arc::new(Metrics::new());
        let readiness = Readiness::new(Duration::ZERO);
        let health = Health::new(
            "interest",
            Part::Interest,
            false,
            metrics.clone(),
            readiness,
        );
        let subjects = config.subjects();
        let connection = Supervisor::new(Dialer::new(config, Servers::new(&[])), health);
        let mut reader = Reader::new(
            connection,
            subjects,
            None,
            None,
            commands,
            (metrics, Tracer::default()),
        );
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

/// What a reply to a direct get is that came as these bytes, if they are one message: the
/// sequence, where it is a message of the stream.
pub fn stored(bytes: &[u8]) -> Option<Option<u64>> {
    let mut decoder = Decoder::default();
    decoder.buffer.extend_from_slice(bytes);
    match decoder.next() {
        Ok(Some(ServerOp::Message(message))) => Some(match Reply::of(&message.headers) {
            Reply::Message { seq, .. } => Some(seq),
            _ => None,
        }),
        _ => None,
    }
}

/// What is published of a stored message on `usher.offline.USER`.
#[derive(Debug)]
pub struct OfflineEvent {
    /// Whose message it is; none where its subject is no user's.
    pub user: Option<String>,
    /// Its sequence in the stream.
    pub seq: u64,
    /// The event's header block.
    pub headers: Vec<u8>,
    /// The event's payload.
    pub payload: Bytes,
}

/// The event of a message that came from the consumer as these bytes, of at most so many bytes.
pub fn offline_event(bytes: &[u8], limit: usize) -> Option<OfflineEvent> {
    let mut decoder = Decoder::default();
    decoder.buffer.extend_from_slice(bytes);
    let Ok(Some(ServerOp::Message(message))) = decoder.next() else {
        return None;
    };
    let (user, seq, (headers, payload)) = event_of(message, limit)?;
    Some(OfflineEvent {
        user: user.map(|user| user.as_str().to_owned()),
        seq,
        headers,
        payload,
    })
}
