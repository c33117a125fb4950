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
fn a_collector_is_a_host_and_a_port() {
    for url in [
        "http://collector:4317",
        "https://otlp.example.com/",
        "http://[::1]:4317",
    ] {
        let config = good(&row("telemetry.otlp_endpoint", &format!("\"{url}\"")), &[]);
        let found = config.telemetry.otlp_endpoint.expect("it is set").0;
        assert_eq!(
            found.as_str().trim_end_matches('/'),
            url.trim_end_matches('/')
        );
    }
    for (url, why) in [
        ("collector:4317", "is no address of a collector"),
        ("grpc://collector:4317", "is no address of a collector"),
        ("http://", "is not a good URL (empty host)"),
        ("http://u:hunter2@collector:4317", "has credentials in it"),
        ("http://u:1/hunter2@collector:4317", "has credentials in it"),
        ("http://collector:4317?key=hunter2", "is not a good URL"),
        (
            "http://collector:4318/v1/traces",
            "has a path, as OTLP over HTTP has",
        ),
    ] {
        let line = error(&row("telemetry.otlp_endpoint", &format!("\"{url}\"")), &[]);
        assert!(line.contains(why), "{line}");
        assert!(
            line.contains("write http") && !line.contains("hunter2"),
            "{line}"
        );
    }
}

#[test]
fn a_ratio_is_a_part_of_a_whole() {
    for (value, ratio) in [("0", 0.0), ("1", 1.0), ("0.25", 0.25), ("1.0", 1.0)] {
        let config = good(&row("telemetry.sample_ratio", value), &[]);
        assert_eq!(config.telemetry.sample_ratio.0, ratio);
        let config = good("", &[("USHER_TELEMETRY__SAMPLE_RATIO", value)]);
        assert_eq!(config.telemetry.sample_ratio.0, ratio);
    }
    for value in ["-0.1", "1.5", "nan", "\"0.5\"", "true"] {
        let line = error(&row("telemetry.sample_ratio", value), &[]);
        assert!(line.contains("not a number from 0 to 1"), "{line}");
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
