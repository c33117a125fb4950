//! `config/usher.toml` and `docs/configuration.md` come from the table of keys,
//! so they cannot go stale. To write them anew:
//! `USHER_WRITE=1 cargo test --test config_file`.

use std::{env, fmt::Write as _, fs, path::Path};

use usher::config::{Config, reference};

#[test]
fn the_file_is_what_the_program_prints() {
    is_up_to_date("config/usher.toml", &Config::default().to_toml());
}

#[test]
fn the_file_can_be_fed_back() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/usher.toml");
    let read = Config::load(Some(&file), []).expect("a good file");
    assert_eq!(read, Config::default());
}

#[test]
fn the_document_tells_of_every_key() {
    is_up_to_date("docs/configuration.md", &document());
}

fn is_up_to_date(path: &str, wanted: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if env::var_os("USHER_WRITE").is_some() {
        fs::write(&file, wanted).expect("written");
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == wanted,
        "{path} is stale; write it anew: USHER_WRITE=1 cargo test --test config_file"
    );
}

fn document() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         A TOML file (`--config FILE`), then the environment; the later wins. `usher config` \
         prints what is in effect, `usher check` tries it out. If a key is unknown or a value is \
         bad, Usher does not start (exit code 78). It prints one line for each fault, with the \
         nearest key or a good value.\n\n\
         In the environment a key is `USHER_SECTION__KEY`; lists have commas between, and an \
         empty variable is an empty list. Usher ignores names without a double \
         underscore. If a second underscore would make a key of one (`USHER_NATS_URL`), `serve` and \
         `check` warn. \
         Durations are written `500ms`, `25s`, `5m`, `24h`; sizes `512B`, `4KiB`, `1MiB`, \
         `1GiB`. A secret KEY may be given as `KEY_file = \"/path\"`, whose last newline is \
         dropped; credentials inside a URL are secrets too. A listener may use port 0: the \
         start-up log says what was bound.\n",
    );
    let mut section = "";
    for key in reference() {
        let (of, name) = key.key.rsplit_once('.').expect("a section and a name");
        if of != section {
            section = of;
            let _ = write!(
                text,
                "\n## {section}\n\n{}\n\n| key | type | default | |\n|---|---|---|---|\n",
                key.section
            );
        }
        let default = match &key.default {
            Some(default) => format!("`{default}`"),
            None => "none".to_owned(),
        };
        let secret = match (key.secret, key.kind.starts_with("a list")) {
            (true, true) => " Secret: also as a file, one a line.",
            (true, false) => " Secret: also as a file.",
            (false, _) => "",
        };
        let doc = key.doc.replace('|', "\\|");
        let _ = writeln!(
            text,
            "| `{name}` | {} | {default} | {doc}{secret} |",
            key.kind
        );
    }
    text
}
