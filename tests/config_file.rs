//! `config/usher.toml` is what `usher config` prints, so it cannot go stale.

use std::{fs, path::Path};

use usher::config::Config;

#[test]
fn the_file_is_what_the_program_prints() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/usher.toml");
    let written = fs::read_to_string(&file).expect("the file");
    let printed = Config::default().to_toml();
    assert!(
        written == printed,
        "config/usher.toml is stale; write it anew: cargo run -- config > config/usher.toml"
    );
}

#[test]
fn the_file_can_be_fed_back() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/usher.toml");
    let read = Config::load(Some(&file), []).expect("a good file");
    assert_eq!(read, Config::default());
}
