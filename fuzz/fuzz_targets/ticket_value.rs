//! A ticket's value → what it grants.
//!
//! The input is the value, as it may stand in Redis.

#![no_main]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libfuzzer_sys::fuzz_target;
use usher::{
    grants::Grants,
    origin::Origin,
    tickets::{Grant, Order, Ticket, fuzzing},
    user::UserId,
};

fuzz_target!(|value: &[u8]| {
    let now = UNIX_EPOCH + Duration::from_secs(1000);
    let grant = fuzzing::read(value, true, now).ok();
    let strict = fuzzing::read(value, false, now).ok();
    if value.starts_with(b"{") {
        assert_eq!(grant, strict);
    } else {
        assert_eq!(strict, None);
        let plain = grant.as_ref().map(|grant| grant.user.as_str().as_bytes());
        assert!(plain.is_none_or(|id| id == value));
    }
    if let Some(grant) = grant {
        check(&grant, now);
    }
    shape(value);
});

/// What is granted can be ordered, and then grants the same.
fn check(grant: &Grant, now: SystemTime) {
    assert_eq!(UserId::parse(grant.user.as_str()), Ok(grant.user.clone()));
    assert!(grant.expires_at.is_none_or(|at| at > now));
    let text = grant.origin.as_ref().map(ToString::to_string);
    assert_eq!(
        text.map(|text| Origin::parse(&text)),
        grant.origin.clone().map(Ok)
    );
    assert_eq!(
        Grants::parse(&grant.grants.lists()),
        Ok(grant.grants.clone())
    );

    let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).expect("later").as_secs();
    let order = Order {
        user: grant.user.clone(),
        expires_at: grant.expires_at.map(seconds),
        origin: grant.origin.clone(),
        grants: grant.grants.clone(),
    };
    let value = fuzzing::write(&order);
    let again = fuzzing::read(value.as_bytes(), false, now);
    assert_eq!(again.as_ref(), Ok(grant), "{value}");
}

/// The same bytes as the ticket itself.
fn shape(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    if let Ok(ticket) = Ticket::parse(text) {
        assert_eq!(ticket.expose(), text);
        assert!((16..=512).contains(&text.len()));
        assert!(!text.contains(|c: char| !c.is_ascii_alphanumeric() && !"-_.~".contains(c)));
        assert!(!format!("{ticket:?}").contains(text));
    }
}
