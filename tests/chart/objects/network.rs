//! Ports, services and routes.

use serde_json::{Value, json};

use super::{behind, items};
use crate::{
    helm::{NAME, Objects, RELEASE, Render},
    presets,
};

/// What selects pods selects the gateway's, and those of nobody else in the release.
#[test]
fn selectors_find_gateways_alone() {
    for preset in presets::all() {
        let objects = preset.render().objects();
        let gateway =
            json!({"app.kubernetes.io/name": "usher", "app.kubernetes.io/instance": RELEASE});
        let spec = &objects.deployment()["spec"];
        assert_eq!(spec["selector"]["matchLabels"], gateway, "{}", preset.name);
        for service in ["", "-grpc", "-ops"] {
            assert_eq!(objects.one("Service", service)["spec"]["selector"], gateway);
        }
        let labels = |object: &Value| match object["kind"].as_str() {
            Some("Deployment") => object["spec"]["template"]["metadata"]["labels"].clone(),
            _ => object["metadata"]["labels"].clone(),
        };
        let workloads = objects
            .0
            .iter()
            .filter(|object| object["kind"] == "Deployment" || object["kind"] == "Pod");
        for workload in workloads {
            let labels = labels(workload);
            let matches = gateway
                .as_object()
                .expect("a map")
                .iter()
                .all(|(key, value)| &labels[key] == value);
            let name = &workload["metadata"]["name"];
            assert_eq!(matches, name == NAME, "{name} of {}", preset.name);
        }
        for object in &objects.0 {
            let labels = &object["metadata"]["labels"];
            for label in [
                "name",
                "instance",
                "component",
                "version",
                "part-of",
                "managed-by",
            ] {
                let label = format!("app.kubernetes.io/{label}");
                assert!(labels[&label].is_string(), "{label}: {object}");
            }
        }
    }
}

#[test]
fn every_port_says_what_it_speaks() {
    for preset in presets::all() {
        let objects = preset.render().objects();
        for service in objects.all("Service") {
            for port in items(&service["spec"]["ports"]) {
                assert!(port["appProtocol"].is_string(), "{service}");
                assert!(port["name"].is_string(), "{service}");
            }
        }
    }
    let plain = Render::minimal().objects();
    let speaks = |objects: &Objects, service: &str| {
        objects.one("Service", service)["spec"]["ports"][0]["appProtocol"].clone()
    };
    assert_eq!(speaks(&plain, ""), "http");
    assert_eq!(speaks(&plain, "-grpc"), "grpc");
    assert_eq!(speaks(&plain, "-ops"), "http");
    let encrypted = presets::objects("encrypted");
    assert_eq!(speaks(&encrypted, ""), "https");
    assert_eq!(speaks(&encrypted, "-grpc"), "https");
    let ws = Render::minimal().set("service.appProtocol=kubernetes.io/ws");
    assert_eq!(speaks(&ws.objects(), ""), "kubernetes.io/ws");
}

#[test]
fn services_are_what_callers_need() {
    let objects = Render::minimal()
        .set("service.sessionAffinity=ClientIP")
        .set("service.sessionAffinitySeconds=600")
        .objects();
    let public = &objects.one("Service", "")["spec"];
    assert_eq!(
        public["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"],
        600
    );
    let grpc = &objects.one("Service", "-grpc")["spec"];
    assert_eq!(grpc["clusterIP"], "None", "callers balance themselves");
    let ops = &objects.one("Service", "-ops")["spec"];
    assert_eq!(ops["publishNotReadyAddresses"], true);
    let plain = Render::minimal().objects();
    assert!(plain.one("Service", "")["spec"]["sessionAffinityConfig"].is_null());
}

/// Where policies are on, the collector of traces is reached on its port.
#[test]
fn traces_have_a_way_out() {
    for (endpoint, port) in [
        ("http://collector.observability.svc:4317", 4317),
        ("https://[2001:db8::1]:4318/", 4318),
        ("https://otlp.example.com", 443),
        ("http://collector", 80),
    ] {
        let objects = Render::minimal()
            .set("networkPolicy.enabled=true")
            .json(&format!("telemetry.otlpEndpoint=\"{endpoint}\""))
            .objects();
        let policy = &objects.one("NetworkPolicy", "")["spec"];
        let last = items(&policy["egress"]).last().expect("rules").clone();
        assert_eq!(last["ports"], json!([{"port": port, "protocol": "TCP"}]));
        let toml = objects.toml();
        assert!(toml.contains("[telemetry]\n"), "{toml}");
        assert!(
            toml.contains(&format!("otlp_endpoint = \"{endpoint}\"")),
            "{toml}"
        );
    }
    let off = Render::minimal().objects();
    assert!(!off.toml().contains("telemetry"), "{}", off.toml());
}

/// Whatever leads in from outside leads to the public Service, and to three paths of it.
#[test]
fn no_way_in_leads_to_operators_or_publishers() {
    for (way, kind) in [
        ("httpRoute", "HTTPRoute"),
        ("traefik", "IngressRoute"),
        ("nginx", "Ingress"),
    ] {
        let objects = behind(way).set("public.pathPrefix=/live").objects();
        let route = objects.one(kind, "").to_string();
        for path in ["/live/ws", "/live/events", "/live/tickets"] {
            assert!(route.contains(path), "{way}: {route}");
        }
        for other in [
            "readyz", "healthz", "metrics", "-ops", "-grpc", "9090", "9100",
        ] {
            assert!(!route.contains(other), "{way} leads to {other}: {route}");
        }
        assert!(!route.to_lowercase().contains("prefix\""), "{way}: {route}");
    }
}
