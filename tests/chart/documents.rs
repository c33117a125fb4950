//! What the documents say of the chart is so: their commands render, and the values that they
//! name are there.

use std::collections::BTreeSet;

use crate::{
    helm::{Render, read},
    values::documented,
};

const DOCUMENTS: [&str; 3] = ["README.md", "helm/README.md", "docs/kubernetes.md"];

/// Each `helm install` of the documents, in one line.
fn commands() -> Vec<String> {
    let mut found = Vec::new();
    for document in DOCUMENTS {
        let text = read(document).replace("\\\n", " ");
        let commands = text.lines().filter(|line| line.starts_with("helm install"));
        found.extend(commands.map(str::to_owned));
    }
    found
}

#[test]
fn every_command_installs() {
    let commands = commands();
    assert!(commands.len() >= 5, "{commands:?}");
    for command in commands {
        let words: Vec<_> = command.split_whitespace().collect();
        assert_eq!(
            words[..4],
            ["helm", "install", "usher", "./helm"],
            "{command}"
        );
        let mut render = Render::bare();
        for pair in words[4..].chunks(2) {
            match pair {
                ["--set", value] => render = render.set(value),
                other => panic!("{other:?} in {command}"),
            }
        }
        assert!(!render.objects().0.is_empty(), "{command}");
    }
}

#[test]
fn every_value_that_is_named_is_one() {
    let paths: BTreeSet<_> = documented().into_iter().map(|value| value.path).collect();
    let sections: BTreeSet<_> = paths
        .iter()
        .filter_map(|path| path.split_once('.'))
        .map(|(section, _)| section)
        .collect();
    let mut named = 0;
    for document in [
        "docs/kubernetes.md",
        "docs/operations.md",
        "docs/scale.md",
        "helm/templates/NOTES.txt",
        "helm/templates/_validation.tpl",
    ] {
        let text = read(document);
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '_');
        for word in words.map(|word| word.trim_matches('.')) {
            let Some((section, key)) = word.split_once('.') else {
                continue;
            };
            // Keys of the program have underscores where they have several words.
            let camel = key.chars().any(char::is_uppercase)
                && !key.contains('_')
                && key.starts_with(|c: char| c.is_lowercase());
            if !sections.contains(section) || !camel {
                continue;
            }
            named += 1;
            let beginning = format!("{word}.");
            let known =
                paths.contains(word) || paths.iter().any(|path| path.starts_with(&beginning));
            assert!(known, "{document} names {word}");
        }
    }
    assert!(named > 60, "only {named}");
}
