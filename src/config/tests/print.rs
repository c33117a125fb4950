//! The printed configuration, and the reference.

use proptest::prelude::*;

use super::*;

/// The contract's table.
const DEFAULTS: &str = r#"
[public]
listen = "127.0.0.1:8080"
path_prefix = ""
allowed_origins = []
max_sessions = 0
max_sessions_per_user = 16
handshake_timeout = "5s"
max_pending = 1024
max_pending_per_ip = 0
max_header_bytes = "16KiB"
max_headers = 64
trusted_proxies = []
refusals_per_second_per_ip = 0
[public.tls]
# certificate_file = "/path" # not set
# key_file = "/path" # not set
[grpc]
listen = "127.0.0.1:9090"
# tokens = ["…", "…"] # not set
allow_anonymous = false
max_connection_age = "30m"
max_message = "1MiB"
max_connections = 1024
max_in_flight_bytes = "64MiB"
[grpc.tls]
# certificate_file = "/path" # not set
# key_file = "/path" # not set
# client_ca_file = "/path" # not set
[centrifuge]
enabled = false
[ops]
listen = "127.0.0.1:9100"
nats_grace = "0s"
[nats]
url = "nats://127.0.0.1:4222"
# credentials_file = "/path" # not set
# nkey_seed_file = "/path" # not set
# token = "…" # not set
# user = "…" # not set
# password = "…" # not set
prefix = "usher"
reply_prefix = "_INBOX."
settle = "auto"
[nats.tls]
# ca_file = "/path" # not set
# certificate_file = "/path" # not set
# key_file = "/path" # not set
[redis]
url = "redis://127.0.0.1:6379"
# user = "…" # not set
# password = "…" # not set
pool_size = 16
timeout = "500ms"
max_in_flight = 1024
[redis.sentinel]
# user = "…" # not set
# password = "…" # not set
[redis.tls]
# ca_file = "/path" # not set
# certificate_file = "/path" # not set
# key_file = "/path" # not set
[tickets]
key_prefix = "ticket:"
accept_plain = true
ttl = "60s"
[tickets.jwt]
# secret = "…" # not set
# public_key_file = "/path" # not set
# jwks_url = "https://…" # not set
# oidc_issuer = "https://login.example.com" # not set
jwks_max_age = "1h"
# issuer = "…" # not set
# audience = "…" # not set
audience_claim = "aud"
user_claim = "sub"
algorithms = []
leeway = "30s"
session_ends_with_token = true
connect = false
# topics_claim = "…" # not set
# may_follow_claim = "…" # not set
# may_follow_prefix_claim = "…" # not set
# calls_claim = "…" # not set
[tickets.jwt.tls]
# ca_file = "/path" # not set
[durable]
enabled = false
stream = "USHER"
manage_stream = true
max_age = "24h"
max_messages_per_channel = 1000
max_bytes = "1GiB"
replicas = 1
storage = "file"
duplicate_window = "2m"
audit = "60s"
max_replay = 1000
replay_bytes = "96MiB"
[presence]
events = false
offline_delay = "15s"
[offline]
events = false
[topics]
max_per_session = 32
max = 100000
[calls]
timeout = "5s"
max_in_flight = 16
max_total = 4096
[session]
ping_interval = "25s"
idle_timeout = "60s"
max_lifetime = "0s"
queue_messages = 256
queue_bytes = "1MiB"
total_queue_bytes = "256MiB"
max_outgoing_frame = "2MiB"
compression = "off"
compression_threshold = "1KiB"
max_frame = "16KiB"
frames_per_second = 20
write_timeout = "10s"
[drain]
delay = "3s"
window = "20s"
[log]
filter = "info"
format = "auto"
[telemetry]
# otlp_endpoint = "http://collector:4317" # not set
sample_ratio = 0.01
"#;

#[test]
fn the_printed_default_is_the_contracts_table_with_a_comment_for_each_key() {
    let printed = Config::default().to_toml();
    let comment = |line: &&str| line.starts_with('#') && !line.ends_with("# not set");
    let keys = printed
        .lines()
        .filter(|line| !line.is_empty() && !comment(line));
    assert_eq!(
        keys.collect::<Vec<_>>(),
        DEFAULTS.trim().lines().collect::<Vec<_>>()
    );
    for key in reference() {
        assert!(!key.doc.is_empty(), "{}", key.key);
    }
}

#[test]
fn what_is_printed_can_be_loaded_again() {
    let secrets = [
        ("USHER_GRPC__TOKENS", "0123456789abcdef"),
        ("USHER_NATS__PASSWORD", "hunter2"),
        (
            "USHER_REDIS__URL",
            "rediss-sentinel://:hunter2@cache?master=m",
        ),
        ("USHER_REDIS__SENTINEL__PASSWORD", "hunter2"),
    ];
    for (toml, secrets) in [("", &[][..]), (EVERYTHING_ELSE, &secrets)] {
        let config = good(toml, secrets);
        let printed = config.to_toml();
        assert_eq!(good(&printed, secrets), config, "{printed}");
    }
}

#[test]
fn what_is_printed_says_what_is_not_as_usual() {
    let printed = good(&row("session.queue_bytes", "\"2MiB\""), &[]).to_toml();
    assert!(
        printed.contains("\nqueue_bytes = \"2MiB\" # default: \"1MiB\"\n"),
        "{printed}"
    );
    assert_eq!(printed.matches("# default").count(), 1);
}

/// No key has its default here, and none is a secret.
const EVERYTHING_ELSE: &str = r#"
[public]
listen = "0.0.0.0:80"
path_prefix = "/usher"
allowed_origins = ["https://*.example.com", "http://localhost:3000"]
max_sessions = 10
max_sessions_per_user = 1
handshake_timeout = "1m"
max_pending = 1
max_pending_per_ip = 1
max_header_bytes = "8KiB"
max_headers = 16
trusted_proxies = ["10.0.0.0/8", "::1"]
refusals_per_second_per_ip = 1
[public.tls]
certificate_file = "/a"
key_file = "/b"
[grpc]
listen = "0.0.0.0:91"
allow_anonymous = true
max_connection_age = "0s"
max_message = "1KiB"
max_connections = 1
max_in_flight_bytes = "1KiB"
[grpc.tls]
certificate_file = "/c"
key_file = "/d"
client_ca_file = "/e"
[ops]
listen = "[::]:92"
nats_grace = "5m"
[nats]
url = "nats://a:4222,b"
user = "a \"quoted\" \\ user\n"
prefix = "acme.usher"
reply_prefix = "_R_."
settle = "50ms"
[nats.tls]
ca_file = "/f"
certificate_file = "/g"
key_file = "/h"
[redis]
user = "u"
pool_size = 1024
timeout = "1s"
max_in_flight = 1
[redis.sentinel]
user = "v"
[redis.tls]
ca_file = "/i"
certificate_file = "/j"
key_file = "/k"
[tickets]
key_prefix = "acme:ticket:"
accept_plain = false
ttl = "300s"
[tickets.jwt]
jwks_url = "https://login.example.com/keys"
jwks_max_age = "2s"
issuer = "i"
audience = "a"
user_claim = "uid"
algorithms = ["RS256", "EdDSA"]
leeway = "0s"
session_ends_with_token = false
[durable]
enabled = true
stream = "EVENTS"
manage_stream = false
max_age = "1h"
max_messages_per_channel = 10
max_bytes = "64MiB"
replicas = 3
storage = "memory"
duplicate_window = "1m"
audit = "30s"
max_replay = 50
[session]
ping_interval = "500ms"
idle_timeout = "1h"
max_lifetime = "24h"
queue_messages = 1
queue_bytes = "1B"
total_queue_bytes = "1GiB"
max_outgoing_frame = "1MiB"
compression = "off"
compression_threshold = "2KiB"
max_frame = "1025B"
frames_per_second = 1
write_timeout = "1ms"
[drain]
delay = "0s"
window = "120s"
[log]
filter = "warn,usher=debug"
format = "json"
[telemetry]
otlp_endpoint = "https://otlp.example.com:4317/"
sample_ratio = 1.0
"#;

proptest! {
    #[test]
    fn any_text_and_any_duration_can_be_loaded_again(
        text in any::<String>().prop_filter("not empty", |text| !text.is_empty()),
        ms in 0..=315_360_000_000u64,
    ) {
        let mut config = Config::default();
        config.tickets.key_prefix = text;
        config.drain.window = Duration::from_millis(ms);
        prop_assert_eq!(good(&config.to_toml(), &[]), config);
    }

    #[test]
    fn any_size_can_be_loaded_again(number in 1..1024usize, power in 0..4u32) {
        let mut config = Config::default();
        config.session.queue_bytes = Size(number << (10 * power));
        prop_assert_eq!(good(&config.to_toml(), &[]), config);
    }
}
