//! What some values must be besides their type, and several beside each other.

use super::*;

#[test]
fn a_path_prefix_is_a_plain_path() {
    for prefix in ["", "/usher", "/a/b", "/..."] {
        good(&row("public.path_prefix", &format!("\"{prefix}\"")), &[]);
    }
    for prefix in [
        "/", "usher", "/usher/", "//", "/a//b", "/a b", "/ü", "/a%20", "/..", "/a/./b",
    ] {
        let expected = format!(
            "public.path_prefix = \"{prefix}\" (in \"usher.toml\"): must be empty, or a path of \
             letters, digits and -._~ such as \"/usher\", with no / at its end"
        );
        let toml = row("public.path_prefix", &format!("\"{prefix}\""));
        assert_eq!(error(&toml, &[]), expected);
    }
}

#[test]
fn an_origin_is_scheme_host_and_port() {
    for origins in [
        "*",
        "https://app.example.com",
        "http://localhost:3000,https://*.example.com:8443",
        "https://127.0.0.1,https://[::1]:8443,https://bücher.example",
    ] {
        good("", &[("USHER_PUBLIC__ALLOWED_ORIGINS", origins)]);
    }
    for origin in [
        "",
        "null",
        "app.example.com",
        "app.example.com:443",
        "//app.example.com",
        "ws://app.example.com",
        "https://",
        "https://app.example.com/",
        "https://app.example.com/path",
        "https://app.example.com?q",
        "https://app.example.com#f",
        "https://me@app.example.com",
        "https://app.example.com:",
        "https://app.example.com:99999",
        "https://a b",
        "https://*",
        "https://*.",
        "https://*example.com",
        "https://app.*.com",
        "https://*.*.example.com",
    ] {
        let expected = format!(
            "public.allowed_origins = [\"https://a.example\", \"{origin}\"] (in \"usher.toml\"): \
             \"{origin}\" is not an origin; write scheme, host, a port where it is not the usual \
             one, and nothing behind, such as \"https://app.example.com\" or \
             \"https://*.example.com\""
        );
        let list = format!("[\"https://a.example\", \"{origin}\"]");
        assert_eq!(error(&row("public.allowed_origins", &list), &[]), expected);
    }
    assert_eq!(
        error(
            "",
            &[("USHER_PUBLIC__ALLOWED_ORIGINS", "https://a.example,*")]
        ),
        "public.allowed_origins = \"https://a.example,*\" (from USHER_PUBLIC__ALLOWED_ORIGINS): \
         \"*\" allows every origin; write it alone, or leave it out"
    );
}

#[test]
fn a_subject_prefix_can_not_reach_what_is_not_ours() {
    for prefix in ["usher", "acme.usher", "a.$b", "_INBOXES", "a._INBOX", "ü"] {
        good(&row("nats.prefix", &format!("\"{prefix}\"")), &[]);
    }
    for prefix in [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "*",
        "a.*",
        "a*",
        ">",
        "a.>",
        "a b",
        "a\\tb",
        "a\\u0000b",
        "$SYS",
        "$JS.a",
        "_INBOX",
        "_INBOX.a",
    ] {
        let line = error(&row("nats.prefix", &format!("\"{prefix}\"")), &[]);
        assert!(
            line.ends_with(
                "(in \"usher.toml\"): must be words with dots between, such as \"usher\" or \
                 \"acme.usher\": no *, > or space, no empty word, and neither $ nor _INBOX at its \
                 beginning, which are NATS's own"
            ),
            "{line}"
        );
    }
}

#[test]
fn a_log_filter_has_levels() {
    for filter in [
        "warn",
        "OFF",
        "info,usher::bus=debug",
        "usher=trace, error",
        "usher[push]=debug",
    ] {
        good(&row("log.filter", &format!("\"{filter}\"")), &[]);
    }
    for filter in [
        "",
        ",",
        "warning",
        "loud",
        "usher",
        "usher=loud",
        "info,foo=bar",
    ] {
        let line = error(&row("log.filter", &format!("\"{filter}\"")), &[]);
        let expected = format!("log.filter = \"{filter}\" (in \"usher.toml\"): must be a level (");
        assert!(line.starts_with(&expected), "{line}");
    }
}

#[test]
fn a_reply_prefix_is_not_empty_and_has_no_wildcard() {
    good(&row("nats.reply_prefix", "\"_R_\""), &[]);
    for prefix in ["", "*", "_INBOX.>", "_INBOX *", "a b"] {
        let expected = format!(
            "nats.reply_prefix = \"{prefix}\" (in \"usher.toml\"): must be how reply subjects \
             begin, such as \"_INBOX.\", with no *, > or space"
        );
        let toml = row("nats.reply_prefix", &format!("\"{prefix}\""));
        assert_eq!(error(&toml, &[]), expected);
    }
}

#[test]
fn a_push_api_off_loopback_needs_a_guard() {
    for listen in [
        "0.0.0.0:9090",
        "[::]:9090",
        "10.0.0.1:0",
        "[::ffff:10.0.0.1]:1",
    ] {
        assert_eq!(
            error("", &[("USHER_GRPC__LISTEN", listen)]),
            format!(
                "grpc.listen = \"{listen}\" (from USHER_GRPC__LISTEN): whoever reaches it could \
                 push to any user; set grpc.tokens or grpc.tls.client_ca_file, or \
                 grpc.allow_anonymous = true if something else guards it"
            )
        );
        for guard in [
            ("USHER_GRPC__TOKENS", "0123456789abcdef"),
            ("USHER_GRPC__ALLOW_ANONYMOUS", "true"),
        ] {
            good("", &[("USHER_GRPC__LISTEN", listen), guard]);
        }
    }
    for listen in [
        "127.0.0.1:1",
        "127.8.8.8:1",
        "[::1]:1",
        "[::ffff:127.0.0.1]:1",
    ] {
        good("", &[("USHER_GRPC__LISTEN", listen)]);
    }
}

#[test]
fn a_session_is_pinged_before_it_counts_as_idle() {
    for (toml, start) in [
        (
            row("session.ping_interval", "\"60s\""),
            "session.idle_timeout = \"60s\" (the default)",
        ),
        (
            row("session.idle_timeout", "\"25s\""),
            "session.idle_timeout = \"25s\" (in \"usher.toml\")",
        ),
    ] {
        let line = error(&toml, &[]);
        let middle = ": must be longer than session.ping_interval (";
        assert!(line.starts_with(&format!("{start}{middle}")), "{line}");
    }
    let toml = row("session.ping_interval", "\"61s\"");
    assert!(error(&toml, &[]).ends_with(
        "must be longer than session.ping_interval (\"61s\"), or quiet sessions are closed; \
         write for example \"122s\""
    ));
}

#[test]
fn one_way_to_log_in_is_given_whole() {
    for (toml, expected) in [
        (
            "[nats]\nuser = \"u\"",
            "nats.user = \"u\" (in \"usher.toml\"): has no password; set nats.password, or leave \
             nats.user out",
        ),
        (
            "[nats]\npassword = \"hunter2\"",
            "nats.password (in \"usher.toml\"): belongs to no user; set nats.user, or leave \
             nats.password out",
        ),
        (
            "[nats]\nuser = \"u\"\npassword = \"hunter2\"\ntoken = \"hunter3\"",
            "nats.token (in \"usher.toml\"): nats.user is set too; keep one of the two",
        ),
        (
            "[nats]\nuser = \"u\"\ntoken = \"hunter3\"",
            "nats.token (in \"usher.toml\"): nats.user is set too; keep one of the two",
        ),
        (
            "[nats]\nurl = \"nats://u:hunter2@a,nats://b\"\ntoken = \"hunter3\"",
            "nats.token (in \"usher.toml\"): nats.url has credentials too; keep one of the two",
        ),
        (
            "[nats]\nurl = \"nats://hunter2@a\"\ncredentials_file = \"/c\"",
            "nats.credentials_file = \"/c\" (in \"usher.toml\"): nats.url has credentials too; \
             keep one of the two",
        ),
        (
            "[redis]\nuser = \"u\"",
            "redis.user = \"u\" (in \"usher.toml\"): has no password; set redis.password, or leave \
             redis.user out",
        ),
        (
            "[redis]\nurl = \"redis-sentinel://a?master=m\"\n[redis.sentinel]\nuser = \"u\"",
            "redis.sentinel.user = \"u\" (in \"usher.toml\"): has no password; set \
             redis.sentinel.password, or leave redis.sentinel.user out",
        ),
        (
            "[redis.sentinel]\npassword = \"hunter2\"",
            "redis.sentinel.password (in \"usher.toml\"): is for Sentinels, and redis.url names \
             none; write redis-sentinel://HOST:PORT,HOST:PORT/0?master=NAME there, or leave it out",
        ),
    ] {
        assert_eq!(error(toml, &[]), expected);
    }
    for toml in [
        "[nats]\nuser = \"u\"\npassword = \"hunter2\"",
        "[nats]\ntoken = \"hunter3\"",
        "[redis]\nuser = \"u\"\npassword = \"hunter2\"",
        "[redis]\nuser = \"u\"\nurl = \"redis://:hunter2@cache\"",
        "[redis]\npassword = \"hunter2\"",
    ] {
        good(toml, &[]);
    }
}

#[test]
fn files_and_keys_that_go_together_are_given_together() {
    for (toml, expected) in [
        (
            "[public.tls]\nkey_file = \"/k\"",
            "public.tls.key_file = \"/k\" (in \"usher.toml\"): stands alone; set \
             public.tls.certificate_file too, or leave public.tls.key_file out",
        ),
        (
            "[public]\nmax_pending = 8\nmax_pending_per_ip = 9",
            "public.max_pending_per_ip = 9 (in \"usher.toml\"): must be at most \
             public.max_pending (8), of which it is a part; lower it, or write 0 for no limit",
        ),
        (
            "[redis.tls]\ncertificate_file = \"/c\"",
            "redis.tls.certificate_file = \"/c\" (in \"usher.toml\"): stands alone; set \
             redis.tls.key_file too, or leave redis.tls.certificate_file out",
        ),
        (
            "[redis.tls]\nca_file = \"/c\"",
            "redis.tls.ca_file = \"/c\" (in \"usher.toml\"): is for TLS, and redis.url asks for \
             none; write rediss://HOST:PORT there",
        ),
        (
            "[grpc.tls]\nclient_ca_file = \"/c\"",
            "grpc.tls.client_ca_file = \"/c\" (in \"usher.toml\"): needs TLS; set \
             grpc.tls.certificate_file and grpc.tls.key_file too",
        ),
        (
            "[grpc]\nmax_message = \"2MiB\"\nmax_in_flight_bytes = \"1MiB\"",
            "grpc.max_in_flight_bytes = \"1MiB\" (in \"usher.toml\"): must be at least \
             grpc.max_message (\"2MiB\"), or no message of that size gets through; raise it, or \
             lower grpc.max_message",
        ),
        (
            "[nats]\ncredentials_file = \"/c\"\ntoken = \"hunter2\"",
            "nats.credentials_file = \"/c\" (in \"usher.toml\"): nats.token is set too; keep one \
             of the two",
        ),
        (
            "[nats]\nnkey_seed_file = \"/s\"\nuser = \"u\"\npassword = \"hunter2\"",
            "nats.nkey_seed_file = \"/s\" (in \"usher.toml\"): nats.user is set too; keep one \
             of the two",
        ),
        (
            "[nats]\nurl = \"nats://u:hunter2@a,nats://b,nats://v:hunter2@c\"",
            "nats.url (in \"usher.toml\"): has different credentials in it; give all servers \
             the same, or set nats.user and nats.password",
        ),
        (
            "[tickets.jwt]\nissuer = \"i\"",
            "tickets.jwt.issuer = \"i\" (in \"usher.toml\"): goes with a key; set \
             tickets.jwt.secret, tickets.jwt.public_key_file, tickets.jwt.jwks_url or \
             tickets.jwt.oidc_issuer too",
        ),
        (
            "[tickets.jwt]\npublic_key_file = \"/k\"\nsecret = \"0123456789abcdef0123456789abcdef\"",
            "tickets.jwt.public_key_file = \"/k\" (in \"usher.toml\"): tickets.jwt.secret is set \
             too; keep one of the two",
        ),
        (
            "[tickets.jwt]\njwks_url = \"https://h/k\"\nissuer = \"i\"",
            "tickets.jwt.jwks_url (in \"usher.toml\"): needs tickets.jwt.issuer \
             and tickets.jwt.audience, or tokens for others would do; set tickets.jwt.audience",
        ),
        (
            "[tickets.jwt]\npublic_key_file = \"/k\"\nalgorithms = [\"HS256\"]",
            "tickets.jwt.algorithms = [\"HS256\"] (in \"usher.toml\"): \"HS256\" does not go with \
             tickets.jwt.public_key_file; write one that does, or leave it out",
        ),
        (
            "[tickets.jwt]\nsecret = \"0123456789abcdef0123456789abcde\"",
            "tickets.jwt.secret (in \"usher.toml\"): has fewer than 32 bytes; `openssl rand -hex \
             32` prints a good one",
        ),
        (
            "[tickets.jwt]\nconnect = true",
            "tickets.jwt.connect = true (in \"usher.toml\"): goes with a key; set \
             tickets.jwt.secret, tickets.jwt.public_key_file, tickets.jwt.jwks_url or \
             tickets.jwt.oidc_issuer too",
        ),
        (
            "[tickets.jwt]\noidc_issuer = \"https://h\"\naudience = \"a\"\nissuer = \"i\"",
            "tickets.jwt.issuer = \"i\" (in \"usher.toml\"): tickets.jwt.oidc_issuer is set, which \
             is the issuer too; leave this one out",
        ),
        (
            "[tickets.jwt]\noidc_issuer = \"https://h\"",
            "tickets.jwt.oidc_issuer (in \"usher.toml\"): needs tickets.jwt.audience, or tokens for \
             others would do; set it",
        ),
        (
            "[tickets.jwt]\noidc_issuer = \"https://h\"\njwks_url = \"https://h/k\"",
            "tickets.jwt.oidc_issuer (in \"usher.toml\"): tickets.jwt.jwks_url is set too; keep one \
             of the two",
        ),
        (
            "[tickets.jwt]\npublic_key_file = \"/k\"\naudience_claim = \"client_id\"",
            "tickets.jwt.audience_claim = \"client_id\" (in \"usher.toml\"): goes with \
             tickets.jwt.audience; set that too, or leave it out",
        ),
        (
            "[tickets.jwt]\npublic_key_file = \"/k\"\n[tickets.jwt.tls]\nca_file = \"/c\"",
            "tickets.jwt.tls.ca_file = \"/c\" (in \"usher.toml\"): is for tickets.jwt.jwks_url and \
             tickets.jwt.oidc_issuer; set one of them, or leave it out",
        ),
        (
            "[redis]\nurl = \"\"",
            "redis.url (in \"usher.toml\"): is empty, and tickets are kept in Redis; write \
             redis://HOST:PORT, or set tickets.jwt.connect = true where tokens alone open sessions",
        ),
        (
            "[tickets.jwt]\nalgorithms = [\"none\"]",
            "tickets.jwt.algorithms = [\"none\"] (in \"usher.toml\"): \"none\" is no algorithm of \
             tokens that is supported; write HS256, RS256, ES256 or EdDSA",
        ),
        (
            "[public]\ntrusted_proxies = [\"10.0.0.0/8\", \"proxy\"]",
            "public.trusted_proxies = [\"10.0.0.0/8\", \"proxy\"] (in \"usher.toml\"): \"proxy\" is \
             neither an address nor a network such as 10.0.0.0/8",
        ),
    ] {
        assert_eq!(error(toml, &[]), expected);
    }
    good(
        "[grpc]\nlisten = \"0.0.0.0:1\"\n[grpc.tls]\ncertificate_file = \"/c\"\nkey_file = \
         \"/k\"\nclient_ca_file = \"/a\"",
        &[],
    );
    good(
        "[tickets.jwt]\nsecret = \"0123456789abcdef0123456789abcdef\"\nalgorithms = [\"HS512\"]",
        &[],
    );
}
