//! All that the chart tests render is accepted by the API server, strictly; and what it answers is
//! what was sent, where lists have defaults of their CRDs.

use serde_json::{Value, json};

use super::control_plane::ControlPlane;
use crate::{
    helm::{NAME, NAMESPACE, Render},
    matrix,
};

const DRY_RUN: [&str; 7] = [
    "apply",
    "--dry-run=server",
    "--validate=strict",
    "--output",
    "json",
    "--filename",
    "-",
];

fn has_session_persistence(object: &Value) -> bool {
    object["kind"] == "HTTPRoute" && object.to_string().contains("sessionPersistence")
}

pub(super) fn every_object_is_accepted(plane: &ControlPlane) {
    plane.kubectl(&["create", "namespace", NAMESPACE]);
    let class = json!({
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
        "metadata": {"name": "gvisor"}, "handler": "runsc",
    });
    plane.apply(&class.to_string());
    // A pod needs its account to be there.
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
    });
    plane.apply(&account.to_string());
    let mut objects = matrix::objects();
    objects.retain(|object| !has_session_persistence(object));
    assert!(objects.len() > 80, "only {}", objects.len());
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let output = plane.try_kubectl("admin", &DRY_RUN, &list.to_string());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    assert!(!error.contains("Warning"), "{error}");
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let answers = answer["items"].as_array().expect("objects");
    assert_eq!(answers.len(), objects.len());
    for (sent, got) in objects.iter().zip(answers) {
        assert_eq!(sent["metadata"]["name"], got["metadata"]["name"]);
        let own = ["apps", "v1", "policy", "autoscaling", "networking.k8s.io"];
        let group = sent["apiVersion"].as_str().unwrap_or_default();
        if own.contains(&group.split('/').next().unwrap_or_default()) {
            continue;
        }
        let name = format!("{} {}", sent["kind"], sent["metadata"]["name"]);
        lists_are_the_same(&name, &sent["spec"], &got["spec"]);
    }
    println!("{} objects are accepted, strictly", objects.len());
}

/// Argo CD compares lists as they are: a field that the API server fills into an item is a
/// difference that never ends.
fn lists_are_the_same(place: &str, sent: &Value, got: &Value) {
    match (sent, got) {
        (Value::Array(sent), Value::Array(got)) => {
            assert_eq!(sent.len(), got.len(), "{place}");
            for (sent, got) in sent.iter().zip(got) {
                assert_eq!(sent, got, "{place}");
            }
        }
        (Value::Object(sent), Value::Object(got)) => {
            for (key, sent) in sent {
                lists_are_the_same(&format!("{place}.{key}"), sent, &got[key]);
            }
        }
        _ => {}
    }
}

/// So the value is off by default, and says so.
pub(super) fn the_standard_channel_has_no_session_persistence(plane: &ControlPlane) {
    let objects = Render::minimal()
        .set("hosts={push.example.com}")
        .set("public.trustedProxies={10.0.0.0/8}")
        .set("httpRoute.enabled=true")
        .set("httpRoute.parentRefs[0].name=public")
        .set("httpRoute.sessionPersistence=true")
        .set("cookieAffinity.enabled=true")
        .objects();
    let route = objects.one("HTTPRoute", "");
    assert!(has_session_persistence(route));
    let output = plane.try_kubectl("admin", &DRY_RUN, &route.to_string());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("sessionPersistence"), "{error}");
}
