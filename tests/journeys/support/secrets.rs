//! 'A ticket never appears in a log line, a span, a metric or an error.'
//!
//! Every ticket that the harness mints or uses is remembered for the whole test
//! process, and looked for wherever the gateway says something. Its first and its
//! last [`TELLING`] characters are looked for, so that a part of it counts too.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A run of a ticket this long is a leak; no ticket is shorter.
const TELLING: usize = 16;

static KNOWN: Mutex<Option<HashSet<[u8; TELLING]>>> = Mutex::new(None);

fn known() -> MutexGuard<'static, Option<HashSet<[u8; TELLING]>>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Remembers a ticket, and returns it. What is too short for one is no secret.
pub(crate) fn secret(ticket: impl Into<String>) -> String {
    let ticket = ticket.into();
    if let Some(start) = ticket.as_bytes().first_chunk() {
        known().get_or_insert_default().insert(*start);
    }
    // Of a token the beginning is the same for all; what is secret is at its end.
    if let Some(end) = ticket.as_bytes().last_chunk() {
        known().get_or_insert_default().insert(*end);
    }
    ticket
}

/// Where in `text` a known ticket stands, if anywhere.
pub(crate) fn find(text: &[u8]) -> Option<usize> {
    let known = known();
    let known = known.as_ref()?;
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    let mut run = 0;
    for (index, byte) in text.iter().enumerate() {
        run = if is_part(byte) { run + 1 } else { 0 };
        if run >= TELLING
            && let Some(window) = text[index + 1 - TELLING..].first_chunk()
            && known.contains(window)
        {
            return Some(index + 1 - TELLING);
        }
    }
    None
}

/// Fails the test where `text` holds a known ticket.
///
/// # Panics
///
/// With the line that it stands on.
#[track_caller]
pub(crate) fn assert_none_in(what: &str, text: &[u8]) {
    if let Some(at) = find(text) {
        let start = text[..at]
            .iter()
            .rposition(|&b| b == b'\n')
            .map_or(0, |i| i + 1);
        let end = text[at..]
            .iter()
            .position(|&b| b == b'\n')
            .map_or(text.len(), |i| at + i);
        let line = String::from_utf8_lossy(&text[start..end]);
        panic!("a ticket stands in {what}: {line}");
    }
}

#[test]
fn a_ticket_is_found_wherever_it_stands() {
    let ticket = secret("This-is_a.ticket~of-the-harness-itself-0123");
    for text in [
        ticket.clone(),
        format!("GET /ws?ticket={ticket} HTTP/1.1\r\n"),
        format!("a line\nusher.ticket.{ticket}, and more"),
        format!("cut short: {}…", &ticket[..TELLING]),
        format!("and at its end: …{}", &ticket[ticket.len() - TELLING..]),
    ] {
        assert!(find(text.as_bytes()).is_some(), "{text}");
    }
    for text in [
        "",
        "nothing at all of it",
        &ticket[..TELLING - 1],
        &ticket[1..ticket.len() - 1],
    ] {
        assert_eq!(find(text.as_bytes()), None, "{text}");
    }
}
