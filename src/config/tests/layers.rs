//! What the file and the environment may say, and which of them wins.

use super::*;

#[test]
fn nothing_given_is_the_default() {
    assert_eq!(good("", &[]), Config::default());
    assert_eq!(Config::load(None, []).expect("defaults"), Config::default());
}

#[test]
fn the_environment_wins_over_the_file() {
    let file = "[session]\nping_interval = \"10s\"\nidle_timeout = \"30s\"";
    let config = good(file, &[("USHER_SESSION__PING_INTERVAL", "20s")]);
    assert_eq!(config.session.ping_interval, Duration::from_secs(20));
    assert_eq!(config.session.idle_timeout, Duration::from_secs(30));
}

#[test]
fn the_environment_mends_what_the_file_has_wrong() {
    let file = row("session.ping_interval", "25");
    good(&file, &[("USHER_SESSION__PING_INTERVAL", "25s")]);
}

#[test]
fn only_names_with_a_double_underscore_are_ours() {
    let others = [
        ("USHER_PORT", "tcp://10.0.0.1:80"),
        ("USHER", "x"),
        ("A__B", "x"),
    ];
    assert_eq!(good("", &others), Config::default());
}

#[test]
fn lists_have_commas_in_the_environment_and_may_be_empty() {
    let file = row("public.allowed_origins", "[\"https://a.example\"]");
    let name = "USHER_PUBLIC__ALLOWED_ORIGINS";
    let two = good(&file, &[(name, "https://b.example, http://c.example:81")]);
    assert_eq!(
        two.public.allowed_origins,
        ["https://b.example", "http://c.example:81"]
    );
    assert!(good(&file, &[(name, "")]).public.allowed_origins.is_empty());
}

#[test]
fn an_empty_variable_is_a_value_like_any_other() {
    assert_eq!(
        good("", &[("USHER_PUBLIC__PATH_PREFIX", "")]),
        Config::default()
    );
    assert_eq!(
        error("", &[("USHER_PUBLIC__MAX_PENDING", "")]),
        "public.max_pending = \"\" (from USHER_PUBLIC__MAX_PENDING): \
         write a whole number from 0 to 4294967295, without a unit"
    );
    assert_eq!(
        error("", &[("USHER_NATS__PASSWORD", "")]),
        "nats.password (from USHER_NATS__PASSWORD): \
         empty; give it a value, or leave it out altogether"
    );
}

#[test]
fn a_file_that_is_not_there_or_not_toml_is_named() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("absent.toml");
    assert_eq!(
        load_in(&folder, Some(&file), &[]).expect_err("no file"),
        "\"absent.toml\" can't be read: No such file or directory (os error 2); \
         name a file that exists and may be read"
    );
    assert_eq!(
        error("[public]\nlisten = hunter2\n", &[]),
        "\"usher.toml\" is not TOML, see line 2: \
         string values must be quoted, expected literal string"
    );
    assert_eq!(
        error("\n\n[nats]\npassword = 99999999999999999999", &[]),
        "\"usher.toml\" is not TOML, see line 4: a number is too large"
    );
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let file = "lisen = 1\n[session]\nping_interval = 25\n[sesion]\n";
    let lines = error(
        file,
        &[("USHER_NATS__PASWORD", "x"), ("USHER_NATS__PREFIX", "a b")],
    );
    let lines: Vec<_> = lines.lines().collect();
    for name in [
        "lisen",
        "session.ping_interval",
        "sesion",
        "USHER_NATS__PASWORD",
        "nats.prefix",
    ] {
        let named = |line: &&&str| line.starts_with(&format!("{name} "));
        assert_eq!(lines.iter().filter(named).count(), 1, "{name}: {lines:#?}");
    }
    assert_eq!(lines.len(), 5, "{lines:#?}");
    // Contradictions, once each value is good by itself.
    let file = "[offline]\nevents = true\n[session]\nidle_timeout = \"10s\"\n";
    let lines = error(file, &[]);
    assert!(lines.contains("offline.events") && lines.contains("session.idle_timeout"));
    // A file that is no TOML does not hide the environment.
    let lines = error("x", &[("USHER_NATS__PASWORD", "x")]);
    assert_eq!(lines.lines().count(), 2, "{lines}");
}

#[test]
fn a_key_is_given_by_one_of_its_names() {
    let file = "[durable]\nmax_messages_per_user = 5\nmax_messages_per_channel = 6\n";
    let line = error(file, &[]);
    for name in [
        "durable.max_messages_per_user",
        "durable.max_messages_per_channel",
    ] {
        assert!(line.contains(name), "{line}");
    }
    assert!(line.contains("keep one of them"), "{line}");
}

#[test]
fn a_variable_that_lacks_an_underscore_is_named() {
    let variables = [("USHER_PUBLIC_LISTEN", "127.0.0.1:1"), ("USHER_PORT", "x")];
    assert_eq!(
        good("", &variables).ignored,
        [
            "USHER_PUBLIC_LISTEN is ignored: names of ours have two underscores, as \
             USHER_PUBLIC__LISTEN"
        ]
    );
}

#[test]
fn an_unknown_name_is_told_the_nearest() {
    for (toml, name, nearest) in [
        (
            "[session]\nping_intervall = 1",
            "session.ping_intervall",
            "session.ping_interval",
        ),
        (
            "[session]\nping-interval = 1",
            "session.ping-interval",
            "session.ping_interval",
        ),
        (
            "[sesion]\nping_interval = 1",
            "sesion.ping_interval",
            "session.ping_interval",
        ),
        (
            "[session]\nmax_pending = 1",
            "session.max_pending",
            "public.max_pending",
        ),
        ("[grpc]\ntoken = 1", "grpc.token", "grpc.tokens"),
        (
            "[redis]\npassword_fil = 1",
            "redis.password_fil",
            "redis.password_file",
        ),
        ("[nats.x]\npasword = 1", "nats.x.pasword", "nats.password"),
        (
            "[public]\nlisten_file = 1",
            "public.listen_file",
            "public.listen",
        ),
        ("[sesion]", "sesion", "session"),
        ("[public.x]", "public.x", "public"),
        (
            "lisen = 1",
            "lisen",
            "public.listen, grpc.listen or ops.listen",
        ),
        (
            "\"public.listen\" = 1",
            "\"public.listen\"",
            "public.listen",
        ),
        ("log.\"fil\\nter\" = 1", "log.\"fil\\nter\"", "log.filter"),
    ] {
        let expected =
            format!("{name} (in \"usher.toml\") is not a known name; the nearest is {nearest}");
        assert_eq!(error(toml, &[]), expected);
    }
    for (name, nearest) in [
        ("USHER_NATS__PASWORD", "USHER_NATS__PASSWORD"),
        ("USHER_NATS_PASSWORD__FILE", "USHER_NATS__PASSWORD_FILE"),
        (
            "USHER_SESION__PING_INTERVAL",
            "USHER_SESSION__PING_INTERVAL",
        ),
        (
            "USHER_session__ping_interval",
            "USHER_SESSION__PING_INTERVAL",
        ),
    ] {
        let expected =
            format!("{name} (in the environment) is not a known name; the nearest is {nearest}");
        assert_eq!(error("", &[(name, "hunter2")]), expected);
    }
}

#[test]
fn a_section_is_not_a_value_nor_a_value_a_section() {
    for toml in ["public = \"x\"", "[[public]]\nlisten = \"x\""] {
        assert_eq!(
            error(toml, &[]),
            "public (in \"usher.toml\") is a section; write [public], and its keys below it"
        );
    }
    for (toml, mend) in [
        (
            "[public.listen]\nx = 1",
            "listen = \"127.0.0.1:8080\" below [public]",
        ),
        ("[nats]\ntoken = {}", "token = \"…\" below [nats]"),
        ("[nats.token_file]", "token_file = \"/path\" below [nats]"),
    ] {
        let line = error(toml, &[]);
        let end = format!("(in \"usher.toml\") is a value, not a section; write {mend}");
        assert!(line.ends_with(&end), "{line}");
    }
    good("[public]\n[nats]", &[]);
}

#[test]
fn names_of_an_earlier_version_are_understood() {
    let file = "[durable]\nmax_messages_per_user = 7\nmax_broadcasts = 9";
    let config = good(file, &[("USHER_DURABLE__MAX_BROADCASTS", "8")]);
    assert_eq!(config.durable.max_messages_per_channel, 7);
    let [by_file, by_environment] = &config.ignored[..] else {
        panic!("{:?}", config.ignored);
    };
    assert!(by_file.contains("durable.max_broadcasts"), "{by_file}");
    assert!(by_environment.contains("USHER_DURABLE__MAX_BROADCASTS"));
}
