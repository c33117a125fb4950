//! What is counted, for Prometheus. No label carries a user, a ticket or an address.

mod calls;
mod labels;
mod register;
mod rounds;
mod service;
mod text;
mod tls;
mod topics;

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use self::register::{counter, counters, gauge, gauges, histogram, register};
pub use self::{
    calls::Calls, rounds::Rounds, service::Service, text::LOG_LINES_LOST, tls::Tls, topics::Topics,
};

/// All metrics of one gateway.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Open sessions, by transport.
    pub sessions: IntGaugeVec,
    /// Users with at least one session.
    pub users: IntGauge,
    /// Connections not yet admitted.
    pub pending: IntGauge,
    /// Connections that brought no good request, by why they were cut off.
    connections_cut: IntCounterVec,
    /// Addresses whose refusals are remembered.
    pub refused_addresses: IntGauge,
    /// New certificates.
    pub tls: Tls,
    /// SIGHUPs, by whether all files were good.
    file_reloads: IntCounterVec,
    /// Fetches of the keys that tokens are signed with.
    jwks_fetches: IntCounterVec,
    /// Requests for a ticket, by what became of them.
    pub mints: IntCounterVec,
    /// Requests for a session, by what became of them.
    pub admissions: IntCounterVec,
    /// Messages from NATS.
    pub messages_received: IntCounter,
    /// Messages given to the kernel, by transport.
    pub messages_delivered: IntCounterVec,
    messages_dropped: IntCounterVec,
    /// Messages sent from the stream.
    pub replayed: IntCounter,
    catch_ups: IntCounterVec,
    postponed: IntCounter,
    /// Stored messages on subjects that are nobody's.
    pub odd_subjects: IntCounter,
    stream_replaced: IntCounterVec,
    /// Rounds of durable mode.
    pub rounds: Rounds,
    /// Sessions for which the stream can't be read.
    pub sessions_held_back: IntGauge,
    presence_events: IntCounterVec,
    /// Users of whom it is being found out what to tell services.
    pub presence_deciding: IntGauge,
    /// Changes of presence that services are not told of.
    pub presence_dropped: IntCounter,
    offline_messages: IntCounterVec,
    /// Messages to users that the consumer has not come to.
    pub offline_pending: IntGauge,
    /// Sequences that retention removed before the consumer came to them.
    pub offline_lost: IntCounter,
    /// Messages whose event name broke the rule.
    pub bad_event_names: IntCounter,
    /// Ended sessions, by how.
    pub session_closes: IntCounterVec,
    /// From NATS to the kernel.
    pub delivery_seconds: Histogram,
    /// Subjects of users and topics subscribed to.
    pub subscriptions: IntGauge,
    /// What sessions follow.
    pub topics: Topics,
    /// Clients' calls.
    pub calls: Calls,
    /// Bytes waiting to be written to sessions.
    pub queued_bytes: IntGauge,
    /// Tasks of the runtime.
    pub tasks: IntGauge,
    nats_connected: IntGaugeVec,
    /// Gateways that are there, this one included.
    pub gateways: IntGauge,
    /// Gateways that vanished without a goodbye.
    pub gateways_lost: IntCounter,
    /// Calls by the service API of NATS.
    pub service_requests: IntCounterVec,
    /// Questions to all gateways, by what came of them.
    pub control_calls: IntCounterVec,
    /// News of gateways beyond those that are remembered.
    pub gateways_ignored: IntCounter,
    /// Commands to Redis.
    pub redis_command_seconds: Histogram,
    /// Calls of the push API.
    pub grpc_requests: IntCounterVec,
    /// Connections of callers of the push API.
    pub grpc_connections: IntGauge,
    /// Bytes of their requests under way.
    pub grpc_in_flight_bytes: IntGauge,
    grpc_connections_cut: IntCounterVec,
    grpc_refused: IntCounterVec,
    /// Whether this gateway is in service.
    pub service: Service,
    receipts: IntCounterVec,
    spans: IntCounterVec,
}

impl Metrics {
    /// Registers everything.
    #[allow(clippy::new_without_default, reason = "made on purpose")]
    pub fn new() -> Self {
        let r = Registry::new();
        let metrics = Self {
            sessions: gauges(&r, "usher_sessions", "Open sessions.", "transport"),
            users: gauge(&r, "usher_users", "Users with at least one session here."),
            pending: gauge(
                &r,
                "usher_pending_connections",
                "Connections not yet admitted.",
            ),
            admissions: counters(
                &r,
                "usher_admissions_total",
                "Requests for a session; result is 'admitted' or the error's code.",
                &["result"],
            ),
            connections_cut: counters(
                &r,
                "usher_connections_cut_total",
                "Connections cut off before a good request: too slow, more than may wait (in \
                 all, or of one address), no TLS, no HTTP, too large a head.",
                &["reason"],
            ),
            refused_addresses: gauge(
                &r,
                "usher_refused_addresses",
                "Addresses whose refusals are remembered, where they are limited.",
            ),
            tls: Tls::new(&r),
            file_reloads: counters(
                &r,
                "usher_file_reloads_total",
                "SIGHUPs: all files were read anew ('ok'), or one was not good ('failed').",
                &["result"],
            ),
            jwks_fetches: counters(
                &r,
                "usher_jwks_fetches_total",
                "Fetches of tickets.jwt.jwks_url or oidc_issuer: 'ok' or 'failed'.",
                &["result"],
            ),
            mints: counters(
                &r,
                "usher_mints_total",
                "Requests for a ticket by HTTP; result is 'minted' or the error's code.",
                &["result"],
            ),
            messages_received: counter(
                &r,
                "usher_messages_received_total",
                "Messages received from NATS.",
            ),
            messages_delivered: counters(
                &r,
                "usher_messages_delivered_total",
                "Messages written to sessions.",
                &["transport"],
            ),
            messages_dropped: counters(
                &r,
                "usher_messages_dropped_total",
                "Messages that a session did not get.",
                &["reason"],
            ),
            replayed: counter(
                &r,
                "usher_replayed_messages_total",
                "Messages sent to a session from the stream rather than as they came.",
            ),
            catch_ups: counters(
                &r,
                "usher_catch_ups_total",
                "Sessions brought up to date from the stream: a client came back \
                 ('resumed'), NATS was away ('lost'), a message did not come that should \
                 have ('hole'), or a client did not read ('slow').",
                &["reason"],
            ),
            stream_replaced: counters(
                &r,
                "usher_stream_replaced_total",
                "How often all sessions were closed 4003 because the stream was made anew \
                 ('made_anew'), or set back to an older state ('set_back').",
                &["reason"],
            ),
            odd_subjects: counter(
                &r,
                "usher_odd_subjects_total",
                "Stored messages that a scan saw on subjects which look like a user's and are \
                 nobody's; see `usher check`.",
            ),
            rounds: Rounds::new(&r),
            sessions_held_back: gauge(
                &r,
                "usher_sessions_held_back",
                "Sessions that wait for messages of the stream, which can't be read now.",
            ),
            presence_events: counters(
                &r,
                "usher_presence_events_total",
                "What this gateway has told services by presence.events: a user is 'online' or \
                 'offline', or a gateway has vanished ('lost').",
                &["state"],
            ),
            presence_deciding: gauge(
                &r,
                "usher_presence_deciding_users",
                "Users who came or went, and of whom services were not told yet: other gateways \
                 are asked, or presence.offline_delay runs.",
            ),
            presence_dropped: counter(
                &r,
                "usher_presence_dropped_total",
                "Users who came or went and of whom services are not told: too many at once, or \
                 NATS forbids it.",
            ),
            offline_messages: counters(
                &r,
                "usher_offline_messages_total",
                "Stored messages to users that this gateway looked at for offline.events: a \
                 session was given it ('given'), it was published on usher.offline.USER \
                 ('published'), it is a probe or its subject is no user's ('skipped'), or NATS \
                 did not say or take it, and it comes again ('again').",
                &["result"],
            ),
            offline_pending: gauge(
                &r,
                "usher_offline_pending_messages",
                "Stored messages to users that no gateway has looked at yet for \
                 offline.events; the same at each gateway.",
            ),
            offline_lost: counter(
                &r,
                "usher_offline_lost_total",
                "Sequences that durable.max_age or durable.max_bytes removed from the stream's \
                 beginning before the consumer usher-offline came to them, at most so many of \
                 them messages to users. Each gateway counts all: take the largest.",
            ),
            postponed: counter(
                &r,
                "usher_messages_postponed_total",
                "Messages given up in the backlog of a slow session, which gets them from \
                 the stream later.",
            ),
            bad_event_names: counter(
                &r,
                "usher_bad_event_names_total",
                "Messages whose Event header broke the rule; sent as 'message'.",
            ),
            session_closes: counters(
                &r,
                "usher_session_closes_total",
                "Ended sessions, by the reason of the close.",
                &["reason"],
            ),
            delivery_seconds: histogram(
                &r,
                "usher_delivery_seconds",
                "From a message's arrival from NATS until the kernel has its frame, for each session.",
            ),
            subscriptions: gauge(&r, "usher_subscriptions", "Subjects subscribed to."),
            topics: Topics::new(&r),
            calls: Calls::new(&r),
            queued_bytes: gauge(
                &r,
                "usher_queued_bytes",
                "Memory of what waits for sessions to read.",
            ),
            tasks: gauge(
                &r,
                "usher_tasks",
                "Tasks under way: one a session, and a few of the gateway's own.",
            ),
            nats_connected: gauges(
                &r,
                "usher_nats_connected",
                "1 while this connection to NATS works; connection is 'interest' (what is \
                 published to sessions), 'push' (what leaves), 'service' (the service API), 'calls' \
                 (clients' calls), or, in durable mode, 'stream' (what is read back).",
                "connection",
            ),
            gateways: gauge(
                &r,
                "usher_gateways",
                "Gateways heard of within 10 s, this one included; the last count while NATS is \
                 away.",
            ),
            gateways_lost: counter(
                &r,
                "usher_gateways_lost_total",
                "Gateways that went silent for 9 s without a goodbye, as this gateway hears it.",
            ),
            service_requests: counters(
                &r,
                "usher_service_requests_total",
                "Calls by the service API of NATS, by endpoint and by code as over HTTP.",
                &["endpoint", "code"],
            ),
            control_calls: counters(
                &r,
                "usher_control_calls_total",
                "Calls that concern all gateways, by op ('presence', 'disconnect', 'topics'): every gateway \
                 answered ('complete'), one did not ('incomplete'), none did or could be asked \
                 ('failed').",
                &["op", "result"],
            ),
            gateways_ignored: counter(
                &r,
                "usher_gateways_ignored_total",
                "News of gateways beyond 4,096, which are not remembered: presence is never \
                 complete then.",
            ),
            redis_command_seconds: histogram(
                &r,
                "usher_redis_command_seconds",
                "Commands to Redis, failed ones included.",
            ),
            grpc_requests: counters(
                &r,
                "usher_grpc_requests_total",
                "Calls of the push API; of PushStream its pushes, each by its own outcome. One by \
                 HTTP counts as the method of gRPC's that does the same, with gRPC's code; of a \
                 batch, each push counts as one of PushNotification.",
                &["method", "code"],
            ),
            grpc_connections: gauge(&r, "usher_grpc_connections", "Connections to the push API."),
            grpc_in_flight_bytes: gauge(
                &r,
                "usher_grpc_in_flight_bytes",
                "Bytes of requests to the push API that are under way.",
            ),
            grpc_connections_cut: counters(
                &r,
                "usher_grpc_connections_cut_total",
                "Connections to the push API that were closed by a bound: more than \
                 grpc.max_connections ('too_many'), silent while another needed the room \
                 ('made_room'), silent for too long ('too_slow'), no TLS ('tls'), too many \
                 frames before a call that is let in ('too_many_frames'), still there long \
                 after it was asked to close ('overstayed').",
                &["reason"],
            ),
            grpc_refused: counters(
                &r,
                "usher_grpc_refused_total",
                "Calls of the push API that were refused by a bound: grpc.max_message \
                 ('message_too_large'), grpc.max_in_flight_bytes ('in_flight_bytes'), a message \
                 that does not arrive ('too_slow'), health checks on one connection \
                 ('too_many_health_checks'), streams of pushes ('too_many_streams').",
                &["reason"],
            ),
            service: Service::new(&r),
            receipts: counters(
                &r,
                "usher_receipts_total",
                "Publishers' questions: answered ('sent'), not answered for their reply subject \
                 ('refused') or for want of room ('dropped').",
                &["result"],
            ),
            spans: counters(
                &r,
                "usher_trace_spans_total",
                "Spans of traces: taken by the collector ('sent'), not taken by it ('refused'), \
                 given up after several attempts ('unsent'), or lost since too many waited \
                 ('dropped').",
                &["result"],
            ),
            registry: r,
        };
        let info = Opts::new("usher_build_info", "1; the version stands in the label.")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        register(&metrics.registry, Ok(LOG_LINES_LOST.clone()));
        let info = register(&metrics.registry, IntGauge::with_opts(info));
        info.set(1);
        metrics.begin_at_zero();
        #[cfg(target_os = "linux")]
        {
            let process = prometheus::process_collector::ProcessCollector::for_self();
            // Registered once per registry, so nothing of the same name is there.
            let _ = metrics.registry.register(Box::new(process));
        }
        metrics
    }
}
