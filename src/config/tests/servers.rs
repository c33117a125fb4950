//! The URLs of NATS and of Redis.

use super::*;

fn urls(text: &str) -> Vec<String> {
    let config = good("", &[("USHER_NATS__URL", text)]);
    config.nats.url.0.iter().map(ToString::to_string).collect()
}

#[test]
fn nats_has_one_server_or_several() {
    assert_eq!(urls("nats://a"), ["nats://a"]);
    assert_eq!(
        urls("a:4222, [::1]:4223,nats://u:p@c/"),
        ["nats://a:4222", "nats://[::1]:4223", "nats://u:p@c/"]
    );
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let nats = "which is not supported; write nats://HOST:PORT, or tls://HOST:PORT";
    for (url, shown) in [
        ("ws://hunter2@a", "ws://…@a/"),
        ("nats://a,wss://u:hunter2@b:443", "wss://…@b/"),
    ] {
        assert_eq!(
            error(&row("nats.url", &format!("\"{url}\"")), &[]),
            format!("nats.url (in \"usher.toml\"): \"{shown}\" asks for WebSocket to NATS, {nats}")
        );
    }
}

#[test]
fn keys_come_only_from_where_they_can_be_trusted() {
    for url in [
        "http://login.example/keys",
        "https://u:hunter2@h/keys",
        "https://u:1/hunter2@h/keys",
        "login.example",
    ] {
        let line = error(&row("tickets.jwt.jwks_url", &format!("\"{url}\"")), &[]);
        assert!(
            line.contains("write https://HOST/PATH") && !line.contains("hunter2"),
            "{line}"
        );
    }
}

#[test]
fn a_url_that_does_not_parse_is_told_why() {
    for (key, url, shown, why) in [
        ("nats", "", "nats://…", "empty host"),
        ("nats", "a,,b", "nats://…", "empty host"),
        ("nats", "a:x", "nats://…", "invalid port number"),
        ("nats", "nats://a b", "nats://…", "it has a space in it"),
        ("nats", "a?tls=1", "nats://a", "it has a `?` or a `#` in it"),
        ("redis", "redis://", "redis://…", "empty host"),
        ("redis", "redis:///0", "redis://…", "empty host"),
        (
            "redis",
            "redis://a#x",
            "redis://a",
            "it has a `?` or a `#` in it",
        ),
    ] {
        let variable = format!("USHER_{}__URL", key.to_uppercase());
        let expected = format!(
            "{key}.url (from {variable}): \"{shown}\" is not a good URL ({why}); write \
             {key}://HOST:PORT, and %XX for special characters in a password"
        );
        assert_eq!(error("", &[(&variable, url)]), expected);
    }
}

/// Where it has a comma in it.
#[test]
fn no_part_of_a_password_is_a_server() {
    for (text, number) in [
        ("nats://u:1/2,3@a", "1 of 2"),
        ("nats://u:1,2@a", "2 of 2"),
        ("nats://u:,1,@a", "3 of 3"),
        ("u:1@2,3@a", "1 of 2"),
        ("nats://u:1@2,3@a,b", "2 of 3"),
    ] {
        assert_eq!(
            error("", &[("USHER_NATS__URL", text)]),
            format!(
                "nats.url (from USHER_NATS__URL): URL {number} is not good; write \
                 nats://USER:PASSWORD@HOST:PORT, and %2C for a comma in a password"
            )
        );
    }
}

#[test]
fn a_url_of_something_else_is_told_the_mend() {
    for (key, url, complaint) in [
        ("nats", "nats://a/b", "\"nats://a/b\" has a path"),
        ("nats", "stan://a", "\"stan://a\" is not a URL of NATS"),
        ("redis", "", "\"…\" is not a URL of Redis"),
        ("redis", "cache:6379", "\"…\" is not a URL of Redis"),
        ("redis", "unix:///a", "\"unix://…\" is not a URL of Redis"),
    ] {
        let variable = format!("USHER_{}__URL", key.to_uppercase());
        let expected = format!("{key}.url (from {variable}): {complaint}; write {key}://HOST:PORT");
        assert_eq!(error("", &[(&variable, url)]), expected);
    }
    assert_eq!(
        error("", &[("USHER_REDIS__URL", "redis://cache/x")]),
        "redis.url (from USHER_REDIS__URL): \"redis://cache/x\" names a database that is not a \
         number; write redis://HOST:PORT/NUMBER"
    );
}

/// Wherever a password has a character in it that belongs in `%XX`.
#[test]
fn no_error_shows_credentials() {
    for text in [
        "hun/ter@cache",
        "hun?ter@cache",
        "hun#ter@cache",
        "hun ter@cache",
        "hun@ter@cache/x",
        "u:hun/ter@cache",
        "u:hun?ter@cache",
        "u:hun#ter@cache",
        "u:hun\\\\ter@cache",
        ":hun",
        "u:hun[ter@cache",
        "u:hun%ter@cache?x",
        "u:hunter@cache?password=hun",
        "hun\\nter@cache",
        "u:hun:ter@cache?",
        ":hun,ter@cache,b",
        "u:/hun,ter@cache",
        "u:1?hun,ter@cache",
        "cache?password=hunter",
        "cache#hunter",
    ] {
        for (key, scheme) in [
            ("nats.url", "nats://"),
            ("nats.url", "tls://"),
            ("nats.url", ""),
            ("redis.url", "redis://"),
            ("redis.url", "rediss://"),
            ("redis.url", "redis-sentinel://"),
            ("redis.url", "rediss-sentinel://"),
            ("redis.url", "redis-cluster://"),
            ("redis.url", ""),
        ] {
            if let Err(line) = load(&row(key, &format!("\"{scheme}{text}\"")), &[]) {
                assert!(!line.contains("hun") && !line.contains("ter@"), "{line}");
            }
        }
    }
}
