//! What matters of what is rendered, said once more in words.

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
    let own = Render::minimal().set("minReadySeconds=3").objects();
    assert_eq!(own.deployment()["spec"]["minReadySeconds"], 3);
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

#[test]
fn timeouts_of_proxies_come_from_the_ping() {
    let of = |ping: &str| {
        behind("nginx")
            .set(&format!("session.pingInterval={ping}"))
            .set("session.idleTimeout=1h")
    };
    for (ping, seconds) in [("25s", "75"), ("40s", "120"), ("2m", "360"), ("500ms", "2")] {
        let objects = of(ping).objects();
        let annotations = &objects.one("Ingress", "")["metadata"]["annotations"];
        for timeout in ["read", "send"] {
            let name = format!("nginx.ingress.kubernetes.io/proxy-{timeout}-timeout");
            assert_eq!(annotations[&name], seconds, "{ping}");
        }
    }
    let objects = behind("httpRoute").objects();
    let rules = items(&objects.one("HTTPRoute", "")["spec"]["rules"]);
    assert_eq!(
        rules[0]["timeouts"],
        json!({"request": "0s", "backendRequest": "0s"})
    );
    let traefik = behind("traefik").set("session.pingInterval=30s").objects();
    let transport = &traefik.one("ServersTransport", "")["spec"]["forwardingTimeouts"];
    assert_eq!(transport["idleConnTimeout"], "90s");
}

#[test]
fn a_cookie_is_set_only_where_it_is_asked_for() {
    for (way, kind) in [
        ("httpRoute", "HTTPRoute"),
        ("traefik", "IngressRoute"),
        ("nginx", "Ingress"),
    ] {
        let without = behind(way).objects().one(kind, "").to_string();
        assert!(!without.to_lowercase().contains("cookie"), "{without}");
        let with = behind(way)
            .set("cookieAffinity.enabled=true")
            .set("cookieAffinity.name=seat");
        let with = with.objects().one(kind, "").to_string();
        assert!(with.contains("seat"), "{with}");
    }
    let istio = Render::minimal()
        .set("mesh.type=istio")
        .set("cookieAffinity.enabled=true")
        .objects();
    let policy = &istio.one("DestinationRule", "")["spec"]["trafficPolicy"];
    assert_eq!(
        policy["loadBalancer"]["consistentHash"]["httpCookie"]["name"],
        "usher-gateway"
    );
}

#[test]
fn an_operators_annotation_goes_before_the_charts() {
    let render = behind("nginx").json(r#"nginx.annotations={"nginx.ingress.kubernetes.io/proxy-read-timeout":"7200","mine":"too"}"#);
    let objects = render.objects();
    let annotations = &objects.one("Ingress", "")["metadata"]["annotations"];
    assert_eq!(
        annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"],
        "7200"
    );
    assert_eq!(
        annotations["nginx.ingress.kubernetes.io/proxy-send-timeout"],
        "75"
    );
    assert_eq!(annotations["mine"], "too");
}

#[test]
fn what_is_static_in_a_proxy_is_in_the_notes() {
    for (way, words) in [
        (
            "traefik",
            &[
                "respondingTimeouts.readTimeout = 0",
                "accessLog.fields.names.RequestPath = drop",
            ][..],
        ),
        (
            "nginx",
            &[
                "worker-shutdown-timeout",
                "log-format-upstream with $uri",
                "nginx.accessLog=true",
            ],
        ),
        ("httpRoute", &["access log without queries", "75s or more"]),
    ] {
        let notes = behind(way).notes();
        for words in words {
            assert!(notes.contains(words), "{way}: {words:?} is not in {notes}");
        }
        assert!(notes.contains("wss://push.example.com/ws"), "{notes}");
    }
    let notes = Render::minimal().set("mesh.type=linkerd").notes();
    assert!(
        notes.contains("config.linkerd.io/opaque-ports: \"4222\""),
        "{notes}"
    );
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
    assert_eq!(ports, [json!(53), json!(4222), json!(6380)]);
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
            json!({"targetLabel": "job", "replacement": format!("{NAME}-ops")})
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
