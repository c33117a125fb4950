"""A collector of traces: OTLP over gRPC, by OpenTelemetry's own messages.

Run by tests/journeys/traces.rs:

    otlp.py ADDRESS [CERTIFICATE_FILE KEY_FILE]

It prints `listening PORT`, and then each span that it is sent as a line of JSON.
"""

import json
import sys
from concurrent import futures

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service
from opentelemetry.proto.trace.v1 import trace_pb2


def say(line):
    print(line, flush=True)


def plain(attributes):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in attributes}


class Collector(service.TraceServiceServicer):
    def Export(self, request, context):
        for resource_spans in request.resource_spans:
            resource = plain(resource_spans.resource.attributes)
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    say(
                        json.dumps(
                            {
                                "name": span.name,
                                "trace": span.trace_id.hex(),
                                "span": span.span_id.hex(),
                                "parent": span.parent_span_id.hex(),
                                "state": span.trace_state,
                                "kind": trace_pb2.Span.SpanKind.Name(span.kind),
                                "start": span.start_time_unix_nano,
                                "end": span.end_time_unix_nano,
                                "failed": span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
                                "status": span.status.message,
                                "attributes": plain(span.attributes),
                                "resource": resource,
                            }
                        )
                    )
        return messages.ExportTraceServiceResponse()


def main():
    address, files = sys.argv[1], sys.argv[2:]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), options=[("grpc.so_reuseport", 0)])
    service.add_TraceServiceServicer_to_server(Collector(), server)
    if files:
        certificate, key = (open(file, "rb").read() for file in files)
        credentials = grpc.ssl_server_credentials([(key, certificate)])
        port = server.add_secure_port(address, credentials)
    else:
        port = server.add_insecure_port(address)
    server.start()
    say(f"listening {port}")
    server.wait_for_termination()


main()
