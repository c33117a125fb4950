//! The table of keys: all names, types, defaults and documentation.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::secret::Secret;

use super::{
    redis_url::RedisServers,
    rules,
    servers::{HttpsUrl, IssuerUrl, NatsServers, OtlpUrl},
    table::{Key, Section, table},
    types::{Compression, LogFormat, Ratio, Settle, Storage},
    units::Size,
    value::Value,
};

table! {
    /// What browsers reach.
    "public" => public: Public {
        /// Where WebSocket and server-sent events are served; also `/healthz` and
        /// `/readyz`, which answer with a status only.
        listen: SocketAddr = "127.0.0.1:8080",
        /// Put before every path of this listener, such as `/usher`.
        path_prefix: String = "" where path_prefix,
        /// The origins whose pages may connect, such as `https://app.example.com`,
        /// or `https://*.example.com` for every host below it. Other schemes, such as
        /// `capacitor://localhost`, are compared literally. Empty: only pages of the host
        /// that the request itself names; `["*"]`: any page. A request without Origin does
        /// not come from a browser, and is allowed.
        allowed_origins: Vec<String> = [] where origins,
        /// The most sessions that this gateway holds; above it newcomers get 503
        /// `full`. 0: as many as the limit of open files allows.
        max_sessions: u32 = 0,
        /// The most sessions that one user holds on this gateway; above it the
        /// oldest is closed.
        max_sessions_per_user: u32 = 16 where above_zero,
        /// How long a client may take to send its request's headers, and again to
        /// be upgraded.
        handshake_timeout: Duration = "5s" where above_zero,
        /// The most connections that are not admitted yet; above it newcomers get
        /// 503.
        max_pending: u32 = 1024 where above_zero,
        /// How many of those one address may have; above it that address gets 503. Of
        /// IPv6 a /64 counts as one address. For a proxy of `trusted_proxies` the client
        /// that its header names counts instead, once the header is there. 0: any
        /// number.
        max_pending_per_ip: u32 = 0,
        /// The most bytes of a request's line and headers; above it the connection is
        /// answered 431.
        max_header_bytes: Size = "16KiB" where header_bytes,
        /// The most headers of a request; above it the connection is answered 431.
        max_headers: u32 = 64 where headers,
        /// The addresses and networks, such as `10.0.0.0/8`, of the proxies in front.
        /// The client is then the rightmost address of `X-Forwarded-For` that is not
        /// one of them. From anyone else the header is ignored.
        trusted_proxies: Vec<String> = [] where networks,
        /// How many answers 400, 401 and 403 one address gets in a second, with five
        /// times as many at once; above it it gets 429 in their place, and so does a
        /// request that would have been let in. Of IPv6 a /64 counts as one address. 0:
        /// any number.
        refusals_per_second_per_ip: u32 = 0,
    }

    /// TLS for the public listener. Both files are PEM; when they change, new
    /// connections get the new ones.
    "public.tls" => public_tls: PublicTls {
        /// The certificate, and behind it those that vouch for it.
        certificate_file: Option<PathBuf>,
        /// The private key, not encrypted.
        key_file: Option<PathBuf>,
    }

    /// The push API, for your services.
    "grpc" => grpc: Grpc {
        /// Where gRPC is served, and JSON over HTTP.
        listen: SocketAddr = "127.0.0.1:9090",
        /// Callers must send one of these as `authorization: Bearer TOKEN`; each has
        /// at least 16 characters. Empty: callers need none.
        tokens: Vec<Secret> = [] where grpc_tokens,
        /// Allows a listener off loopback without tokens and without a client CA. Whoever reaches it can be
        /// any user: set it only where something else guards the way.
        allow_anonymous: bool = false,
        /// About how long a connection lives before it is asked to close, so that
        /// callers spread over new instances. `0s`: for ever.
        max_connection_age: Duration = "30m",
        /// The largest message of one request; above it a call gets
        /// RESOURCE_EXHAUSTED (JSON: 413) before its message is read.
        max_message: Size = "1MiB" where grpc_message,
        /// The most connections at once; a further one is closed as soon as it is
        /// accepted. Where the limit of open files is low it is at most an eighth of
        /// that.
        max_connections: u32 = 1024 where above_zero,
        /// The most bytes of requests under way, of all callers together; above it a
        /// call gets RESOURCE_EXHAUSTED (JSON: 503), and a PushStream waits.
        max_in_flight_bytes: Size = "64MiB",
    }

    /// TLS for the push API. All files are PEM; when they change, new connections
    /// get the new ones.
    "grpc.tls" => grpc_tls: GrpcTls {
        /// The certificate, and behind it those that vouch for it.
        certificate_file: Option<PathBuf>,
        /// The private key, not encrypted.
        key_file: Option<PathBuf>,
        /// The authorities of which callers must show a certificate (mutual TLS).
        client_ca_file: Option<PathBuf>,
    }

    /// Clients of others.
    "centrifuge" => centrifuge: Centrifuge {
        /// Serves the Centrifuge client protocol at `/connection/websocket` of the public
        /// listener, for that protocol's SDKs.
        enabled: bool = false,
    }

    /// What operators reach.
    "ops" => ops: Ops {
        /// Where health, metrics and status are served.
        listen: SocketAddr = "127.0.0.1:9100",
        /// How long NATS may be away before the gateway is not ready. `0s`: for ever,
        /// since an outage that all gateways share should not cut live sessions at
        /// the load balancer.
        nats_grace: Duration = "0s",
    }

    /// The bus that messages arrive on.
    "nats" => nats: Nats {
        /// One server, or several of one cluster with commas between.
        url: NatsServers = "nats://127.0.0.1:4222",
        /// A credentials file, as `nsc` writes it, to log in with; it is read at each
        /// connection.
        credentials_file: Option<PathBuf>,
        /// A file with the seed of a user's nkey to log in with, as `nk -gen user` writes
        /// it; it is read at each connection.
        nkey_seed_file: Option<PathBuf>,
        /// The token to log in with, where the servers ask for one.
        token: Option<Secret>,
        /// The user to log in as; goes with `nats.password`.
        user: Option<String>,
        /// The password of `nats.user`.
        password: Option<Secret>,
        /// How every subject of ours begins, without the dot that follows.
        prefix: String = "usher" where subject_prefix,
        /// Receipts and answers of the service API go only to reply subjects that
        /// begin so; other requests are counted, not answered.
        reply_prefix: String = "_INBOX." where reply_prefix,
        /// How long to wait, after NATS has confirmed a subscription, for the other
        /// servers of the cluster to learn of it. `auto`: 20 ms where the server says
        /// that it is clustered, else not at all; that suits a cluster on one site.
        settle: Settle = "auto",
    }

    /// TLS to NATS; for `tls://` URLs, and for `nats://` where the server requires it.
    /// Where a key is set here, the server must speak it. All files are PEM, and are read at
    /// each connection.
    "nats.tls" => nats_tls: NatsTls {
        /// The authorities to trust instead of the system's.
        ca_file: Option<PathBuf>,
        /// The certificate to show, and behind it those that vouch for it.
        certificate_file: Option<PathBuf>,
        /// Its private key, not encrypted.
        key_file: Option<PathBuf>,
    }

    /// Where tickets are kept.
    "redis" => redis: Redis {
        /// One server: `redis://HOST:PORT`, with `/NUMBER` for another database than 0.
        /// Sentinels: `redis-sentinel://HOST:PORT,HOST:PORT/0?master=NAME`. A Cluster:
        /// `redis-cluster://HOST:PORT,HOST:PORT`. By TLS: `rediss://`,
        /// `rediss-sentinel://`, `rediss-cluster://`. Empty: none, where
        /// `tickets.jwt.connect` is on; tickets then open nothing and are not issued.
        url: Option<RedisServers> = "redis://127.0.0.1:6379",
        /// The user to log in as, where Redis has users; goes with `redis.password`.
        user: Option<String>,
        /// The password to log in with.
        password: Option<Secret>,
        /// The most connections of this gateway to Redis; to a Cluster: to each node.
        pool_size: u32 = 16 where pool_size,
        /// How long a command may take, the wait for a connection included; beyond it
        /// Redis counts as unavailable.
        timeout: Duration = "500ms" where above_zero,
        /// The most commands that run or wait at once; beyond it Redis counts as
        /// unavailable.
        max_in_flight: u32 = 1024 where above_zero,
    }

    /// The login at the Sentinels, where it is needed: it is their own. `redis.user` and
    /// `redis.password` are for the servers that hold the tickets.
    "redis.sentinel" => redis_sentinel: RedisSentinel {
        /// The user to log in as; goes with `redis.sentinel.password`.
        user: Option<String>,
        /// The password to log in with.
        password: Option<Secret>,
    }

    /// TLS to Redis and its Sentinels; for `rediss://`, `rediss-sentinel://` and
    /// `rediss-cluster://`. All files are PEM, and are read at each connection.
    "redis.tls" => redis_tls: RedisTls {
        /// The authorities to trust instead of the system's.
        ca_file: Option<PathBuf>,
        /// The certificate to show, and behind it those that vouch for it.
        certificate_file: Option<PathBuf>,
        /// Its private key, not encrypted.
        key_file: Option<PathBuf>,
    }

    /// What lets a client in.
    "tickets" => tickets: Tickets {
        /// A ticket's key in Redis is this and the ticket. Nothing else may use keys
        /// that begin so: Usher deletes what it finds there.
        key_prefix: String = "ticket:" where not_empty,
        /// Whether a ticket's value may be the bare user id. `false`: only JSON; set
        /// that where users choose their ids.
        accept_plain: bool = true,
        /// How long a ticket that Usher mints is good for; at most `300s`.
        ttl: Duration = "60s" where ticket_ttl,
    }

    /// Your login's tokens (JWT), for which `POST /tickets` gives tickets. With exactly
    /// one of `secret`, `public_key_file`, `jwks_url` and `oidc_issuer` it is served.
    "tickets.jwt" => tickets_jwt: TicketsJwt {
        /// What your login signs with (HS256); at least 32 bytes.
        secret: Option<Secret> where hmac_secret,
        /// The public key of what your login signs with (RS256, ES256 or EdDSA), in
        /// PEM.
        public_key_file: Option<PathBuf>,
        /// Where your login publishes its public keys, such as
        /// `https://login.example.com/.well-known/jwks.json`. Needs `issuer` and
        /// `audience`.
        jwks_url: Option<HttpsUrl>,
        /// Your login's issuer of OpenID Connect, such as `https://login.example.com`: its
        /// configuration says where its keys are, and a token's `iss` must be it. In place
        /// of `jwks_url` and `issuer`; needs `audience`.
        oidc_issuer: Option<IssuerUrl>,
        /// How long keys of `jwks_url` or `oidc_issuer` are good while they cannot be
        /// fetched.
        jwks_max_age: Duration = "1h" where jwks_max_age,
        /// What a token's `iss` must be; not set: anything.
        issuer: Option<String>,
        /// What a token's `aud` must be or include; not set: anything.
        audience: Option<String>,
        /// The claim that names the audience.
        audience_claim: String = "aud" where not_empty,
        /// The claim that holds the user id, a text or a whole number.
        user_claim: String = "sub" where not_empty,
        /// The algorithms that tokens may be signed with, such as `RS256`. Empty:
        /// `HS256` for a secret, and otherwise what goes with the key: `RS256`,
        /// `ES256`, `ES384` or `EdDSA`.
        algorithms: Vec<String> = [] where algorithms,
        /// How far your login's clock and this one may differ.
        leeway: Duration = "30s" where leeway,
        /// Whether a session ends when its token expires.
        session_ends_with_token: bool = true,
        /// Whether a token also opens a session by itself, as `Authorization: Bearer TOKEN`
        /// or as the sub-protocol `usher.token.TOKEN`. Such a session ends when its token
        /// expires.
        connect: bool = false,
        /// The claim that lists the topics that the session follows from the beginning.
        topics_claim: Option<String>,
        /// The claim that lists the topics that the session may follow.
        may_follow_claim: Option<String>,
        /// The claim that lists what topics begin with that the session may follow.
        may_follow_prefix_claim: Option<String>,
        /// The claim that lists the calls that the session may make.
        calls_claim: Option<String>,
    }

    /// TLS to `tickets.jwt.jwks_url` and `tickets.jwt.oidc_issuer`.
    "tickets.jwt.tls" => tickets_jwt_tls: TicketsJwtTls {
        /// The authorities to trust instead of the system's, in PEM; read at each fetch.
        ca_file: Option<PathBuf>,
    }

    /// Messages that are kept, in a stream of JetStream, so that clients that come back
    /// get what they missed.
    "durable" => durable: Durable {
        /// Whether messages are kept. Needs NATS with JetStream; `usher check` says what
        /// is missing.
        enabled: bool = false,
        /// The stream's name.
        stream: String = "USHER" where stream_name,
        /// Whether Usher creates the stream, and changes it where that keeps more.
        /// `false`: it only looks, and says what is not as it should be.
        manage_stream: bool = true,
        /// How long a message is kept. `0s`: until another limit is reached.
        max_age: Duration = "24h" where max_age,
        /// How many messages of each user and each topic are kept, and how many broadcasts:
        /// the newest.
        max_messages_per_channel: u32 = 1000 where above_zero,
        /// The most bytes that the stream keeps; above it the oldest messages go.
        max_bytes: Size = "1GiB" where above_zero,
        /// On how many servers of a cluster each message is kept: 1, 3 or 5.
        replicas: u32 = 1 where replicas,
        /// `file` or `memory`.
        storage: Storage = "file",
        /// For how long a `Nats-Msg-Id` that was seen is a duplicate; never longer than
        /// `max_age`.
        duplicate_window: Duration = "2m" where duplicate_window,
        /// How often every user's place is compared with the stream, so that what NATS
        /// lost on its way here is found and sent; up to a tenth more or less.
        audit: Duration = "60s" where above_zero,
        /// The most messages that are sent again to one session: the newest. A session
        /// that missed more is told so.
        max_replay: u32 = 1000 where above_zero,
        /// Memory for what is read from the stream for clients that come back: two thirds
        /// for what was read for many of them, and is kept while more come; a third for
        /// messages on their way to sessions. At least 12 MiB.
        replay_bytes: Size = "96MiB" where replay_bytes,
    }

    /// What services are told of users who come and go.
    "presence" => presence: Presence {
        /// Whether services are told on `PREFIX.presence.USER` that a user is online or
        /// offline, and on `PREFIX.presence.$lost` that a gateway has vanished.
        events: bool = false,
        /// How long a user's last session must have been gone before that user is offline: a
        /// user who loads a page again stays online.
        offline_delay: Duration = "15s",
    }

    /// What services are told of messages that find nobody; in durable mode.
    "offline" => offline: Offline {
        /// Whether a message to a user that no session was given is published on
        /// `PREFIX.offline.USER`, where a mobile push begins. Needs the right to make and
        /// read the stream's consumer `usher-offline`.
        events: bool = false,
    }

    /// What sessions follow besides their user's messages.
    "topics" => topics: Topics {
        /// The most topics that one session follows.
        max_per_session: u32 = 32 where above_zero,
        /// The most topics that this gateway is subscribed to, for all its sessions.
        max: u32 = 100000 where above_zero,
    }

    /// What clients ask services for, over `usher.v1`, as far as their tickets or tokens
    /// grant it.
    "calls" => calls: Calls {
        /// How long a call may take; then the client is told `timeout`. A service reads the
        /// same in the header `Usher-Deadline`.
        timeout: Duration = "5s" where above_zero,
        /// The most calls of one session that are under way; above it the client is told
        /// `too_many`.
        max_in_flight: u32 = 16 where above_zero,
        /// The most calls of all sessions together that are under way; above it the client
        /// is told `too_many`.
        max_total: u32 = 4096 where above_zero,
    }

    /// One client's connection.
    "session" => session: Session {
        /// How often a session is pinged.
        ping_interval: Duration = "25s" where above_zero,
        /// A session from which nothing has come for this long, not even a pong, is closed.
        /// With server-sent events: a session whose client has not acknowledged (TCP) for
        /// this long what was sent. Time in which the gateway itself stood still does not
        /// count. Longer than `session.ping_interval`.
        idle_timeout: Duration = "60s" where above_zero,
        /// How long a session lives, less up to a tenth at random. `0s`: for ever.
        max_lifetime: Duration = "0s",
        /// The most messages that wait to be sent to one session. Above it the session is
        /// closed. In durable mode it stays open: it gets what did not fit from the stream
        /// when its client reads again, unless that is more than `durable.max_replay`.
        queue_messages: u32 = 256 where above_zero,
        /// The most bytes that wait to be sent to one session. Above it the session is
        /// closed; in durable mode as for `session.queue_messages`. A larger message
        /// is sent only if nothing else waits for the session.
        queue_bytes: Size = "1MiB" where above_zero,
        /// The most bytes that wait for all sessions together. Above it the session with
        /// the largest backlog is closed first. In durable mode the gateway first discards
        /// backlogs that the stream can send again, the largest first.
        total_queue_bytes: Size = "256MiB" where above_zero,
        /// The largest frame that a session is sent. In the place of a larger one it gets a
        /// `gap` with the reason `too_large`; lower it where clients refuse as much.
        max_outgoing_frame: Size = "2MiB" where above_zero,
        /// Whether messages are compressed (permessage-deflate) where the client offers it:
        /// `off`. This build's WebSocket library can't, so `on` is refused.
        compression: Compression = "off" where compression,
        /// From this size on messages are compressed.
        compression_threshold: Size = "1KiB" where above_zero,
        /// The largest message from a client, its fragments together; above it the
        /// session is closed.
        max_frame: Size = "16KiB" where above_zero,
        /// The most frames a second from a client, control frames included; above it
        /// the session is closed.
        frames_per_second: u32 = 20 where above_zero,
        /// How long a write may make no progress before the session is closed. Time in
        /// which the gateway itself stood still does not count.
        write_timeout: Duration = "10s" where above_zero,
    }

    /// What happens between the signal to stop and the end.
    "drain" => drain: Drain {
        /// How long the gateway says that it is not ready, but still admits, so that
        /// the load balancer can look away.
        delay: Duration = "3s",
        /// The time over which all sessions are then closed, evenly.
        window: Duration = "20s",
    }

    /// What Usher writes about itself.
    "log" => log: Log {
        /// What is logged: `error`, `warn`, `info`, `debug` or `trace`; modules may
        /// differ, such as `info,usher::bus=debug`.
        filter: String = "info" where log_filter,
        /// `text`, `json`, or `auto`: text on a terminal, JSON otherwise.
        format: LogFormat = "auto",
    }

    /// Traces: what requests and messages go through here, for a collector of
    /// OpenTelemetry's.
    "telemetry" => telemetry: Telemetry {
        /// Where traces go, by OTLP over gRPC, such as `http://collector:4317`; `https://`
        /// for TLS, with the authorities that the system trusts. Not set: there are none.
        otlp_endpoint: Option<OtlpUrl>,
        /// How much of what comes without a `traceparent` is recorded, from 0 to 1. A
        /// `traceparent` that says 'sampled' is always followed, any other never.
        sample_ratio: Ratio = 0.01,
    }
}
