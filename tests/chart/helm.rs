//! Helm, and what it renders.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde::Deserialize as _;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::process::server;

/// Where the project is.
pub(crate) fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the project.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(project().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The release's name and namespace in all renders.
pub(crate) const RELEASE: &str = "live";
pub(crate) const NAMESPACE: &str = "push";
/// What objects are called then.
pub(crate) const NAME: &str = "live-usher";

/// Runs helm, with no settings but its own.
pub(crate) fn helm(arguments: &[&str]) -> Output {
    let home = TempDir::new().expect("a folder");
    Command::new(server("helm"))
        .args(arguments)
        .current_dir(project())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home.path())
        .output()
        .expect("helm runs")
}

/// A chart with values: what `helm template` makes of it.
#[derive(Debug, Clone)]
pub(crate) struct Render {
    chart: PathBuf,
    release: String,
    arguments: Vec<String>,
}

impl Render {
    /// The chart with the values that it cannot do without.
    pub(crate) fn minimal() -> Self {
        Self::bare()
            .set("nats.url=nats://nats.nats.svc:4222")
            .set("redis.url=redis://redis.redis.svc:6379")
            .set("grpc.existingSecret=usher-grpc")
    }

    /// The chart without any values.
    pub(crate) fn bare() -> Self {
        Self::of(project().join("helm"))
    }

    /// Another chart.
    pub(crate) fn of(chart: PathBuf) -> Self {
        Self {
            chart,
            release: RELEASE.to_owned(),
            arguments: Vec::new(),
        }
    }

    /// As a release of this name.
    pub(crate) fn named(mut self, release: &str) -> Self {
        release.clone_into(&mut self.release);
        self
    }

    /// Adds `--set`.
    pub(crate) fn set(mut self, value: &str) -> Self {
        self.arguments.extend(["--set".into(), value.into()]);
        self
    }

    /// Adds values by JSON.
    pub(crate) fn json(mut self, value: &str) -> Self {
        self.arguments.extend(["--set-json".into(), value.into()]);
        self
    }

    /// Adds a file of values.
    pub(crate) fn file(mut self, path: &Path) -> Self {
        let path = path.display().to_string();
        self.arguments.extend(["--values".into(), path]);
        self
    }

    /// What is given to Helm besides the chart.
    pub(crate) fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// What it renders, or what Helm complains of.
    pub(crate) fn try_text(&self) -> Result<String, String> {
        let chart = self.chart.display().to_string();
        let release = &self.release;
        let mut arguments = vec!["template", release, &chart, "--namespace", NAMESPACE];
        arguments.extend(self.arguments.iter().map(String::as_str));
        let output = helm(&arguments);
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout).expect("UTF-8")),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// What it renders.
    pub(crate) fn text(&self) -> String {
        let arguments = &self.arguments;
        self.try_text()
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    /// The objects of what it renders.
    pub(crate) fn objects(&self) -> Objects {
        Objects::parse(&self.text())
    }

    /// Asserts that it is refused in these words.
    #[track_caller]
    pub(crate) fn refused(&self, words: &str) {
        match self.try_text() {
            Ok(_) => panic!("{:?} is not refused", self.arguments),
            Err(error) => assert!(
                error.contains(words),
                "{:?} is refused otherwise than with {words:?}:\n{error}",
                self.arguments
            ),
        }
    }

    /// What Helm tells whoever installs it.
    pub(crate) fn notes(&self) -> String {
        let chart = self.chart.display().to_string();
        let mut arguments = vec!["install", RELEASE, &chart, "--namespace", NAMESPACE];
        arguments.extend(["--dry-run=client", "--output", "json"]);
        arguments.extend(self.arguments.iter().map(String::as_str));
        let output = helm(&arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        let release: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let notes = release.pointer("/info/notes").and_then(Value::as_str);
        notes.expect("notes").to_owned()
    }
}

/// Rendered objects.
#[derive(Debug, Clone)]
pub(crate) struct Objects(pub(crate) Vec<Value>);

impl Objects {
    pub(crate) fn parse(text: &str) -> Self {
        // By its own values first: these refuse a map that has a key twice, as kustomize and
        // Flux do and Helm does not.
        let object = |document| {
            let object = serde_yaml_ng::Value::deserialize(document).expect("YAML");
            serde_json::to_value(object).expect("what JSON can say")
        };
        let objects = serde_yaml_ng::Deserializer::from_str(text)
            .map(object)
            .filter(|object| !object.is_null());
        Self(objects.collect())
    }

    /// All of one kind.
    pub(crate) fn all(&self, kind: &str) -> Vec<&Value> {
        let of_kind = |object: &&Value| object["kind"] == kind;
        self.0.iter().filter(of_kind).collect()
    }

    /// The one of this kind whose name is the release's with this at its end.
    #[track_caller]
    pub(crate) fn one(&self, kind: &str, suffix: &str) -> &Value {
        let name = format!("{NAME}{suffix}");
        let of_kind = self.all(kind);
        let found = of_kind
            .iter()
            .find(|object| object["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("there is no {kind} {name}"))
    }

    /// Kind and name of each.
    pub(crate) fn names(&self) -> Vec<String> {
        let name = |object: &Value| {
            let kind = object["kind"].as_str().unwrap_or_default();
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            format!("{kind} {name}")
        };
        let mut names: Vec<_> = self.0.iter().map(name).collect();
        names.sort();
        names
    }

    /// The gateway's Deployment.
    pub(crate) fn deployment(&self) -> &Value {
        self.one("Deployment", "")
    }

    /// The specification of the gateway's pods.
    pub(crate) fn pod(&self) -> &Value {
        &self.deployment()["spec"]["template"]["spec"]
    }

    /// The program's configuration.
    pub(crate) fn toml(&self) -> &str {
        let map = self.one("ConfigMap", "");
        map["data"]["usher.toml"].as_str().expect("a text")
    }
}

#[test]
fn helm_finds_no_fault() {
    for preset in crate::presets::all() {
        let values = preset.path.display().to_string();
        let output = helm(&["lint", "--strict", "helm", "--values", &values]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}: {said}", preset.name);
        // Advice too.
        assert!(!said.contains("[INFO]"), "{}: {said}", preset.name);
    }
}
