//! The Dockerfile, as far as it can be read: what it copies is there and let through, and what
//! it promises is what the chart counts on. `make image-check` builds and runs what it builds.

use std::{collections::BTreeSet, process::Command};

use crate::{
    helm::{Render, project, read},
    support::process::server,
};

/// The words after an instruction, wherever it stands.
fn instructions(name: &str) -> Vec<String> {
    let text = read("Dockerfile").replace("\\\n", " ");
    let rest = |line: &str| line.strip_prefix(name).map(|rest| rest.trim().to_owned());
    text.lines().filter_map(rest).collect()
}

#[test]
fn its_linter_finds_no_fault() {
    let mut command = Command::new(server("hadolint"));
    let output = command.arg(project().join("Dockerfile")).output();
    let output = output.expect("hadolint runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
}

#[test]
fn it_copies_what_is_there_and_let_through() {
    let ignored = read(".dockerignore");
    let allowed: BTreeSet<_> = ignored
        .lines()
        .filter_map(|line| line.strip_prefix('!'))
        .collect();
    assert!(
        ignored.lines().any(|line| line == "*"),
        "everything else stays out"
    );
    let mut copied = BTreeSet::new();
    for copy in instructions("COPY ") {
        let words: Vec<_> = copy.split_whitespace().collect();
        if words[0].starts_with("--from") {
            continue;
        }
        for source in &words[..words.len() - 1] {
            assert!(project().join(source).exists(), "there is no {source}");
            copied.insert((*source).to_owned());
        }
    }
    let copied: BTreeSet<_> = copied.iter().map(String::as_str).collect();
    assert_eq!(copied, allowed);
}

#[test]
fn it_is_what_the_chart_counts_on() {
    let objects = Render::minimal().objects();
    let user = &objects.pod()["securityContext"]["runAsUser"];
    let group = &objects.pod()["securityContext"]["runAsGroup"];
    assert_eq!(instructions("USER "), [format!("{user}:{group}")]);
    let ports = objects.pod()["containers"][0]["ports"]
        .as_array()
        .expect("ports")
        .clone();
    let ports: Vec<_> = ports
        .iter()
        .map(|port| port["containerPort"].to_string())
        .collect();
    assert_eq!(instructions("EXPOSE "), [ports.join(" ")]);
    // The judge of helm test looks for it there.
    assert_eq!(instructions("ENTRYPOINT "), [r#"["/usher"]"#]);
    assert!(read("helm/files/test.sh").contains(":-/usher}"));
    assert_eq!(instructions("FROM "), ["${RUST} AS build", "scratch"]);
    let compiler = instructions("ARG RUST=").join(" ");
    let (_, digest) = compiler.split_once("@sha256:").expect("a digest");
    assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(instructions("ARG VERSION="), [env!("CARGO_PKG_VERSION")]);
    // Which source it is, for the program and for the label.
    assert_eq!(instructions("ARG REVISION"), ["=unknown", "=unknown"]);
    let labels = instructions("LABEL ").join(" ");
    for label in [
        "title",
        "description",
        "licenses",
        "version",
        "revision",
        "created",
        "source",
    ] {
        assert!(
            labels.contains(&format!("org.opencontainers.image.{label}=")),
            "{label}"
        );
    }
}

/// Scanners find nothing in a static program that does not name its crates, and jemalloc refuses
/// larger pages than it was built for.
#[test]
fn its_program_names_its_crates_and_starts_on_every_arm() {
    let build = read("image/build.sh");
    for line in [
        "cargo auditable build --release --locked --target \"$target\" --bin usher",
        "aarch64-*) export JEMALLOC_SYS_WITH_LG_PAGE=16 ;;",
    ] {
        assert!(build.lines().any(|found| found.trim() == line), "{line}");
    }
    assert!(read("image/check.sh").contains(".dep-v0"));
}

/// A mirror's login is in no layer.
#[test]
fn each_step_that_fetches_has_the_mirrors_secrets() {
    let steps = instructions("RUN ");
    assert_eq!(steps.len(), 2, "{steps:?}");
    for step in steps {
        for secret in ["id=cargo-config", "id=cargo-credentials"] {
            assert!(
                step.contains(&format!("--mount=type=secret,{secret}")),
                "{step}"
            );
        }
    }
}
