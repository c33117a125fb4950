//! An `Origin` header, and the list that it is looked up in.
//!
//! The input's lines are the header, the request's `Host`, and the list.

#![no_main]

use libfuzzer_sys::fuzz_target;
use usher::origin::{AllowedOrigins, Origin, OriginError};

fuzz_target!(|input: &str| {
    let mut lines = input.split('\n');
    let text = lines.next().unwrap_or_default();
    let host = lines.next();
    let list: Vec<_> = lines.collect();

    let origin = Origin::parse(text);
    match &origin {
        Ok(origin) => is_an_origin(text, origin),
        Err(OriginError) => assert!(!allow(&[], text, host)),
    }
    if let (Ok(origin), Some(host)) = (&origin, host)
        && allow(&[], text, Some(host))
    {
        // The host is the origin's in other words.
        let scheme = origin.to_string();
        let scheme = scheme.split("://").next().unwrap_or_default();
        assert_eq!(
            Origin::parse(&format!("{scheme}://{host}")).as_ref(),
            Ok(origin)
        );
    }
    assert!(!allow(&[], text, None));
    if let Ok(listed) = AllowedOrigins::parse(&list) {
        let allowed = listed.allow(Some(text), host);
        let by_one = |entry: &&str| matches(entry, &origin);
        let expected = match &list[..] {
            [] => allow(&[], text, host),
            ["*"] => true,
            list => list.iter().any(by_one),
        };
        assert_eq!(allowed, expected, "{list:?}");
    }
});

fn allow(list: &[&str], origin: &str, host: Option<&str>) -> bool {
    let list = AllowedOrigins::parse(list).expect("a good list");
    list.allow(Some(origin), host)
}

/// An origin is a scheme, a host and a port, and prints itself as one.
fn is_an_origin(text: &str, origin: &Origin) {
    let printed = origin.to_string();
    assert_eq!(Origin::parse(&printed).as_ref(), Ok(origin));
    assert!(allow(&[&printed], text, None));
    for text in [text, &printed] {
        let (scheme, place) = text.split_once("://").expect("a scheme");
        assert!(
            !["ws", "wss"].contains(&&*scheme.to_ascii_lowercase()),
            "{text:?}"
        );
        let other = |c: char| "/\\?#@".contains(c) || c.is_whitespace() || c.is_control();
        assert!(!place.is_empty() && !place.contains(other), "{text:?}");
    }
}

/// Whether an entry of the list is this origin, or a host above its own.
fn matches(entry: &str, origin: &Result<Origin, OriginError>) -> bool {
    let Ok(origin) = origin else { return false };
    let Some((scheme, rest)) = entry.split_once("://*.") else {
        return Origin::parse(entry).as_ref() == Ok(origin);
    };
    let apex = Origin::parse(&format!("{scheme}://{rest}"))
        .expect("an entry")
        .to_string();
    let origin = origin.to_string();
    let (scheme, place) = origin.split_once("://").expect("a scheme");
    let (apex_scheme, apex) = apex.split_once("://").expect("a scheme");
    scheme == apex_scheme && place.len() > apex.len() + 1 && place.ends_with(&format!(".{apex}"))
}
