//! What matters of what is rendered, said once more in words.

mod extras;
pub(crate) mod labels;
mod network;
mod policy;
mod proxies;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    helm::{NAME, NAMESPACE, Objects, RELEASE, Render},
    presets,
};

/// With a way in, and what that needs.
fn behind(way: &str) -> Render {
    let render = Render::minimal()
        .set("hosts={push.example.com}")
        .set("public.trustedProxies={10.0.0.0/8}")
        .set(&format!("{way}.enabled=true"));
    match way {
        "httpRoute" => render.set("httpRoute.parentRefs[0].name=public"),
        _ => render,
    }
}

/// Every specification of pods: of Deployments, and the test's.
fn pods(objects: &Objects) -> Vec<(&str, &Value)> {
    let of = |object: &'_ Value| match object["kind"].as_str() {
        Some("Pod") => Some("/spec"),
        Some("Deployment") => Some("/spec/template/spec"),
        _ => None,
    };
    let found = objects.0.iter().filter_map(|object| {
        let name = object["metadata"]["name"].as_str()?;
        Some((name, object.pointer(of(object)?)?))
    });
    found.collect()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[test]
fn what_is_not_asked_for_is_not_there() {
    assert_eq!(
        Render::minimal().objects().names(),
        [
            format!("ConfigMap {NAME}"),
            format!("Deployment {NAME}"),
            format!("Pod {NAME}-test"),
            format!("PodDisruptionBudget {NAME}"),
            format!("Service {NAME}"),
            format!("Service {NAME}-grpc"),
            format!("Service {NAME}-ops"),
            format!("ServiceAccount {NAME}"),
        ]
    );
    let less = Render::minimal()
        .set("podDisruptionBudget.enabled=false")
        .set("serviceAccount.create=false")
        .set("test.enabled=false")
        .objects();
    assert_eq!(less.0.len(), 5, "{:?}", less.names());
    assert_eq!(less.pod()["serviceAccountName"], "default");
}

#[test]
fn secrets_are_named_and_never_made() {
    for preset in presets::all() {
        let objects = preset.render().objects();
        assert!(objects.all("Secret").is_empty(), "{}", preset.name);
    }
    let objects = presets::objects("encrypted");
    let volumes = &items(&objects.pod()["volumes"]);
    let secrets: BTreeSet<_> = volumes
        .iter()
        .filter_map(|volume| volume["secret"]["secretName"].as_str())
        .collect();
    let wanted = [
        "nats-client",
        "redis-client",
        "usher-grpc-tls",
        "usher-nats",
        "usher-redis",
        "usher-tls",
    ];
    assert_eq!(secrets, BTreeSet::from(wanted));
    for line in [
        "url_file = \"/etc/usher/secrets/nats/url\"",
        "token_file = \"/etc/usher/secrets/nats/token\"",
        "url_file = \"/etc/usher/secrets/redis/url\"",
        "client_ca_file = \"/etc/usher/tls/grpc/ca.crt\"",
        "certificate_file = \"/etc/usher/tls/public/tls.crt\"",
    ] {
        assert!(objects.toml().lines().any(|found| found == line), "{line}");
    }
    // Each file that the configuration names is mounted.
    let container = &objects.pod()["containers"][0];
    let mounts: Vec<_> = items(&container["volumeMounts"])
        .iter()
        .filter_map(|mount| mount["mountPath"].as_str())
        .collect();
    for path in objects
        .toml()
        .split('"')
        .filter(|text| text.starts_with("/etc/usher/"))
    {
        let (folder, _) = path.rsplit_once('/').expect("a folder");
        assert!(mounts.contains(&folder), "{path} is mounted nowhere");
    }
}

#[test]
fn no_pod_can_do_what_it_need_not() {
    for preset in presets::all() {
        let objects = preset.render().objects();
        let pods = pods(&objects);
        assert!(!pods.is_empty());
        for (name, pod) in pods {
            let place = format!("{name} of {}", preset.name);
            assert_eq!(pod["automountServiceAccountToken"], false, "{place}");
            assert_eq!(pod["enableServiceLinks"], false, "{place}");
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{place}");
            let seccomp = &pod["securityContext"]["seccompProfile"]["type"];
            assert_eq!(seccomp, "RuntimeDefault", "{place}");
            for container in items(&pod["containers"]) {
                let context = &container["securityContext"];
                assert_eq!(context["allowPrivilegeEscalation"], false, "{place}");
                assert_eq!(context["readOnlyRootFilesystem"], true, "{place}");
                assert_eq!(context["capabilities"]["drop"], json!(["ALL"]), "{place}");
                assert!(
                    container["resources"]["limits"]["memory"].is_string(),
                    "{place}"
                );
            }
        }
        for account in objects.all("ServiceAccount") {
            assert_eq!(account["automountServiceAccountToken"], false);
        }
    }
}

#[test]
fn a_pod_has_the_time_that_a_drain_takes() {
    for (delay, window, seconds) in [
        ("3s", "20s", 33),
        ("5s", "1m", 75),
        ("500ms", "10s", 21),
        ("0s", "0s", 10),
        ("1m", "1h", 3670),
        ("1500ms", "1500ms", 13),
    ] {
        let render = Render::minimal()
            .set(&format!("drain.delay={delay}"))
            .set(&format!("drain.window={window}"));
        let objects = render.objects();
        assert_eq!(objects.pod()["terminationGracePeriodSeconds"], seconds);
        // The next one goes when the one before has sent everybody away.
        let spec = &objects.deployment()["spec"];
        let ready = spec["minReadySeconds"].as_i64().expect("a number");
        assert_eq!(ready, seconds - 10, "{delay} {window}");
        assert!(spec["progressDeadlineSeconds"].as_i64() > Some(ready));
    }
    // And then until services were told.
    for (delay, seconds) in [("15s", 53), ("500ms", 39), ("0s", 38)] {
        let render = Render::minimal()
            .set("drain.delay=3s")
            .set("presence.events=true")
            .set(&format!("presence.offlineDelay={delay}"));
        let objects = render.objects();
        assert_eq!(objects.pod()["terminationGracePeriodSeconds"], seconds);
        // The next one goes when this one has sent everybody away.
        assert_eq!(objects.deployment()["spec"]["minReadySeconds"], 23);
    }
    let own = Render::minimal().set("minReadySeconds=3").objects();
    assert_eq!(own.deployment()["spec"]["minReadySeconds"], 3);
}

/// Helm waits for 5 minutes by default, and rolls a healthy rollout back.
#[test]
fn the_notes_say_how_long_a_rollout_takes() {
    for (render, words) in [
        (
            Render::minimal().set("replicaCount=11"),
            "11 gateways takes up to 440s: with --wait or --rollback-on-failure give --timeout 480s",
        ),
        (
            Render::minimal()
                .set("autoscaling.enabled=true")
                .set("autoscaling.maxReplicas=20"),
            "give --timeout 840s",
        ),
    ] {
        let notes = render.notes();
        assert!(notes.contains(words), "{notes}");
    }
}

#[test]
fn probes_ask_what_they_should() {
    let objects = Render::minimal().set("ops.port=9101").objects();
    let container = &objects.pod()["containers"][0];
    for (probe, path) in [
        ("startupProbe", "/healthz"),
        ("livenessProbe", "/healthz"),
        ("readinessProbe", "/readyz"),
    ] {
        let get = &container[probe]["httpGet"];
        assert_eq!(get, &json!({"path": path, "port": "ops"}), "{probe}");
    }
    let ops = items(&container["ports"])
        .iter()
        .find(|port| port["name"] == "ops");
    assert_eq!(ops.expect("a port")["containerPort"], 9101);
    assert!(
        container["lifecycle"].is_null(),
        "the drain is the program's own"
    );
    assert!(container["command"].is_null());
    assert_eq!(
        container["args"],
        json!(["serve", "--config", "/etc/usher/config/usher.toml"])
    );
}

#[test]
fn the_autoscaler_alone_says_how_many() {
    assert_eq!(
        Render::minimal().objects().deployment()["spec"]["replicas"],
        2
    );
    // Somebody else's autoscaler, or one who scales by hand.
    let another = Render::minimal().set("replicaCount=null").objects();
    let spec = another.deployment()["spec"].as_object().expect("a map");
    assert!(!spec.contains_key("replicas"), "{spec:?}");
    assert_eq!(
        Render::minimal()
            .set("replicaCount=0")
            .objects()
            .deployment()["spec"]["replicas"],
        0
    );
    let objects = presets::objects("production");
    assert!(objects.deployment()["spec"]["replicas"].is_null());
    let scaler = &objects.one("HorizontalPodAutoscaler", "")["spec"];
    assert_eq!(scaler["minReplicas"], 3);
    let metrics = items(&scaler["metrics"]);
    assert_eq!(metrics[0]["resource"]["target"]["averageUtilization"], 70);
    assert_eq!(metrics[1]["pods"]["metric"]["name"], "usher_sessions");
    assert_eq!(metrics[1]["pods"]["target"]["averageValue"], "35000");
    // One at a time, when the one before has drained.
    let down = &scaler["behavior"]["scaleDown"]["policies"][0];
    let grace = objects.pod()["terminationGracePeriodSeconds"].as_i64();
    assert!(down["periodSeconds"].as_i64() > grace, "{down}");
    assert_eq!(down["value"], 1);
}

#[test]
fn an_eviction_takes_one_and_the_sick_hold_up_nothing() {
    let objects = Render::minimal().objects();
    let budget = &objects.one("PodDisruptionBudget", "")["spec"];
    assert_eq!(budget["maxUnavailable"], 1);
    assert_eq!(budget["unhealthyPodEvictionPolicy"], "AlwaysAllow");
}

#[test]
fn a_demo_says_that_it_is_one() {
    let demo = presets::named("demo").render();
    let notes = demo.notes();
    assert!(notes.contains("THIS IS A DEMO"), "{notes}");
    assert!(
        notes.contains("Never use it for more than a look"),
        "{notes}"
    );
    assert!(!Render::minimal().notes().contains("DEMO"));
    let objects = demo.objects();
    assert_eq!(objects.all("Deployment").len(), 3);
    let nats = objects.one("Deployment", "-demo-nats").to_string();
    assert!(nats.contains("--jetstream"));
    assert!(
        objects
            .toml()
            .contains(&format!("url = \"nats://{NAME}-demo-nats:4222\""))
    );
    assert!(objects.toml().contains("allow_anonymous = true"));
    // With a Secret it is not so open.
    let guarded = demo.set("grpc.existingSecret=usher-grpc").objects();
    assert!(!guarded.toml().contains("allow_anonymous"));
    assert!(
        !Render::minimal()
            .objects()
            .toml()
            .contains("allow_anonymous")
    );
}

#[test]
fn a_new_configuration_is_a_new_pod() {
    let checksum = |render: Render| {
        let objects = render.objects();
        objects.deployment()["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
            .clone()
    };
    let before = checksum(Render::minimal());
    assert!(before.is_string());
    assert_ne!(
        before,
        checksum(Render::minimal().set("session.pingInterval=20s"))
    );
    assert_eq!(before, checksum(Render::minimal().set("replicaCount=7")));
}

#[test]
fn pods_spread_by_themselves() {
    let objects = Render::minimal().objects();
    let constraints = items(&objects.pod()["topologySpreadConstraints"]);
    let keys: Vec<_> = constraints
        .iter()
        .map(|one| one["topologyKey"].clone())
        .collect();
    assert_eq!(
        keys,
        ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    );
    let own = Render::minimal().json(r#"topologySpreadConstraints=[{"topologyKey":"rack","maxSkew":2,"whenUnsatisfiable":"DoNotSchedule","labelSelector":{}}]"#);
    let objects = own.objects();
    assert_eq!(items(&objects.pod()["topologySpreadConstraints"]).len(), 1);
}

#[test]
fn objects_of_ones_own_come_along() {
    let objects = Render::minimal()
        .json(r#"extraObjects=[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"mine"},"data":{"release":"{{ .Release.Name }}"}},"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ include \"usher.fullname\" . }}-too"]"#)
        .objects();
    let found = |name: &str| {
        let maps = objects.all("ConfigMap");
        maps.into_iter()
            .find(|map| map["metadata"]["name"] == name)
            .cloned()
    };
    assert_eq!(
        found("mine").expect("it is there")["data"]["release"],
        RELEASE
    );
    assert!(found(&format!("{NAME}-too")).is_some());
}

#[test]
fn everything_is_in_the_releases_namespace() {
    for preset in presets::all() {
        for object in preset.render().objects().0 {
            assert_eq!(object["metadata"]["namespace"], NAMESPACE, "{object}");
        }
    }
}

#[test]
fn scrapes_are_told_apart_by_what_alerts_ask_for() {
    for (render, kind, endpoints) in [
        (
            Render::minimal().set("serviceMonitor.enabled=true"),
            "ServiceMonitor",
            "endpoints",
        ),
        (
            Render::minimal().set("podMonitor.enabled=true"),
            "PodMonitor",
            "podMetricsEndpoints",
        ),
    ] {
        let objects = render.objects();
        let monitor = &objects.one(kind, "")["spec"];
        let endpoint = &monitor[endpoints][0];
        assert_eq!(endpoint["port"], "ops");
        assert_eq!(
            endpoint["relabelings"][0],
            json!({"action": "replace", "targetLabel": "job", "replacement": format!("{NAME}-ops")})
        );
        // What it selects is there.
        let wanted = monitor["selector"]["matchLabels"]
            .as_object()
            .expect("labels");
        let labels = match kind {
            "ServiceMonitor" => objects.one("Service", "-ops")["metadata"]["labels"].clone(),
            _ => objects.deployment()["spec"]["template"]["metadata"]["labels"].clone(),
        };
        assert!(
            wanted.iter().all(|(key, value)| &labels[key] == value),
            "{labels}"
        );
    }
}
