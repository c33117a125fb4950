//! What operators add of their own.

use serde_json::{Value, json};

use super::items;
use crate::{
    helm::{NAME, Objects, Render},
    presets,
};

fn has<'a>(list: &'a Value, name: &str) -> &'a Value {
    let found = items(list).iter().find(|item| item["name"] == name);
    found.unwrap_or_else(|| panic!("there is no {name} in {list}"))
}

#[test]
fn pods_get_what_operators_add() {
    let objects = Render::minimal()
        .json(r#"initContainers=[{"name":"wait","image":"busybox"}]"#)
        .json(r#"envFrom=[{"secretRef":{"name":"usher-env"}}]"#)
        .json(r#"dnsConfig={"options":[{"name":"ndots","value":"2"}]}"#)
        .json(r#"hostAliases=[{"ip":"10.0.0.1","hostnames":["nats.local"]}]"#)
        .set("runtimeClassName=gvisor")
        .set("deploymentAnnotations.reloader=yes")
        .set("commonAnnotations.team=push")
        .objects();
    let pod = objects.pod();
    has(&pod["initContainers"], "wait");
    let test = &objects.one("Pod", "-test")["spec"];
    // The test reaches the gateways as they reach their servers.
    for pod in [pod, test] {
        assert_eq!(pod["runtimeClassName"], "gvisor");
        assert_eq!(pod["dnsConfig"]["options"][0]["name"], "ndots");
        assert_eq!(pod["hostAliases"][0]["ip"], "10.0.0.1");
        let from = &pod["containers"][0]["envFrom"][0]["secretRef"]["name"];
        assert_eq!(from, "usher-env");
    }
    let annotations = &objects.deployment()["metadata"]["annotations"];
    assert_eq!(annotations, &json!({"reloader": "yes", "team": "push"}));
    for object in &objects.0 {
        assert_eq!(
            object["metadata"]["annotations"]["team"], "push",
            "{object}"
        );
    }
    // Not the pods: a word about the team replaces none.
    let template = &objects.deployment()["spec"]["template"]["metadata"]["annotations"];
    assert!(template["team"].is_null());
}

#[test]
fn every_service_has_the_families_that_are_asked_for() {
    let objects = Render::minimal()
        .set("service.ipFamilyPolicy=PreferDualStack")
        .set("service.ipFamilies={IPv6,IPv4}")
        .set("service.trafficDistribution=PreferClose")
        .set("grpc.service.type=LoadBalancer")
        .objects();
    let services = objects.all("Service");
    assert_eq!(services.len(), 4);
    for service in services {
        let spec = &service["spec"];
        assert_eq!(spec["ipFamilyPolicy"], "PreferDualStack", "{service}");
        assert_eq!(spec["ipFamilies"], json!(["IPv6", "IPv4"]), "{service}");
    }
    let public = &objects.one("Service", "")["spec"];
    assert_eq!(public["trafficDistribution"], "PreferClose");
    let plain = Render::minimal().objects();
    let plain = plain.one("Service", "")["spec"].to_string();
    assert!(!plain.contains("ipFamil") && !plain.contains("Distribution"));
}

/// A headless Service can't become one with an address, so there is a second one.
#[test]
fn callers_outside_of_the_cluster_have_a_service() {
    let objects = Render::minimal()
        .set("grpc.service.type=LoadBalancer")
        .set("grpc.service.annotations.internal=yes")
        .set("grpc.service.loadBalancerClass=inner")
        .set("grpc.service.loadBalancerSourceRanges={10.0.0.0/8}")
        .objects();
    let outside = objects.one("Service", "-grpc-outside");
    assert_eq!(outside["metadata"]["annotations"]["internal"], "yes");
    let spec = &outside["spec"];
    assert_eq!(spec["type"], "LoadBalancer");
    assert_eq!(spec["loadBalancerClass"], "inner");
    assert_eq!(spec["ports"][0]["targetPort"], "grpc");
    assert_eq!(spec["ports"][0]["appProtocol"], "grpc");
    let inside = &objects.one("Service", "-grpc")["spec"];
    assert_eq!(inside["clusterIP"], "None");
    assert_eq!(spec["selector"], inside["selector"]);
    for (value, words) in [
        ("grpc.service.nodePort=30090", "needs grpc.service.type"),
        (
            "grpc.service.loadBalancerClass=x",
            "need grpc.service.type LoadBalancer",
        ),
    ] {
        Render::minimal().set(value).refused(words);
    }
}

/// As trust-manager and OpenShift bring it.
#[test]
fn a_config_map_may_hold_the_authority() {
    let objects = Render::minimal()
        .set("nats.tls.caConfigMap=bundle")
        .set("nats.tls.caKey=ca-bundle.crt")
        .set("nats.tls.existingSecret=client")
        .set("nats.tls.clientCertificate=true")
        .set("redis.url=rediss://redis:6380")
        .set("redis.tls.caConfigMap=bundle")
        .objects();
    let volumes = &objects.pod()["volumes"];
    let sources = &has(volumes, "tls-nats")["projected"]["sources"];
    let ca = json!([{"key": "ca-bundle.crt", "path": "ca.crt"}]);
    assert_eq!(
        sources[0]["configMap"],
        json!({"name": "bundle", "items": ca})
    );
    let own = json!([{"key": "tls.crt", "path": "tls.crt"}, {"key": "tls.key", "path": "tls.key"}]);
    assert_eq!(
        sources[1]["secret"],
        json!({"name": "client", "items": own})
    );
    let sources = &has(volumes, "tls-redis")["projected"]["sources"];
    assert_eq!(items(sources).len(), 1);
    let toml = objects.toml();
    for line in [
        "ca_file = \"/etc/usher/tls/nats/ca.crt\"",
        "key_file = \"/etc/usher/tls/nats/tls.key\"",
        "ca_file = \"/etc/usher/tls/redis/ca.crt\"",
    ] {
        assert!(toml.lines().any(|found| found == line), "no {line}: {toml}");
    }
    let mounts = &objects.pod()["containers"][0]["volumeMounts"];
    has(mounts, "tls-nats");
    has(mounts, "tls-redis");
    Render::minimal()
        .set("nats.tls.caConfigMap=bundle")
        .set("nats.tls.existingSecret=client")
        .refused("nats.tls.caConfigMap and nats.tls.existingSecret both hold the CA");
}

fn policy(render: Render) -> (Vec<Value>, Vec<Value>) {
    let objects: Objects = render.set("networkPolicy.enabled=true").objects();
    let spec = &objects.one("NetworkPolicy", "")["spec"];
    (
        items(&spec["ingress"]).to_vec(),
        items(&spec["egress"]).to_vec(),
    )
}

#[test]
fn the_policy_follows_where_things_are() {
    let peer =
        r#"[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"gateways"}}}]"#;
    let (ingress, egress) = policy(
        Render::minimal()
            .json(&format!("networkPolicy.publicFrom={peer}"))
            .json("networkPolicy.dnsPorts=[53,5353]"),
    );
    assert_eq!(ingress[0]["ports"][0]["port"], "public");
    let peer: Value = serde_json::from_str(peer).expect("JSON");
    // And the pod of helm test, which opens a session.
    assert_eq!(ingress[0]["from"], json!([peer[0], ingress[1]["from"][0]]));
    let test = &ingress[1]["from"][0]["podSelector"]["matchLabels"];
    assert_eq!(test["app.kubernetes.io/name"], "usher-test");
    let dns = json!([
        {"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"},
        {"port": 5353, "protocol": "UDP"}, {"port": 5353, "protocol": "TCP"},
    ]);
    assert_eq!(egress[0]["ports"], dns);
}

/// The node's proxies speak HBONE, port 15008; there is no sidecar to speak to.
#[test]
fn ambient_mode_has_no_sidecar() {
    let render = Render::minimal()
        .set("mesh.type=istio")
        .set("mesh.ambient=true");
    let objects = render.objects();
    let metadata = &objects.deployment()["spec"]["template"]["metadata"];
    assert_eq!(metadata["labels"]["istio.io/dataplane-mode"], "ambient");
    assert!(metadata["labels"]["sidecar.istio.io/inject"].is_null());
    assert!(metadata["annotations"]["proxy.istio.io/config"].is_null());
    let (ingress, egress) = policy(render);
    let hbone = json!({"ports": [{"port": 15008, "protocol": "TCP"}]});
    assert!(ingress.contains(&hbone) && egress.contains(&hbone));
    // The kubelet's probes come from these addresses then.
    let [v4, v6] = [
        "169.254.7.127/32",
        "fd16:9254:7127:1337:ffff:ffff:ffff:ffff/128",
    ]
    .map(|cidr| json!({"ipBlock": {"cidr": cidr}}));
    assert_eq!(ingress[2]["ports"][0]["port"], "ops");
    let from = items(&ingress[2]["from"]);
    assert!(from.contains(&v4) && from.contains(&v6), "{from:?}");
    Render::minimal()
        .set("mesh.ambient=true")
        .refused("mesh.ambient is a mode of Istio's");
}

#[test]
fn whole_names_end_with_the_clusters_domain() {
    let host = |objects: &Objects| objects.one("DestinationRule", "")["spec"]["host"].clone();
    let usual = host(&presets::objects("istio"));
    assert_eq!(usual, format!("{NAME}.push.svc.cluster.local"));
    let own = presets::named("istio")
        .render()
        .set("clusterDomain=corp.example");
    assert_eq!(
        host(&own.objects()),
        format!("{NAME}.push.svc.corp.example")
    );
}
