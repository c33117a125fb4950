//! How single values are read, printed and refused.

use super::*;

/// A value that is printed as it was written.
#[test]
fn good_values_are_read_and_printed_as_written() {
    for (path, value) in [
        ("public.listen", "\"[::1]:0\""),
        ("public.path_prefix", "\"/a/b-c.d~e_f\""),
        ("public.max_sessions", "4294967295"),
        ("grpc.allow_anonymous", "true"),
        ("grpc.max_connection_age", "\"0s\""),
        ("ops.nats_grace", "\"24h\""),
        ("nats.prefix", "\"acme.usher\""),
        ("nats.reply_prefix", "\"_INBOX.a.\""),
        ("nats.settle", "\"auto\""),
        ("nats.settle", "\"20ms\""),
        ("nats.url", "\"nats://a:4222,nats://[::1]:4222\""),
        (
            "nats.user",
            "\"quote \\\" slash \\\\ line \\n tab \\u0009 del \\u007F é\"",
        ),
        ("redis.url", "\"redis://cache:6380/3\""),
        ("session.idle_timeout", "\"5m\""),
        ("session.max_lifetime", "\"1500ms\""),
        ("session.max_lifetime", "\"90s\""),
        ("session.max_lifetime", "\"87600h\""),
        ("session.max_frame", "\"512B\""),
        ("session.max_frame", "\"1025B\""),
        ("session.queue_bytes", "\"1GiB\""),
        ("log.format", "\"json\""),
        ("telemetry.otlp_endpoint", "\"http://[::1]:4317/\""),
        ("telemetry.sample_ratio", "0.25"),
        ("log.filter", "\"info,usher::bus=debug\""),
    ] {
        // `nats.user` is good only beside a password.
        let password = match path {
            "nats.user" => "password = \"hunter2\"\n",
            _ => "",
        };
        let config = good(&(row(path, value) + password), &[]);
        let line = format!("{} = {value}", path.rsplit_once('.').expect("a path").1);
        let printed = config.to_toml();
        let found = printed.lines().any(|printed| printed.starts_with(&line));
        assert!(found, "{line} is not in {printed}");
    }
}

#[test]
fn bad_values_are_told_the_mend() {
    let listen = "not an IP address and a port; write for example \"127.0.0.1:8080\", \
                  or \"0.0.0.0:8080\" to be reached from other machines";
    let duration = "not a duration; write for example \"25s\": a whole number, and ms, s, m or h";
    let size = "not a size; write for example \"4KiB\": a whole number, and B, KiB, MiB or GiB";
    let count = "write a whole number from 0 to 4294967295, without a unit";
    let zero = "must be more than 0";
    let message = "must be from \"1KiB\" to \"64MiB\"";
    for (path, value, complaint) in [
        ("public.listen", "\"localhost:8080\"", listen),
        ("public.listen", "\":8080\"", listen),
        (
            "public.listen",
            "8080",
            "not an IP address and a port; write for example \"127.0.0.1:8080\"",
        ),
        (
            "session.ping_interval",
            "25",
            "a duration needs its unit; write \"25s\"",
        ),
        (
            "session.ping_interval",
            "\"25\"",
            "a duration needs its unit; write \"25s\"",
        ),
        ("session.ping_interval", "\"25 s\"", duration),
        ("session.ping_interval", "\"2.5s\"", duration),
        ("session.ping_interval", "2.5", duration),
        ("session.ping_interval", "\"-1s\"", duration),
        ("session.ping_interval", "\"s\"", duration),
        ("session.ping_interval", "\"\"", duration),
        ("session.ping_interval", "true", duration),
        ("session.ping_interval", "\"99999999999999999h\"", duration),
        (
            "session.ping_interval",
            "\"87601h\"",
            "too long; write at most \"87600h\"",
        ),
        (
            "session.max_frame",
            "4096",
            "a size needs its unit; write \"4096B\"",
        ),
        (
            "session.compression",
            "\"on\"",
            "must be \"off\": this build's WebSocket library has no permessage-deflate; let the \
             proxy in front compress, or send less",
        ),
        ("session.max_frame", "\"4KB\"", size),
        ("session.max_frame", "\"4k\"", size),
        ("session.max_frame", "\"99999999999GiB\"", size),
        ("public.max_pending", "\"16\"", "write 16, without quotes"),
        ("public.max_pending", "-1", count),
        ("public.max_pending", "4294967296", count),
        ("public.max_pending", "1.0", count),
        (
            "grpc.allow_anonymous",
            "\"yes\"",
            "write true or false, without quotes",
        ),
        (
            "log.format",
            "\"xml\"",
            "not `auto`, `text` or `json`; write for example \"auto\"",
        ),
        ("log.filter", "7", "not text; write for example \"text\""),
        (
            "nats.settle",
            "\"soon\"",
            "not `auto` or a duration; write for example \"auto\" or \"20ms\"",
        ),
        (
            "public.allowed_origins",
            "\"*\"",
            "not a list of texts; write for example [\"one\", \"two\"]",
        ),
        (
            "public.allowed_origins",
            "[1]",
            "not a list of texts; write for example [\"one\", \"two\"]",
        ),
        (
            "nats.user",
            "\"\"",
            "empty; give it a value, or leave it out altogether",
        ),
        ("tickets.key_prefix", "\"\"", "must not be empty"),
        ("tickets.ttl", "\"301s\"", "must be from \"1s\" to \"300s\""),
        (
            "tickets.ttl",
            "\"999ms\"",
            "must be from \"1s\" to \"300s\"",
        ),
        ("session.ping_interval", "\"0s\"", zero),
        ("session.idle_timeout", "\"0s\"", zero),
        ("session.write_timeout", "\"0s\"", zero),
        ("session.queue_messages", "0", zero),
        ("session.queue_bytes", "\"0B\"", zero),
        ("session.total_queue_bytes", "\"0B\"", zero),
        ("session.max_frame", "\"0B\"", zero),
        ("session.frames_per_second", "0", zero),
        ("public.handshake_timeout", "\"0s\"", zero),
        ("public.max_pending", "0", zero),
        ("public.max_sessions_per_user", "0", zero),
        ("redis.timeout", "\"0s\"", zero),
        ("grpc.max_connections", "0", zero),
        ("grpc.max_message", "\"1023B\"", message),
        ("grpc.max_message", "\"65MiB\"", message),
        ("redis.max_in_flight", "0", zero),
        ("redis.pool_size", "0", "must be from 1 to 1024"),
        ("redis.pool_size", "1025", "must be from 1 to 1024"),
    ] {
        let expected = format!("{path} = {value} (in \"usher.toml\"): {complaint}");
        assert_eq!(error(&row(path, value), &[]), expected);
    }
    assert_eq!(
        error("", &[("USHER_GRPC__ALLOW_ANONYMOUS", "1")]),
        "grpc.allow_anonymous = \"1\" (from USHER_GRPC__ALLOW_ANONYMOUS): write true or false"
    );
}

#[test]
fn an_error_line_shows_the_beginning_of_a_long_value() {
    let line = error(
        &row("public.listen", &format!("\"{}\"", "é".repeat(500))),
        &[],
    );
    let beginning = "é".repeat(99);
    let expected = format!("public.listen = \"{beginning}… (in \"usher.toml\"): not an IP");
    assert!(line.starts_with(&expected), "{line}");
}
