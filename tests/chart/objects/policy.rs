//! Sidecars, and who may talk to whom.

use serde_json::{Value, json};

use super::items;
use crate::{helm::Render, presets};

#[test]
fn a_sidecar_outlives_the_drain() {
    let annotations = |render: Render| {
        let objects = render
            .set("drain.delay=4s")
            .set("drain.window=30s")
            .objects();
        let template = &objects.deployment()["spec"]["template"];
        template["metadata"]["annotations"].clone()
    };
    let istio = annotations(
        Render::minimal()
            .set("mesh.type=istio")
            .set("mesh.nativeSidecar=false"),
    );
    let settings: Value =
        serde_yaml_ng::from_str(istio["proxy.istio.io/config"].as_str().expect("a text"))
            .expect("YAML");
    assert_eq!(
        settings["proxyMetadata"]["EXIT_ON_ZERO_ACTIVE_CONNECTIONS"],
        "true"
    );
    assert_eq!(settings["proxyMetadata"]["MINIMUM_DRAIN_DURATION"], "9s");
    assert_eq!(settings["terminationDrainDuration"], "39s");
    assert_eq!(settings["holdApplicationUntilProxyStarts"], true);

    assert!(istio["sidecar.istio.io/nativeSidecar"].is_null());
    let native = annotations(Render::minimal().set("mesh.type=istio"));
    assert_eq!(native["sidecar.istio.io/nativeSidecar"], "true");
    let settings = native["proxy.istio.io/config"].as_str().expect("a text");
    assert!(
        settings.contains("MINIMUM_DRAIN_DURATION: 1s"),
        "{settings}"
    );

    let native = annotations(Render::minimal().set("mesh.type=linkerd"));
    assert_eq!(
        native["config.beta.linkerd.io/proxy-enable-native-sidecar"],
        "true"
    );
    assert_eq!(native["config.linkerd.io/shutdown-grace-period"], "44s");
    let classic = annotations(
        Render::minimal()
            .set("mesh.type=linkerd")
            .set("mesh.nativeSidecar=false"),
    );
    assert_eq!(
        classic["config.alpha.linkerd.io/proxy-wait-before-exit-seconds"],
        "39"
    );
    assert!(classic["config.beta.linkerd.io/proxy-enable-native-sidecar"].is_null());

    let none = annotations(Render::minimal());
    assert_eq!(none.as_object().expect("a map").len(), 1, "{none}");
}

#[test]
fn the_policy_lets_in_and_out_only_who_must() {
    let objects = presets::objects("production");
    let policy = &objects.one("NetworkPolicy", "")["spec"];
    assert_eq!(policy["policyTypes"], json!(["Ingress", "Egress"]));
    let ingress = items(&policy["ingress"]);
    assert_eq!(ingress.len(), 3);
    assert_eq!(
        ingress[0],
        json!({"ports": [{"port": "public", "protocol": "TCP"}]})
    );
    assert_eq!(ingress[1]["ports"][0]["port"], "grpc");
    let namespaces = |rule: &Value| -> Vec<String> {
        let peers = items(&rule["from"]).iter();
        let name = |peer: &Value| {
            peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
                .as_str()
                .map(str::to_owned)
        };
        peers.filter_map(name).collect()
    };
    assert_eq!(namespaces(&ingress[1]), ["orders", "chat"]);
    assert_eq!(ingress[2]["ports"][0]["port"], "ops");
    assert_eq!(namespaces(&ingress[2]), ["monitoring"]);
    let egress = items(&policy["egress"]);
    let ports: Vec<_> = egress
        .iter()
        .map(|rule| rule["ports"][0]["port"].clone())
        .collect();
    assert_eq!(ports, [json!(53), json!(4222), json!(6380), json!(4317)]);
    assert!(egress[1]["to"][0]["namespaceSelector"].is_object());
    // Nobody is let in whom nobody has named.
    let bare = Render::minimal()
        .set("networkPolicy.enabled=true")
        .objects();
    let policy = &bare.one("NetworkPolicy", "")["spec"];
    let from = items(&policy["ingress"][1]["from"]);
    assert_eq!(from.len(), 1, "only the test's pod: {from:?}");
    // The demo's servers are the only ones that a demo reaches.
    let demo = presets::objects("linkerd");
    let egress = items(&demo.one("NetworkPolicy", "")["spec"]["egress"]).to_vec();
    let to = &egress[1]["to"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/name"];
    assert_eq!(to, "usher-demo-nats");
    // The keys of a login are fetched from its port.
    let encrypted = presets::objects("encrypted");
    let egress = items(&encrypted.one("NetworkPolicy", "")["spec"]["egress"]).to_vec();
    assert_eq!(egress[3]["ports"][0]["port"], 8443);
}
