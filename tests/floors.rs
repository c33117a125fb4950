//! Keeps the floors: a file imports only from floors below its own, and each
//! foreign crate only where it lives. Reads the sources, as a reader would.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Modules from the ground up; `docs/architecture.md` says what each is for.
const FLOORS: [&[&str]; 8] = [
    &[
        "accepting",
        "channel",
        "client_address",
        "close",
        "finding",
        "frame",
        "grants",
        "jitter",
        "last_good",
        "message",
        "origin",
        "position",
        "proto",
        "provoke",
        "reach",
        "secret",
        "supervision",
        "tls",
        "trace",
        "user",
    ],
    &["metrics", "readiness", "telemetry"],
    &["bus", "tickets", "tokens"],
    &["registry"],
    &["control", "durable", "presence"],
    &["http", "api"],
    &["app", "config"],
    &["cli"],
];

/// The same floor, yet one of them may look at the other.
const NEIGHBOURS: [(&str, &str); 14] = [
    // A bad certificate leaves the one before it in use.
    ("tls", "last_good"),
    // A message may belong to a trace.
    ("message", "trace"),
    // Spans that are lost are counted.
    ("telemetry", "metrics"),
    // A frame is made of a message, and says how a session ended.
    ("frame", "message"),
    ("frame", "close"),
    // A topic has the rule of a user id, and a position names topics as subjects do.
    ("channel", "user"),
    ("grants", "channel"),
    ("message", "channel"),
    ("frame", "channel"),
    // The Centrifuge protocol's messages in Protobuf.
    ("frame", "proto"),
    ("position", "channel"),
    ("position", "user"),
    // A test may ask any task to panic.
    ("supervision", "provoke"),
    // The top reads the configuration.
    ("app", "config"),
];

/// A foreign crate, and the only modules, or files of a module, that know it.
const HOMES: [(&str, &[&str]); 24] = [
    ("tower", &["cli", "api", "telemetry"]),
    ("jsonwebtoken", &["tokens"]),
    ("ring", &["tokens", "tls"]),
    ("nkeys", &["bus"]),
    ("tokio_rustls", &["tls"]),
    ("rustls", &["tls"]),
    ("rustls_native_certs", &["tls"]),
    ("ipnet", &["client_address"]),
    ("async_nats", &["bus"]),
    ("deadpool", &["tickets"]),
    ("deadpool_redis", &["tickets"]),
    ("redis", &["tickets"]),
    ("dashmap", &["registry"]),
    ("warp", &["http", "api/json"]),
    ("hyper", &["http", "api", "cli", "tokens"]),
    ("tonic", &["api", "proto", "cli", "telemetry"]),
    ("tonic_types", &["api", "cli"]),
    ("opentelemetry_proto", &["telemetry"]),
    ("h2", &["cli"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("indicatif", &["cli"]),
    ("tokio_tungstenite", &["cli"]),
    ("prometheus", &["metrics", "http"]),
];

/// Lines of a file at most.
const MAX_LINES: usize = 400;

#[test]
fn a_file_imports_only_from_floors_below() {
    let mut wrong = Vec::new();
    for (path, module, text) in sources() {
        if module == "lib" || module == "main" {
            continue;
        }
        let floor = floor_of(&module).unwrap_or_else(|| panic!("{module} has no floor: {path:?}"));
        for other in imports(&text) {
            let Some(below) = floor_of(&other) else {
                continue;
            };
            let neighbour = NEIGHBOURS.contains(&(module.as_str(), other.as_str()));
            if other != module && below >= floor && !neighbour {
                wrong.push(format!("{}: {module} imports {other}", path.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "against the floors:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn a_foreign_crate_is_known_only_where_it_lives() {
    let mut wrong = Vec::new();
    for (path, module, text) in sources() {
        for (krate, homes) in HOMES {
            let known = text.lines().any(|line| {
                let line = line.trim_start();
                let names = |word: &str| {
                    line.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':')
                        .any(|part| part.starts_with(word))
                };
                !line.starts_with("//") && names(&format!("{krate}::"))
            });
            let at_home = |home: &&str| match home.contains('/') {
                true => path.with_extension("").starts_with(home),
                false => *home == module,
            };
            if known && !homes.iter().any(at_home) {
                wrong.push(format!(
                    "{}: {krate} is not at home in {module}",
                    path.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "away from home:\n{}", wrong.join("\n"));
}

/// What strangers publish is read by our own reader: a client's parser would drop the
/// connection of all over one odd header.
#[test]
fn async_nats_reads_nothing_that_strangers_publish() {
    for (path, _, text) in sources() {
        let reading = [
            "bus/interest",
            "bus/stream",
            "bus/caller",
            "bus/calls",
            "bus/service",
        ];
        let reads = reading
            .iter()
            .any(|module| path.with_extension("").starts_with(module));
        assert!(
            !(reads && text.contains("async_nats::")),
            "{}: async_nats is only for what the gateway itself says and asks",
            path.display()
        );
    }
}

/// A file holds one idea, with its unit tests beside it where they are many.
#[test]
fn no_file_is_long() {
    let mut wrong = Vec::new();
    for (path, _, text) in sources() {
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        // The table of keys is as long as there are keys.
        if path == Path::new("config/keys.rs") {
            continue;
        }
        let lines = text.lines().count();
        if lines > MAX_LINES {
            wrong.push(format!("{}: {lines} lines", path.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "above {MAX_LINES} lines:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn every_module_has_a_floor_and_every_floor_its_modules() {
    let modules: BTreeSet<String> = sources().into_iter().map(|(_, module, _)| module).collect();
    let floors: BTreeSet<String> = FLOORS
        .iter()
        .copied()
        .flatten()
        .map(|module| (*module).to_owned())
        .collect();
    let others = ["lib", "main"].map(str::to_owned).into();
    assert_eq!(
        modules
            .difference(&others)
            .cloned()
            .collect::<BTreeSet<_>>(),
        floors
    );
}

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|modules| modules.contains(&module))
}

/// The modules that a text names after `crate::`, grouped imports included.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => drop(found.insert(word(rest))),
            Some(group) => {
                let mut depth = 1;
                let mut start = true;
                for (i, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 1 => start = true,
                        c if start && c.is_alphabetic() => {
                            found.insert(word(&group[i..]));
                            start = false;
                        }
                        _ => {}
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
        }
    }
    found
}

fn word(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// Each source file with its module and its text.
fn sources() -> Vec<(PathBuf, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    collect(&root, &root, &mut found);
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<(PathBuf, String, String)>) {
    for entry in fs::read_dir(folder).expect("a source folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(root, &path, found);
            continue;
        }
        let inside = path.strip_prefix(root).expect("below the root");
        let first = inside.components().next().expect("a name").as_os_str();
        let module = first.to_string_lossy().trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&path).expect("a source file");
        found.push((inside.to_owned(), module, text));
    }
}
