//! Spans in OpenTelemetry's own messages.

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::SpanKind, status::StatusCode},
};

use super::span::{Ended, Operation, Value};

/// A request with these spans of this gateway.
pub(super) fn request(gateway: &str, spans: &[Ended]) -> ExportTraceServiceRequest {
    let resource = [
        ("service.name", "usher"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("service.instance.id", gateway),
    ];
    let resource = resource.map(|(key, text)| attribute(key, text.to_owned().into()));
    let scope = InstrumentationScope {
        name: "usher".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: resource.into(),
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope),
                spans: spans.iter().map(span).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

fn span(ended: &Ended) -> Span {
    let kind = match ended.operation {
        Operation::Admission | Operation::Push => SpanKind::Server,
        Operation::Deliver | Operation::Replay => SpanKind::Consumer,
        Operation::Call => SpanKind::Client,
    };
    let attributes = ended.attributes.iter();
    Span {
        trace_id: ended.trace.id.into(),
        span_id: ended.id.into(),
        trace_state: ended.state.clone(),
        parent_span_id: ended.trace.parent.map(Vec::from).unwrap_or_default(),
        // Of the trace: it is recorded.
        flags: 1,
        name: ended.operation.name().to_owned(),
        kind: kind.into(),
        start_time_unix_nano: ended.start,
        end_time_unix_nano: ended.end,
        attributes: attributes
            .map(|(key, value)| attribute(key, value.clone()))
            .collect(),
        status: ended.failure.map(|reason| Status {
            message: reason.to_owned(),
            code: StatusCode::Error.into(),
        }),
        ..Span::default()
    }
}

fn attribute(key: &str, value: Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => any_value::Value::StringValue(text.into_owned()),
        Value::Number(number) => {
            any_value::Value::IntValue(i64::try_from(number).unwrap_or(i64::MAX))
        }
    };
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
