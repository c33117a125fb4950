//! Labels, annotations and names.

use std::{fs, path::Path};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    helm::{Objects, Render, project},
    presets,
};

#[test]
fn names_fit_whatever_the_release_is_called() {
    let long = "a".repeat(60);
    for name in [
        Render::minimal().set(&format!("fullnameOverride={long}")),
        presets::named("demo")
            .render()
            .set(&format!("nameOverride={long}")),
    ] {
        for object in name.objects().0 {
            let name = object["metadata"]["name"].as_str().expect("a name");
            assert!(name.len() <= 63, "{name}");
            for (label, value) in object["metadata"]["labels"].as_object().expect("labels") {
                assert!(
                    value.as_str().expect("a text").len() <= 63,
                    "{label}: {value}"
                );
            }
        }
    }
}

/// The names of all objects that were made.
fn names(render: Render) -> Vec<String> {
    render.objects().names()
}

#[test]
fn two_long_names_stay_two() {
    let begin = "a".repeat(45);
    let [one, other] =
        ["one", "two"].map(|end| names(Render::minimal().named(&format!("{begin}-{end}"))));
    assert_eq!(one.len(), other.len());
    assert!(one.iter().all(|name| !other.contains(name)), "{one:?}");
    // The same name each time.
    assert_eq!(one, names(Render::minimal().named(&format!("{begin}-one"))));
}

/// Before anything is made: a Service that the API refuses leaves the other objects behind.
#[test]
fn names_that_the_api_refuses_are_refused_in_words() {
    for render in [
        Render::minimal().named("a.b"),
        Render::minimal().named("1push"),
        Render::minimal().set("fullnameOverride=Push"),
        Render::minimal().set("fullnameOverride=push_it"),
        Render::minimal().set("fullnameOverride=-push"),
    ] {
        render.refused("can be no Service's name");
    }
    Render::minimal()
        .set("nameOverride=Live")
        .refused("nameOverride (Live) must be small letters");
    Render::minimal()
        .set("serviceAccount.name=Push")
        .refused("serviceAccount.name (Push) must be small letters");
    let objects = names(Render::minimal().named("a.b").set("fullnameOverride=a-b"));
    assert!(objects.contains(&"Service a-b".to_owned()), "{objects:?}");
}

/// A label of the operator's that is also one of ours is there once. Parsing refuses a map
/// that has a key twice.
#[test]
fn no_map_has_a_key_twice() {
    let render = presets::named("production")
        .render()
        .set("mesh.type=linkerd")
        .json(
            r#"commonLabels={"app.kubernetes.io/part-of":"platform","app.kubernetes.io/name":"other",
            "app.kubernetes.io/managed-by":"nobody","helm.sh/chart":"mine","team":"push"}"#,
        )
        .json(r#"podLabels={"app.kubernetes.io/component":"edge","team":"pods"}"#)
        .json(r#"podAnnotations={"linkerd.io/inject":"disabled","checksum/config":"mine"}"#)
        .json(r#"prometheusRule.alertLabels={"severity":"info","team":"push"}"#)
        .json(r#"serviceMonitor.labels={"team":"metrics"}"#);
    let objects = render.objects();
    let labels = &objects.deployment()["metadata"]["labels"];
    // Selectors and Helm need theirs; the others are the operator's to say.
    assert_eq!(labels["app.kubernetes.io/name"], "usher");
    assert_eq!(labels["app.kubernetes.io/managed-by"], "Helm");
    assert_eq!(labels["app.kubernetes.io/part-of"], "platform");
    assert_eq!(labels["team"], "push");
    let pod = &objects.deployment()["spec"]["template"]["metadata"];
    assert_eq!(pod["labels"]["app.kubernetes.io/component"], "edge");
    assert_eq!(pod["labels"]["team"], "pods");
    assert_eq!(pod["annotations"]["linkerd.io/inject"], "disabled");
    // By this a new configuration makes new pods.
    assert_ne!(pod["annotations"]["checksum/config"], "mine");
    let monitor = &objects.one("ServiceMonitor", "")["metadata"]["labels"];
    assert_eq!(monitor["team"], "metrics");
    let rule = &objects.one("PrometheusRule", "")["spec"]["groups"][0]["rules"][0];
    assert_eq!(rule["labels"]["severity"], "info");
}

/// The templates of pods, of one chart version.
fn templates(version: &str) -> Vec<Value> {
    let folder = TempDir::new().expect("a folder");
    let chart = folder.path().join("usher");
    copy(&project().join("helm"), &chart);
    let file = chart.join("Chart.yaml");
    let text = fs::read_to_string(&file).expect("it is there");
    let own = format!("version: {}", env!("CARGO_PKG_VERSION"));
    assert!(text.lines().any(|line| line == own), "{text}");
    fs::write(&file, text.replace(&own, &format!("version: {version}"))).expect("written");
    let objects: Objects = Render::of(chart).set("demo.enabled=true").objects();
    let deployments = objects.all("Deployment").into_iter();
    deployments
        .map(|object| object["spec"]["template"].clone())
        .collect()
}

#[test]
fn another_version_of_the_chart_keeps_the_pods() {
    let [one, other] = ["3.0.1", "3.0.2"].map(templates);
    assert_eq!(one.len(), 3);
    assert_eq!(one, other);
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in from.read_dir().expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).expect("copied")),
        }
    }
}
