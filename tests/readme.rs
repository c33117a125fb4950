//! The README's own words: what it shows is what is there.

use std::{fs, path::Path};

fn file(path: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_client_is_shown_as_it_is() {
    let client = file("clients/usher.js");
    assert!(
        file("README.md").contains(&format!("```js\n{client}```")),
        "README.md shows another client than clients/usher.js"
    );
}

/// The journeys run the examples and the README's Python lines; the document repeats them.
#[test]
fn publishing_shows_the_lines_of_the_readme_and_the_examples() {
    let sources = [
        "README.md",
        "examples/publishers/python/push.py",
        "examples/publishers/node/push.mjs",
        "examples/publishers/go/push/main.go",
        "examples/publishers/go/pushgrpc/main.go",
        "examples/publishers/python/answer_calls.py",
        "examples/publishers/node/answer_calls.mjs",
    ]
    .map(file);
    let document = file("docs/publishing.md") + &file("docs/calls.md");
    let mut shown = 0;
    for kind in ["python", "js", "go"] {
        for block in document.split(&format!("```{kind}\n")).skip(1) {
            let block = block.split("```").next().unwrap_or_default();
            assert!(
                sources.iter().any(|text| text.contains(block)),
                "the documents show lines that stand neither in README.md nor in the examples:\n{block}"
            );
            shown += 1;
        }
    }
    assert!(shown > 6, "{shown} snippets");
}

#[test]
fn every_make_target_that_it_names_exists() {
    let makefile = file("Makefile");
    let readme = file("README.md");
    let named = readme.lines().filter_map(|line| line.strip_prefix("make "));
    for target in named.map(|rest| rest.split_whitespace().next().unwrap_or_default()) {
        assert!(
            makefile
                .lines()
                .any(|line| line.starts_with(&format!("{target}:"))),
            "make {target} is not there"
        );
    }
}

#[test]
fn every_file_that_it_links_to_is_there() {
    for document in [
        "README.md",
        "docs/publishing.md",
        "docs/calls.md",
        "docs/frontend.md",
        "docs/clients.md",
        "docs/architecture.md",
        "docs/delivery.md",
        "docs/operations.md",
        "docs/kubernetes.md",
        "docs/scale.md",
        "docs/sizing.md",
        "helm/README.md",
        "examples/publishers/README.md",
        "examples/recipes/README.md",
        "docs/recipes/README.md",
        "docs/recipes/chat-room.md",
        "docs/recipes/order-status.md",
        "docs/recipes/typing.md",
        "docs/recipes/llm-answer.md",
    ] {
        let text = file(document);
        let folder = Path::new(document).parent().expect("a folder");
        for link in text.split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let target = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(folder)
                .join(target);
            assert!(target.exists(), "{document} links to {}", target.display());
        }
    }
}

/// The commands of its shell blocks that call `usher` are understood.
#[test]
fn every_usher_command_that_it_shows_is_one() {
    let readme = file("README.md");
    let mut shown = 0;
    for line in readme.lines().filter(|line| line.starts_with("usher ")) {
        let command = line.split(" #").next().unwrap_or_default();
        let name = command.split_whitespace().nth(1).expect("a command");
        let help = std::process::Command::new(env!("CARGO_BIN_EXE_usher"))
            .args([name, "--help"])
            .output()
            .expect("usher runs");
        assert!(help.status.success(), "usher {name} is no command");
        let help = String::from_utf8_lossy(&help.stdout);
        for flag in command
            .split_whitespace()
            .filter(|word| word.starts_with("--"))
        {
            assert!(help.contains(flag), "usher {name} has no {flag}");
        }
        shown += 1;
    }
    assert!(shown > 4, "the README shows the commands");
}
