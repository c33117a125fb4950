//! The values that become the program's configuration: all of its keys are there, with its
//! defaults, and what is rendered is what the program reads.

use std::{collections::BTreeMap, fs};

use tempfile::TempDir;
use usher::config::{Config, RedisKind, reference};

use crate::{
    helm::{Objects, Render},
    presets,
    values::documented,
};

/// Keys that values of other names make: listeners, files, and what is secret.
const MADE: [&str; 39] = [
    "public.listen",
    "public.tls.certificate_file",
    "public.tls.key_file",
    "grpc.listen",
    "grpc.tokens",
    "grpc.tls.certificate_file",
    "grpc.tls.key_file",
    "grpc.tls.client_ca_file",
    "ops.listen",
    "nats.url",
    "nats.credentials_file",
    "nats.nkey_seed_file",
    "nats.token",
    "nats.user",
    "nats.password",
    "nats.tls.ca_file",
    "nats.tls.certificate_file",
    "nats.tls.key_file",
    "redis.url",
    "redis.user",
    "redis.password",
    "redis.sentinel.user",
    "redis.sentinel.password",
    "redis.tls.ca_file",
    "redis.tls.certificate_file",
    "redis.tls.key_file",
    "tickets.jwt.secret",
    "tickets.jwt.public_key_file",
    "tickets.jwt.jwks_url",
    "tickets.jwt.issuer",
    "tickets.jwt.audience",
    "tickets.jwt.oidc_issuer",
    "tickets.jwt.topics_claim",
    "tickets.jwt.may_follow_claim",
    "tickets.jwt.may_follow_prefix_claim",
    "tickets.jwt.calls_claim",
    "tickets.jwt.tls.ca_file",
    // Nothing where it is not set, which the program has no word for.
    "telemetry.otlp_endpoint",
    // It brings the other keys of its section.
    "durable.enabled",
];

/// What the chart has otherwise than the program; values.yaml says why.
const OTHERWISE: [&str; 3] = ["public.max_sessions", "drain.delay", "log.format"];

/// `session.ping_interval` → `session.pingInterval`.
pub(crate) fn as_value(key: &str) -> String {
    let mut value = String::new();
    let mut upper = false;
    for c in key.chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                value.extend(c.to_uppercase());
                upper = false;
            }
            c => value.push(c),
        }
    }
    value
}

#[test]
fn every_key_is_a_value_with_the_programs_default() {
    let values: BTreeMap<_, _> = documented()
        .into_iter()
        .map(|value| (value.path, value.default))
        .collect();
    for key in reference() {
        if MADE.contains(&key.key) {
            continue;
        }
        let name = as_value(key.key);
        let found = values
            .get(&name)
            .unwrap_or_else(|| panic!("{} has no value {name} in helm/values.yaml", key.key));
        if OTHERWISE.contains(&key.key) {
            continue;
        }
        // JSON and TOML write these the same, but for the space between items.
        let found = found.to_string().replace("\",\"", "\", \"");
        let default = key.default.unwrap_or_default();
        assert_eq!(found, default, "{name} in helm/values.yaml");
    }
}

/// The configuration of what is rendered, in a folder of its own, with files where it names some.
pub(crate) fn installed(objects: &Objects) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    let root = folder.path().display().to_string();
    let toml = objects.toml().replace("/etc/usher/", &format!("{root}/"));
    for line in toml.lines() {
        let Some(path) = line
            .split('"')
            .nth(1)
            .filter(|path| path.starts_with(&root))
        else {
            continue;
        };
        let file = std::path::Path::new(path);
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        let content = match file.file_name().and_then(|name| name.to_str()) {
            Some("tokens") => "0123456789abcdef0123\nfedcba98765432100123\n",
            Some("url") if path.contains("redis") => "rediss://redis.example.com:6380",
            Some("url") => "tls://nats.example.com:4222",
            _ => "something secret that is long enough for anything",
        };
        fs::write(file, content).expect("written");
    }
    fs::write(folder.path().join("usher.toml"), toml).expect("written");
    folder
}

/// The same, read by the program.
fn loaded(objects: &Objects) -> Result<Config, String> {
    let folder = installed(objects);
    let file = folder.path().join("usher.toml");
    Config::load(Some(&file), []).map_err(|error| error.to_string())
}

#[test]
fn the_program_reads_what_is_rendered() {
    let knows_durable = reference().iter().any(|key| key.key == "durable.enabled");
    for preset in presets::all() {
        let mut render = preset.render();
        if !knows_durable {
            render = render.set("durable.enabled=false");
        }
        let objects = render.objects();
        let config = loaded(&objects).unwrap_or_else(|error| panic!("{}: {error}", preset.name));
        assert_eq!(config.public.listen.port(), 8080, "{}", preset.name);
        assert!(!config.grpc.listen.ip().is_loopback());
    }
}

#[test]
fn what_is_set_is_what_the_program_gets() {
    let objects = Render::minimal()
        .set("session.pingInterval=40s")
        .set("session.idleTimeout=2m")
        .set("public.allowedOrigins={https://a.example.com,https://b.example.com:8443}")
        .set("public.pathPrefix=/us-her")
        .set("log.filter=info\\,usher::bus=debug")
        .set("listenAddress=[::]")
        .set("session.maxFrame=8KiB")
        .json(r#"tickets.keyPrefix="it's \"quoted\" \\ <&>:""#)
        .objects();
    let config = loaded(&objects).expect("good");
    assert_eq!(config.session.ping_interval.as_secs(), 40);
    assert_eq!(config.session.idle_timeout.as_secs(), 120);
    assert_eq!(
        config.public.allowed_origins,
        ["https://a.example.com", "https://b.example.com:8443"]
    );
    assert_eq!(config.public.path_prefix, "/us-her");
    assert_eq!(config.log.filter, "info,usher::bus=debug");
    assert!(config.public.listen.is_ipv6());
    assert_eq!(config.tickets.key_prefix, "it's \"quoted\" \\ <&>:");
    assert_eq!(config.grpc.tokens.len(), 2);
}

#[test]
fn redis_may_be_sentinels_or_a_cluster() {
    let objects = Render::minimal()
        .set("redis.url=rediss-sentinel://a:26379\\,b:26379/0?master=tickets")
        .set("redis.poolSize=4")
        .set("redis.existingSecret=redis")
        .set("redis.passwordKey=password")
        .set("redis.sentinel.user=usher")
        .set("redis.sentinel.passwordKey=sentinel")
        .objects();
    let config = loaded(&objects).expect("good");
    let master = "tickets".to_owned();
    assert_eq!(
        config.redis.url.expect("a URL").kind,
        RedisKind::Sentinel { master }
    );
    assert_eq!(config.redis.pool_size, 4);
    assert_eq!(config.redis_sentinel.user.as_deref(), Some("usher"));
    assert!(config.redis_sentinel.password.is_some());
    let objects = Render::minimal()
        .set("redis.url=redis-cluster://a\\,b")
        .objects();
    let config = loaded(&objects).expect("good");
    assert_eq!(config.redis.url.expect("a URL").kind, RedisKind::Cluster);
}

/// What Vault or a CSI driver brings is a file that no Secret holds.
#[test]
fn what_is_secret_may_come_from_elsewhere() {
    let tokens = tempfile::NamedTempFile::new().expect("a file");
    fs::write(tokens.path(), "0123456789abcdef0123\n").expect("written");
    let variables = [
        (
            "USHER_GRPC__TOKENS_FILE",
            tokens.path().display().to_string(),
        ),
        ("USHER_NATS__URL", "nats://elsewhere:4222".to_owned()),
        ("USHER_REDIS__URL", "redis://elsewhere:6379".to_owned()),
    ];
    let env: Vec<_> = variables
        .iter()
        .map(|(name, value)| serde_json::json!({"name": name, "value": value}))
        .collect();
    let render = Render::bare().json(&format!("extraEnv={}", serde_json::json!(env)));
    let objects = render.objects();
    assert!(!objects.toml().contains("allow_anonymous"));
    let folder = installed(&objects);
    let file = folder.path().join("usher.toml");
    let environment = variables.map(|(name, value)| (name.to_owned(), value));
    let config = Config::load(Some(&file), environment).expect("good");
    assert_eq!(config.grpc.tokens.len(), 1);
    assert_eq!(config.nats.url.0[0].as_str(), "nats://elsewhere:4222");
    // The pod of helm test sends them as the cluster's own services do.
    let test = objects.one("Pod", "-test").to_string();
    assert!(test.contains("--clear-token"), "{test}");
    render
        .set("grpc.existingSecret=usher-grpc")
        .refused("two sources of callers' tokens");
}

/// Nothing that is asked of tokens is lost where their key comes so.
#[test]
fn the_key_of_tokens_may_come_from_elsewhere() {
    let key = tempfile::NamedTempFile::new().expect("a file");
    fs::write(
        key.path(),
        "something secret that is long enough for anything",
    )
    .expect("written");
    let render = |name: &str, value: &str| {
        let env =
            serde_json::json!([{"name": format!("USHER_TICKETS__JWT__{name}"), "value": value}]);
        Render::bare()
            .set("nats.url=nats://nats:4222")
            .set("grpc.allowAnonymous=true")
            .set("networkPolicy.enabled=true")
            .json(&format!("extraEnv={env}"))
            .set("tickets.jwt.connect=true")
            .set("tickets.jwt.userClaim=uid")
            .set("tickets.jwt.topicsClaim=topics")
    };
    let path = key.path().display().to_string();
    for (name, value, issuer) in [
        ("SECRET", "something secret that is long enough", "login"),
        ("SECRET_FILE", &path, "login"),
        ("PUBLIC_KEY_FILE", &path, "login"),
        ("JWKS_URL", "https://login.example.com/jwks", "login"),
        ("OIDC_ISSUER", "https://login.example.com", ""),
    ] {
        let objects = render(name, value)
            .set("tickets.jwt.audience=app")
            .set(&format!("tickets.jwt.issuer={issuer}"))
            .objects();
        let folder = installed(&objects);
        let file = folder.path().join("usher.toml");
        let environment = [(format!("USHER_TICKETS__JWT__{name}"), value.to_owned())];
        let config = Config::load(Some(&file), environment).expect("good");
        let jwt = config.tickets_jwt;
        assert!(jwt.connect, "{name}");
        assert_eq!(jwt.audience.as_deref(), Some("app"), "{name}");
        assert_eq!(jwt.issuer.as_deref().unwrap_or_default(), issuer, "{name}");
        assert_eq!(jwt.user_claim, "uid", "{name}");
        assert_eq!(jwt.topics_claim.as_deref(), Some("topics"), "{name}");
        // Keys that a login publishes are fetched.
        let policy = objects.one("NetworkPolicy", "").to_string();
        assert_eq!(policy.contains("443"), value.starts_with("https"), "{name}");
    }
    for (name, values, words) in [
        ("JWKS_URL", "audience=app", "needs tickets.jwt.issuer and"),
        ("OIDC_ISSUER", "leeway=1s", "needs tickets.jwt.audience"),
        ("SECRET", "algorithms={RS256}", "goes with a secret"),
        ("PUBLIC_KEY_FILE", "algorithms={HS256}", "a public key"),
        ("SECRET_FILE", "leeway=1500ms", "must be whole seconds"),
        ("SECRET", "secretKey=key", "ways to check a token: keep one"),
        ("AUDIENCE", "leeway=1s", "userClaim needs a way to check"),
    ] {
        let render = render(name, "https://login.example.com");
        render.set(&format!("tickets.jwt.{values}")).refused(words);
    }
}

#[test]
fn tokens_alone_need_no_redis() {
    let objects = Render::bare()
        .set("nats.url=nats://nats:4222")
        .set("grpc.allowAnonymous=true")
        .set("tickets.jwt.connect=true")
        .set("tickets.jwt.oidcIssuer=https://login.example.com:8443/realms/main")
        .set("tickets.jwt.audience=app")
        .set("tickets.jwt.topicsClaim=topics")
        .set("tickets.jwt.tls.existingSecret=login")
        .set("networkPolicy.enabled=true")
        .objects();
    let config = loaded(&objects).expect("good");
    assert_eq!(config.redis.url, None);
    assert!(config.tickets_jwt.connect);
    assert_eq!(config.tickets_jwt.topics_claim.as_deref(), Some("topics"));
    let file = config.tickets_jwt_tls.ca_file.expect("a file");
    assert!(file.ends_with("tls/jwt/ca.crt"), "{file:?}");
    let with_redis = Render::minimal().objects();
    assert!(loaded(&with_redis).expect("good").redis.url.is_some());
}

#[test]
fn durable_is_told_of_only_where_it_is_on() {
    let off = Render::minimal().objects();
    assert!(!off.toml().contains("durable"), "{}", off.toml());
    let on = Render::minimal().set("durable.enabled=true").objects();
    let (_, section) = on.toml().split_once("[durable]\n").expect("the section");
    let section = section.split("\n\n").next().unwrap_or_default();
    for line in [
        "enabled = true",
        "stream = \"USHER\"",
        "manage_stream = true",
        "max_age = \"24h\"",
        "max_messages_per_channel = 1000",
        "max_bytes = \"1GiB\"",
        "replicas = 1",
        "storage = \"file\"",
        "duplicate_window = \"2m\"",
        "audit = \"60s\"",
        "max_replay = 1000",
        "replay_bytes = \"96MiB\"",
    ] {
        assert!(
            section.lines().any(|found| found == line),
            "no {line:?} in {section}"
        );
    }
}
