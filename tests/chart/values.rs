//! `helm/README.md`'s table and `helm/values.schema.json` come from the comments of
//! `helm/values.yaml`, so they cannot go stale. To write them anew:
//! `USHER_WRITE=1 cargo test --test chart values`.

use std::{collections::BTreeSet, env, fs};

use serde_json::{Map, Value, json};

use crate::helm::{helm, project, read};

/// One value, as its comment tells of it.
pub(crate) struct Documented {
    /// Such as `session.pingInterval`.
    pub(crate) path: String,
    doc: String,
    directive: Option<String>,
    pub(crate) default: Value,
}

/// All values, in their order.
///
/// # Panics
///
/// Where one has no comment.
pub(crate) fn documented() -> Vec<Documented> {
    let text = read("helm/values.yaml");
    let defaults: Value = serde_yaml_ng::from_str(&text).expect("values.yaml is YAML");
    let mut found = Vec::new();
    let mut path: Vec<(usize, String)> = Vec::new();
    let mut doc: Option<String> = None;
    let mut directive = None;
    // What is deeper than a value that has been told of is a part of it.
    let mut inside: Option<usize> = None;
    for line in text.lines() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        if trimmed.is_empty() || inside.is_some_and(|depth| indent > depth) {
            continue;
        }
        inside = None;
        if let Some(text) = trimmed.strip_prefix("# -- ") {
            doc = Some(text.to_owned());
        } else if let Some(text) = trimmed.strip_prefix("# @schema ") {
            directive = Some(text.to_owned());
        } else if let Some((key, rest)) = trimmed.split_once(':')
            && !trimmed.starts_with('#')
        {
            path.retain(|(depth, _)| *depth < indent);
            path.push((indent, key.to_owned()));
            let names: Vec<_> = path.iter().map(|(_, name)| name.as_str()).collect();
            let dotted = names.join(".");
            match doc.take() {
                Some(doc) => {
                    let pointer = format!("/{}", names.join("/"));
                    let default = defaults.pointer(&pointer).expect("it is there").clone();
                    inside = Some(indent);
                    found.push(Documented {
                        path: dotted,
                        doc,
                        directive: directive.take(),
                        default,
                    });
                }
                None => assert!(
                    rest.is_empty(),
                    "{dotted} has no comment that begins with --"
                ),
            }
        }
    }
    found
}

fn schema() -> Value {
    let mut schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of Usher's chart, made of helm/values.yaml",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "global": {
                "type": "object",
                "description": "What a parent chart gives to all of its subcharts; `imageRegistry` counts here.",
            },
            "enabled": {
                "type": "boolean",
                "description": "For the condition by which a parent chart has this one or not.",
            },
        },
    });
    for value in documented() {
        let mut place = &mut schema;
        let (sections, name) = match value.path.rsplit_once('.') {
            Some((sections, name)) => (sections.split('.').collect(), name),
            None => (Vec::new(), value.path.as_str()),
        };
        for section in sections {
            let open = json!({"type": "object", "additionalProperties": false, "properties": {}});
            if place["properties"].get(section).is_none() {
                let required = place["required"].as_array().cloned().unwrap_or_default();
                place["required"] = required.into_iter().chain([section.into()]).collect();
            }
            let properties = place["properties"].as_object_mut().expect("a map");
            place = properties.entry(section).or_insert(open);
        }
        let schema = value.schema();
        // Null takes a value away, and no template could do without it.
        let types = &schema["type"];
        let nullable = types
            .as_array()
            .is_some_and(|types| types.contains(&"null".into()));
        place["properties"][name] = schema;
        if !nullable {
            let required = place["required"].as_array().cloned().unwrap_or_default();
            place["required"] = required.into_iter().chain([name.into()]).collect();
        }
    }
    schema
}

impl Documented {
    fn schema(&self) -> Value {
        let of = match &self.default {
            Value::String(_) => "string",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "integer",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
            Value::Null => panic!("{} has no default", self.path),
        };
        let mut schema = Map::new();
        schema.insert("type".into(), of.into());
        schema.insert("description".into(), self.doc.as_str().into());
        let directive = match self.directive.as_deref() {
            None => json!({}),
            // As many digits as the templates can count with.
            Some("duration") => json!({"pattern": "^[0-9]{1,12}(ms|s|m|h)$"}),
            Some("size") => json!({"pattern": "^([0-9]{1,18}B|[0-9]{1,9}(KiB|MiB|GiB))$"}),
            // Labels and annotations: the API takes nothing else.
            Some("texts") => json!({"additionalProperties": {"type": "string"}}),
            // Without one there is no probe.
            Some("probe") => json!({"type": ["object", "null"]}),
            Some(text) => serde_json::from_str(text)
                .unwrap_or_else(|error| panic!("@schema of {}: {error}", self.path)),
        };
        if of == "integer" {
            schema.insert("maximum".into(), i32::MAX.into());
        }
        schema.extend(directive.as_object().expect("a map").clone());
        schema.into()
    }
}

fn table() -> String {
    let mut text = String::from("| value | default | |\n|---|---|---|\n");
    for Documented {
        path, doc, default, ..
    } in documented()
    {
        let default = default.to_string().replace('|', "\\|");
        let doc = doc.replace('|', "\\|");
        text += &format!("| `{path}` | `{default}` | {doc} |\n");
    }
    text
}

const BEGIN: &str = "<!-- made of values.yaml: USHER_WRITE=1 cargo test --test chart -->\n";
const END: &str = "<!-- the end of what is made -->\n";

#[test]
fn the_readme_tells_of_every_value() {
    let readme = read("helm/README.md");
    let (head, rest) = readme.split_once(BEGIN).expect("the table's beginning");
    let (_, tail) = rest.split_once(END).expect("the table's end");
    let wanted = format!("{head}{BEGIN}\n{}\n{END}{tail}", table());
    is_up_to_date("helm/README.md", &wanted);
}

#[test]
fn the_schema_knows_every_value() {
    let text = serde_json::to_string_pretty(&schema()).expect("JSON");
    is_up_to_date("helm/values.schema.json", &format!("{text}\n"));
}

#[test]
fn no_value_is_told_of_twice() {
    let paths: Vec<_> = documented().into_iter().map(|value| value.path).collect();
    let distinct: BTreeSet<_> = paths.iter().collect();
    assert_eq!(distinct.len(), paths.len());
    assert!(paths.len() > 100, "only {} values?", paths.len());
}

/// Each value is used by a template: one that nothing reads would be a promise.
#[test]
fn every_value_is_used() {
    let mut templates = String::new();
    for folder in ["helm/templates", "helm/templates/tests"] {
        for file in project().join(folder).read_dir().expect("the templates") {
            let path = file.expect("a file").path();
            if path.is_file() {
                templates += &fs::read_to_string(path).expect("a template");
            }
        }
    }
    // These sections go into the configuration as they are.
    let as_they_are = [
        "public.",
        "grpc.",
        "ops.",
        "nats.",
        "redis.",
        "tickets.",
        "durable.",
        "topics.",
        "calls.",
        "session.",
        "drain.",
        "log.",
        "telemetry.",
    ];
    for value in documented() {
        let last = value.path.rsplit('.').next().unwrap_or_default();
        let used = templates.contains(&value.path)
            || as_they_are.iter().any(|section| value.path.starts_with(section))
            // Such as `$image.tag` of `test.image.tag`.
            || value.path.contains(".image.") && templates.contains(&format!("$image.{last}"));
        assert!(used, "no template uses {}", value.path);
    }
}

#[test]
fn the_chart_has_the_programs_version() {
    let chart = read("helm/Chart.yaml");
    let version = env!("CARGO_PKG_VERSION");
    for line in [
        format!("version: {version}"),
        format!("appVersion: \"{version}\""),
        format!("      image: usher:{version}"),
    ] {
        assert!(
            chart.lines().any(|found| found == line),
            "Chart.yaml has no {line:?}"
        );
    }
}

/// A release is of one version: program, chart, npm package and changelog.
#[test]
fn all_that_is_released_has_one_version() {
    let version = env!("CARGO_PKG_VERSION");
    for file in ["package.json", "package-lock.json"] {
        let json: serde_json::Value =
            serde_json::from_str(&read(&format!("clients/js/{file}"))).expect("JSON");
        assert_eq!(json["version"], version, "clients/js/{file}");
    }
    let changelog = read("CHANGELOG.md");
    let released = changelog
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .find(|heading| *heading != "Unreleased");
    let date = released.and_then(|heading| heading.strip_prefix(&format!("{version} - ")));
    let date = date.unwrap_or_else(|| panic!("CHANGELOG.md begins with {released:?}"));
    let is_date = date.len() == 10 && date.bytes().all(|byte| b"0123456789-".contains(&byte));
    assert!(is_date, "{date}");
}

/// Artifact Hub looks through the images that are named.
#[test]
fn the_chart_names_the_images_that_it_pulls() {
    let chart = read("helm/Chart.yaml");
    let demo = crate::presets::objects("demo");
    let mut images = BTreeSet::new();
    for object in &demo.0 {
        let pod = match object["kind"].as_str() {
            Some("Pod") => &object["spec"],
            Some("Deployment") => &object["spec"]["template"]["spec"],
            _ => continue,
        };
        for container in pod["containers"].as_array().expect("containers") {
            let image = container["image"].as_str().expect("an image");
            images.insert(image.to_owned());
        }
    }
    assert_eq!(images.len(), 4, "{images:?}");
    for image in images {
        let line = format!("      image: {image}");
        assert!(chart.lines().any(|found| found == line), "no {line:?}");
    }
}

/// What is packaged is the chart, and none of what is beside it.
#[test]
fn it_packages() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let target = folder.path().display().to_string();
    let output = helm(&["package", "helm", "--destination", &target]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
}

fn is_up_to_date(path: &str, wanted: &str) {
    let file = project().join(path);
    if env::var_os("USHER_WRITE").is_some() {
        fs::write(&file, wanted).expect("written");
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == wanted,
        "{path} is stale; write it anew: USHER_WRITE=1 cargo test --test chart values"
    );
}
