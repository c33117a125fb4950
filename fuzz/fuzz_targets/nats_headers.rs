//! Any header block and any payload → one event with exactly that payload, to
//! whom it was sent.
//!
//! The input begins with what the message is and the length of its header
//! block; the rest is the payload.

#![no_main]

use std::cell::LazyCell;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use usher::{
    bus::{Event, Subscriber, fuzzing::Gateway},
    channel::{Audience, Channel},
    message::{EventName, Message},
    user::UserId,
};

const BROADCAST: u64 = 1;
const HELD: [u64; 2] = [2, 3];
const GONE: u64 = 4;
/// Under the fuzzer.
const LARGEST_MESSAGE: usize = 1024;

/// A user who is here, under an id.
#[derive(Debug, Clone)]
struct Held(u64, Audience);

impl Subscriber for Held {
    fn audience(&self) -> &Audience {
        &self.1
    }
}

thread_local! {
    static GATEWAY: LazyCell<Gateway<Held>> = LazyCell::new(|| {
        let user = Audience::User(UserId::parse("42").expect("an id"));
        Gateway::new(HELD.map(|id| (id, Held(id, user.clone()))))
    });
}

fuzz_target!(|input: &[u8]| {
    let [kind, length, rest @ ..] = input else {
        return;
    };
    let sid = u64::from(kind % 4) + BROADCAST;
    let reply = kind & 4 != 0;
    let rest = &rest[..rest.len().min(LARGEST_MESSAGE)];
    let (headers, payload) = rest.split_at(usize::from(*length).min(rest.len()));

    let event = GATEWAY.with(|gateway| gateway.event(&message(sid, reply, headers, payload)));
    let probe = first(headers, b"Usher-Probe") == Some(b"1");
    match event {
        Some(Event::Broadcast(message)) => {
            assert_eq!(sid, BROADCAST);
            assert_eq!(message.channel, Channel::Broadcast);
            check(&message, headers, payload);
        }
        Some(Event::Message {
            to,
            message,
            request,
        }) => {
            assert_eq!(sid, to.0);
            assert!(HELD.contains(&sid));
            assert_eq!(message.channel, Channel::User);
            let request = request.map(|request| (request.reply, request.probe.is_some()));
            assert_eq!(request, reply.then(|| ("_INBOX.x".to_owned(), probe)));
            check(&message, headers, payload);
        }
        None => assert!(sid == GONE || probe && !reply && sid != BROADCAST),
        other => panic!("not a message: {other:?}"),
    }
});

/// The message as NATS sends it.
fn message(sid: u64, reply: bool, headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let reply = if reply { "_INBOX.x " } else { "" };
    let (length, total) = (headers.len(), headers.len() + payload.len());
    let line = format!("HMSG usher.user.42 {sid} {reply}{length} {total}\r\n");
    [line.as_bytes(), headers, payload, b"\r\n"].concat()
}

fn check(message: &Message, headers: &[u8], payload: &[u8]) {
    assert_eq!(message.payload, Bytes::copy_from_slice(payload));
    let named = first(headers, b"Event")
        .and_then(|name| std::str::from_utf8(name).ok())
        .and_then(|name| EventName::parse(name).ok());
    assert_eq!(message.event, named.unwrap_or_default());
    usher_fuzz::event::check(message, usize::MAX);
}

/// The first value of a header, the version line aside.
fn first<'a>(headers: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut lines = headers.split(|byte| *byte == b'\n').skip(1);
    lines.find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(b":")?;
        Some(value.trim_ascii())
    })
}
