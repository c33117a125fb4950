//! However a secret is given, nothing shows it.
//!
//! The input's first two bytes say where the secret is given and where in its
//! text the marker stands; its first line is that text, the rest is what else
//! the file says.

#![no_main]

use std::{env, fs, process};

use libfuzzer_sys::fuzz_target;
use usher_fuzz::config::{load, names_a_device};

/// What must never be seen.
const MARKER: &str = "hunter2";

/// The keys that are secret as they are, by section and name.
const SECRETS: [(&str, &str); 5] = [
    ("grpc", "tokens"),
    ("nats", "token"),
    ("nats", "password"),
    ("redis", "password"),
    ("tickets.jwt", "secret"),
];

/// The URLs into which somebody may write credentials, and how they begin.
const URLS: [(&str, &str, &str); 10] = [
    ("nats", "url", ""),
    ("nats", "url", "nats://"),
    ("nats", "url", "ws://"),
    ("nats", "url", "nats://a,nats://"),
    ("redis", "url", "redis://"),
    ("redis", "url", "rediss://"),
    ("redis", "url", "redis-sentinel://"),
    ("redis", "url", "rediss-cluster://"),
    ("redis", "url", "http://"),
    ("tickets.jwt", "jwks_url", "https://"),
];

fuzz_target!(|input: &[u8]| {
    let [place, at, rest @ ..] = input else {
        return;
    };
    let Ok(text) = std::str::from_utf8(rest) else {
        return;
    };
    if names_a_device(text) || text.contains(MARKER) {
        return;
    }
    let (text, more) = text.split_once('\n').unwrap_or((text, ""));
    let secret = with_marker(text, usize::from(*at));
    let (toml, variable) = given(usize::from(*place), &secret, more);
    let environment: Vec<_> = variable.into_iter().collect();
    let shown = match load(&toml, &environment) {
        Ok(config) => format!("{config:?}\n{}", config.to_toml()),
        Err(error) => format!("{error}\n{error:?}"),
    };
    assert!(!shown.contains(MARKER), "{toml}\n{environment:?}\n{shown}");
});

fn with_marker(text: &str, at: usize) -> String {
    let at = (0..=at % (text.len() + 1))
        .rev()
        .find(|at| text.is_char_boundary(*at));
    let (before, behind) = text.split_at(at.unwrap_or_default());
    format!("{before}{MARKER}{behind}")
}

/// One of the ways to give a secret: the file and a variable.
fn given(place: usize, secret: &str, more: &str) -> (String, Option<(String, String)>) {
    let (place, way) = (place / 8, place % 8);
    let (section, name) = SECRETS[place % SECRETS.len()];
    let (url_section, url_name, scheme) = URLS[place % URLS.len()];
    let url = format!("{scheme}u:{secret}@host");
    let by_file = format!("{name}_file");
    let variable = |section: &str, name: &str, value: &str| {
        let section = section.replace('.', "__");
        let name = format!("usher_{section}__{name}").to_uppercase();
        Some((name, value.to_owned()))
    };
    let file = |section: &str, name: &str, value: &str| {
        (format!("[{section}]\n{name} = {value}\n{more}"), None)
    };
    // Good servers, to all who do not know that it is one password.
    let is_a_list = url_section == "nats" && secret.contains(',') && secret.contains("://");
    match way {
        1 | 5 if is_a_list => (String::new(), None),
        0 => (more.to_owned(), variable(section, name, secret)),
        1 => (more.to_owned(), variable(url_section, url_name, &url)),
        // As it stands: where quotes were forgotten, or closed too early. A key
        // of a table is a name, and is shown.
        2 if secret.contains('{') => (String::new(), None),
        2 => file(section, name, secret),
        3 => file(section, name, &quoted(secret)),
        4 => file(section, name, &format!("[{}]", quoted(secret))),
        5 => file(url_section, url_name, &quoted(&url)),
        6 => {
            let path = env::temp_dir().join(format!("usher-fuzz-{}.secret", process::id()));
            fs::write(&path, secret).expect("a file");
            let path = path.to_str().expect("UTF-8");
            (more.to_owned(), variable(section, &by_file, path))
        }
        // A path is shown, so what begins as one is none.
        7 if secret.starts_with('/') => (String::new(), None),
        _ => (more.to_owned(), variable(section, &by_file, secret)),
    }
}

/// As a string in a file: JSON's are also TOML's.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string")
}
