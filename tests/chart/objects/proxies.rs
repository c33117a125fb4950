//! What is set for the proxies in front.

use serde_json::json;

use super::{behind, items};
use crate::helm::Render;

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
        let mut with = behind(way)
            .set("cookieAffinity.enabled=true")
            .set("cookieAffinity.name=seat");
        if way == "httpRoute" {
            with = with.set("httpRoute.sessionPersistence=true");
        }
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
        let scheme = if way == "nginx" { " ws" } else { "wss" };
        let url = format!("{scheme}://push.example.com/ws");
        assert!(notes.contains(&url), "{notes}");
    }
    let encrypted = behind("nginx").set("nginx.tlsSecret=tls").notes();
    assert!(encrypted.contains("wss://push"), "{encrypted}");
    let notes = Render::minimal().set("mesh.type=linkerd").notes();
    assert!(
        notes.contains("config.linkerd.io/opaque-ports: \"4222\""),
        "{notes}"
    );
}

/// What a CRD fills in by itself is there from the beginning, or Argo CD would see a difference
/// without end. (It fills in whole items of lists; `make cluster` compares all of it.)
#[test]
fn lists_have_the_defaults_of_their_crds() {
    let route = behind("httpRoute").set("httpRoute.parentRefs[1].name=other");
    let route = route
        .set("httpRoute.parentRefs[1].kind=Service")
        .json(r#"httpRoute.parentRefs[1].group="""#)
        .objects();
    let spec = &route.one("HTTPRoute", "")["spec"];
    let gateway =
        json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public"});
    let service = json!({"group": "", "kind": "Service", "name": "other"});
    assert_eq!(spec["parentRefs"], json!([gateway, service]));
    for rule in items(&spec["rules"]) {
        let backend = &rule["backendRefs"][0];
        assert_eq!(backend["group"], "");
        assert_eq!(backend["kind"], "Service");
        assert_eq!(backend["weight"], 1);
    }
}
