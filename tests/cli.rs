//! The command line, as far as it needs no gateway: usage, help, errors and
//! their exit codes.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    process::{Command, Stdio},
};

/// How a command ended, and what it printed.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs `usher` with these arguments and variables, and no others of ours.
fn usher_with<S: AsRef<OsStr>>(variables: &[(&str, &str)], arguments: &[S]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_usher"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("USHER_") {
            command.env_remove(name);
        }
    }
    let output = command
        .envs(variables.iter().copied())
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("usher runs");
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).expect("text"),
        err: String::from_utf8(output.stderr).expect("text"),
    }
}

fn usher<S: AsRef<OsStr>>(arguments: &[S]) -> Ran {
    usher_with(&[], arguments)
}

impl Ran {
    /// It failed with this code, and said all of these.
    #[track_caller]
    fn failed(&self, code: i32, said: &[&str]) {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        assert_eq!(self.out, "", "what is no result is no output");
        for part in said {
            assert!(self.err.contains(part), "{part:?} is not in {:?}", self.err);
        }
    }

    #[track_caller]
    fn printed(&self, out: &str) {
        assert_eq!((self.code, &*self.out), (Some(0), out), "{}", self.err);
        assert_eq!(self.err, "");
    }
}

const COMMANDS: [&str; 12] = [
    "serve",
    "check",
    "config",
    "ticket",
    "push",
    "broadcast",
    "presence",
    "disconnect",
    "listen",
    "bench",
    "subject",
    "completions",
];

#[test]
fn every_help_teaches_by_example() {
    let overview = usher(&["--help"]).out;
    for command in COMMANDS {
        assert!(
            overview.contains(&format!("\n  {command} ")),
            "{command}: {overview}"
        );
        let help = usher(&[command, "--help"]);
        assert_eq!(help.code, Some(0), "{command}");
        let (_, examples) = help
            .out
            .split_once("\nExamples:\n")
            .unwrap_or_else(|| panic!("{}", help.out));
        assert!(examples.contains(&format!("usher {command}")), "{examples}");
        for line in help.out.lines() {
            assert!(line.chars().count() < 140, "{command}: {line}");
        }
        for line in examples.lines() {
            assert!(line.chars().count() <= 84, "{command}: {line}");
        }
    }
}

/// What an example shows can be typed: all arguments that it gives are known.
#[test]
fn no_example_is_wrong_usage() {
    for (command, arguments) in [
        ("push", &["42", "{}", "--event", "order.completed"][..]),
        (
            "push",
            &["bob@example.com", "not JSON? fine too", "--receipt"],
        ),
        ("push", &["42", "-", "--event", "log"]),
        ("ticket", &["bob@example.com", "--ttl", "5m"]),
        ("presence", &["42", "bob@example.com", "7"]),
        ("disconnect", &["42", "--reason", "your account was closed"]),
        ("disconnect", &["42", "--reconnect"]),
        ("listen", &["--user", "42", "--since", "k3f9.121"]),
        ("listen", &["--ticket", "-rather.long~as_a-ticket"]),
        (
            "bench",
            &[
                "--sessions=1000",
                "--rate=500",
                "--payload=256B",
                "--duration=30s",
                "--topics=50",
                "--durable",
                "--json",
            ],
        ),
    ] {
        // Nobody listens on port 1.
        let nowhere = ["--grpc", "127.0.0.1:1", "--public", "http://127.0.0.1:1"];
        let all = [&[command][..], arguments, &nowhere].concat();
        let ran = usher(&all);
        // No line of standard input is a good end.
        let ends_well = arguments.contains(&"-");
        assert_eq!(
            ran.code,
            Some(if ends_well { 0 } else { 1 }),
            "{all:?}: {}",
            ran.err
        );
    }
}

/// `usher bench` with its four numbers.
fn bench<'a>(
    sessions: &'a str,
    rate: &'a str,
    payload: &'a str,
    duration: &'a str,
) -> [&'a str; 9] {
    [
        "bench",
        "--sessions",
        sessions,
        "--rate",
        rate,
        "--payload",
        payload,
        "--duration",
        duration,
    ]
}

#[test]
fn wrong_usage_is_64_and_says_the_rule() {
    let long = "x".repeat(129);
    for (arguments, said) in [
        (&[][..], &["Usage: usher"][..]),
        (&["serv"], &["serve"]),
        (&["push", "42"], &["<DATA>"]),
        (&["ticket", ""], &["<USER>", "is empty", "1–128 bytes"]),
        (&["push", &long, "x"], &["129 bytes", "1–128 bytes"]),
        (&["subject", "a\nb"], &["control character"]),
        (&["listen", "--user", ""], &["--user", "1–128 bytes"]),
        (
            &["ticket", "42", "--ttl", "60"],
            &["--ttl", "unit", "\"60s\""],
        ),
        (
            &["ticket", "42", "--ttl", "6min"],
            &["--ttl", "ms, s, m or h"],
        ),
        (
            &["ticket", "42", "--ttl", "301s"],
            &["from \"1s\" to \"300s\""],
        ),
        (
            &["ticket", "42", "--ttl", "0s"],
            &["from \"1s\" to \"300s\""],
        ),
        (
            &["push", "42", "x", "--event", "usher.gap"],
            &["--event", "`usher.`"],
        ),
        (&["push", "42", "x", "--event", "a b"], &["A-Z a-z 0-9"]),
        (
            &["push", "42", "x", "--grpc", "localhost"],
            &["--grpc", "127.0.0.1:9090"],
        ),
        (
            &["listen", "--user", "42", "--public", "nats://a"],
            &["--public", "http://127.0.0.1:8080"],
        ),
        (
            &["listen", "--user", "42", "--since", "121"],
            &["k3f9.140.152"],
        ),
        (&["listen"], &["--user <USER>|--ticket <TICKET>"]),
        (
            &["listen", "--user", "42", "--ticket", "x"],
            &["cannot be used with"],
        ),
        (&["listen", "--ticket", "x"], &["16–512 characters"]),
        (&["bench"], &["--sessions <N>", "--rate <R>"]),
        (
            &bench("0", "1", "64B", "1s"),
            &["--sessions", "1..=1000000"],
        ),
        (
            &bench("1000000", "1", "64B", "1s"),
            &["--sessions 1000000", "file descriptor", "ulimit"],
        ),
        (&bench("1", "0", "64B", "1s"), &["--rate", "1..=1000000"]),
        (&bench("1", "1", "63B", "1s"), &["--payload", "\"64B\""]),
        (&bench("1", "1", "9MiB", "1s"), &["--payload", "\"8MiB\""]),
        (&bench("1", "1", "big", "1s"), &["--payload", "KiB"]),
        (&bench("1", "1", "64B", "1"), &["--duration", "\"1s\""]),
        (&bench("1", "1", "64B", "25h"), &["--duration", "\"24h\""]),
        (
            &[&bench("1", "1", "64B", "1s")[..], &["--topics", "257"]].concat(),
            &["--topics 257", "256"],
        ),
        (
            &[
                &bench("1", "1", "64B", "1s")[..],
                &["--topics", "2", "--broadcast"],
            ]
            .concat(),
            &["cannot be used with"],
        ),
        (
            &[&bench("1", "1", "64B", "1s")[..], &["--ops", "ftp://h"]].concat(),
            &["--ops", "http://127.0.0.1:9100"],
        ),
        (
            &["completions", "dos"],
            &["bash, elvish, fish, powershell, zsh"],
        ),
    ] {
        usher(arguments).failed(64, said);
    }
    let bytes = [OsStr::new("subject"), OsStr::from_bytes(b"\xff")];
    usher(&bytes).failed(64, &["UTF-8"]);
}

#[test]
fn bad_configuration_is_78_and_names_the_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "\nbelow the first line\n").expect("written");
    let empty = empty.to_str().expect("a path");
    for (variables, arguments, said) in [
        (
            &[("USHER_GRPC__TOKNS", "x")][..],
            &["push", "42", "x"][..],
            &["USHER_GRPC__TOKENS"][..],
        ),
        (
            &[("USHER_NATS__PREFIX", "a b")],
            &["subject", "42"],
            &["nats.prefix"],
        ),
        (
            &[("USHER_NATS__PREFIX", "a b"), ("USHER_LOG__FORMAT", "x")],
            &["subject", "42"],
            &["usher: log.format", "\nusher: nats.prefix"],
        ),
        (
            &[],
            &["ticket", "42", "--config", "/no/such"],
            &["/no/such"],
        ),
        (
            &[],
            &["ticket", "42", "--token-file", "/no/such"],
            &["--token-file", "/no/such"],
        ),
        (
            &[],
            &["push", "42", "x", "--token-file", empty],
            &["--token-file", "first line"],
        ),
        (
            &[("USHER_GRPC__LISTEN", "127.0.0.1:0")],
            &["push", "42", "x"],
            &["grpc.listen", "--grpc"],
        ),
        (
            &[("USHER_PUBLIC__LISTEN", "127.0.0.1:0")],
            &["listen", "--ticket", "0123456789abcdef"],
            &["public.listen", "--public"],
        ),
    ] {
        usher_with(variables, arguments).failed(78, said);
    }
}

#[test]
fn where_nobody_answers_it_says_where_it_looked_and_what_to_do() {
    let nobody = [
        ("USHER_GRPC__LISTEN", "0.0.0.0:1"),
        ("USHER_GRPC__ALLOW_ANONYMOUS", "true"),
    ];
    for arguments in [
        &["push", "42", "x"][..],
        &["ticket", "42"],
        &["listen", "--user", "42"],
    ] {
        let ran = usher_with(&nobody, arguments);
        ran.failed(1, &["127.0.0.1:1", "is it running?", "--grpc"]);
    }
    // A flag goes before the configuration.
    let ran = usher_with(&nobody, &["push", "42", "x", "--grpc", "[::1]:1"]);
    ran.failed(1, &["[::1]:1"]);

    let ticket = "0123456789abcdef";
    let ran = usher(&["listen", "--ticket", ticket, "--public", "127.0.0.1:1"]);
    ran.failed(1, &["127.0.0.1:1", "is it running?", "--public"]);
    assert!(!ran.err.contains(ticket), "{}", ran.err);
}

#[test]
fn no_error_shows_a_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    let secret = "hunter2hunter2hunter2";
    std::fs::write(&file, secret).expect("written");
    let file = file.to_str().expect("a path");
    let token = [("USHER_GRPC__TOKENS", secret)];
    for (variables, arguments) in [
        (
            &token[..],
            &["push", "42", "x", "--grpc", "127.0.0.1:1"][..],
        ),
        (
            &[],
            &[
                "ticket",
                "42",
                "--token-file",
                file,
                "--grpc",
                "127.0.0.1:1",
            ],
        ),
        // Not a ticket, but what was meant to be one.
        (&[], &["listen", "--ticket", "hunter2hunter2hunter2 "]),
    ] {
        let ran = usher_with(variables, arguments);
        assert_ne!(ran.code, Some(0));
        assert!(!ran.err.contains("hunter2"), "{}", ran.err);
    }
}

#[test]
fn a_subject_is_printed_with_the_configured_prefix() {
    usher(&["subject", "bob@example.com"]).printed("usher.user.bob%40example%2Ecom\n");
    usher(&["subject", "-1"]).printed("usher.user.-1\n");
    usher(&["subject", "--", "--help"]).printed("usher.user.--help\n");
    usher_with(&[("USHER_NATS__PREFIX", "acme.usher")], &["subject", "ü"])
        .printed("acme.usher.user.%C3%BC\n");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("usher.toml");
    std::fs::write(&file, "[nats]\nprefix = \"other\"\n").expect("written");
    let file = file.to_str().expect("a path");
    usher(&["subject", "--config", file, "42"]).printed("other.user.42\n");
}

#[test]
fn shells_can_complete_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = usher(&["completions", shell]);
        assert_eq!((ran.code, &*ran.err), (Some(0), ""), "{shell}");
        for word in COMMANDS.iter().chain(&["receipt", "token-file"]) {
            assert!(ran.out.contains(word), "{shell} does not know {word}");
        }
    }
}

/// `usher completions bash | head -1` is no failure of ours, and no panic.
#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_usher"));
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = command
        .args(["completions", "bash"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .and_then(|child| child.wait_with_output())
        .expect("usher runs");
    assert_eq!(output.status.code(), Some(0));
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// What git, or whoever builds without it, says of the source.
#[test]
fn the_version_names_the_source() {
    let version = env!("CARGO_PKG_VERSION");
    let ran = usher(&["--version"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert_eq!(ran.out, usher(&["-V"]).out);
    let said = ran.out.trim_end();
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("TZ", "UTC")
            .output()
            .ok()?;
        let line = String::from_utf8(output.stdout)
            .expect("text")
            .trim()
            .to_owned();
        output.status.success().then_some(line)
    };
    // In a tarball there is none.
    let top = git(&["rev-parse", "--show-toplevel"]);
    let expected = match top.as_deref() == Some(env!("CARGO_MANIFEST_DIR")) {
        true => {
            let commit = git(&["rev-parse", "HEAD"]).expect("a commit");
            let day = ["log", "-1", "--format=%cd", "--date=format-local:%Y-%m-%d"];
            let day = git(&day).expect("a date");
            format!("usher {version} ({} {day})", &commit[..12])
        }
        false => {
            assert!(said.starts_with(&format!("usher {version}")), "{said}");
            return;
        }
    };
    assert_eq!(said, expected);
}
