//! The README's own words: what it shows is what is there.

use std::{fs, path::Path};

fn file(path: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The journeys run this page in a browser.
#[test]
fn the_page_is_shown_as_it_is() {
    let readme = file("README.md");
    let page = file("examples/page/index.html");
    let chapter = readme
        .split("\n## In the browser")
        .nth(1)
        .expect("the chapter");
    let script = chapter
        .split("```")
        .find_map(|part| part.strip_prefix("js\n"));
    let script = script.expect("a script");
    assert!(
        page.contains(script),
        "README.md shows another script than examples/page/index.html"
    );
}

/// The journeys run the examples and the README's programs; the documents repeat them.
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
    let lines = readme.lines();
    // A setting may stand before the command.
    let named = lines.filter_map(|line| {
        line.strip_prefix("make ")
            .or_else(|| Some(line.strip_prefix("USHER_")?.split_once(" make ")?.1))
    });
    for target in named.map(|rest| rest.split_whitespace().next().unwrap_or_default()) {
        assert!(
            makefile
                .lines()
                .any(|line| line.starts_with(&format!("{target}:"))),
            "make {target} is not there"
        );
    }
}

/// Every document of the project but the generated one.
const DOCUMENTS: [&str; 28] = [
    "README.md",
    "SECURITY.md",
    "clients/js/README.md",
    "docs/architecture.md",
    "docs/calls.md",
    "docs/centrifuge.md",
    "docs/clients.md",
    "docs/coming-from.md",
    "docs/delivery.md",
    "docs/frontend.md",
    "docs/glossary.md",
    "docs/kubernetes.md",
    "docs/operations.md",
    "docs/performance.md",
    "docs/publishing.md",
    "docs/release.md",
    "docs/scale.md",
    "docs/sizing.md",
    "docs/testing.md",
    "helm/README.md",
    "examples/publishers/README.md",
    "examples/recipes/README.md",
    "docs/recipes/README.md",
    "docs/recipes/chat-room.md",
    "docs/recipes/order-status.md",
    "docs/recipes/typing.md",
    "docs/recipes/llm-answer.md",
    "CHANGELOG.md",
];

/// What a heading of a document is linked to by.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
    headings
        .map(|line| line.trim_start_matches('#').trim().to_lowercase())
        .map(|line| line.chars().filter(kept).collect::<String>())
        .map(|line| line.replace(' ', "-"))
        .collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut linked = 0;
    for document in DOCUMENTS {
        let text = file(document);
        let folder = Path::new(document).parent().expect("a folder");
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap_or_default();
            if link.contains("://") {
                continue;
            }
            let (target, anchor) = link.split_once('#').unwrap_or((link, ""));
            let path = match target {
                "" => Path::new(document).to_owned(),
                _ => folder.join(target),
            };
            let found = Path::new(env!("CARGO_MANIFEST_DIR")).join(&path);
            assert!(found.exists(), "{document} links to {}", found.display());
            if !anchor.is_empty() {
                let headings = anchors(&file(&path.to_string_lossy()));
                assert!(
                    headings.iter().any(|heading| heading == anchor),
                    "{document} links to {link}: no heading is called so"
                );
            }
            linked += 1;
        }
    }
    assert!(linked > 150, "{linked} links");
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
