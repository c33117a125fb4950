"""Pushes to a user by gRPC with a receipt, and says what became of it.

    push_grpc.py USER JSON [MESSAGE_ID]

Needs grpcio, grpcio-tools and grpcio-status. USHER_GRPC and USHER_TOKEN say where and with
which of grpc.tokens. Prints one line; exits 0 where it is published, 1 where it certainly is
not, 2 where that is unknown.
"""

import os
import sys
from pathlib import Path

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

PROTO = Path(__file__).parents[3] / "proto"  # in a project of your own: where you keep the file
sys.path.append(str(PROTO))
messages, services = grpc.protos_and_services("usher/v1/notification.proto")


def certainly_not_published(error):
    """Whether the gateway itself says so. The code alone proves nothing: the gRPC library
    answers UNAVAILABLE too, where a connection breaks under a call."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    return status is not None and any(
        detail.Unpack(info) and (info.reason, info.domain) == ("NOT_PUBLISHED", "usher")
        for detail in status.details
    )


def main(user, data, message_id=""):
    token = os.environ.get("USHER_TOKEN")
    metadata = [("authorization", f"Bearer {token}")] if token else []
    request = messages.PushRequest(
        user_id=user,
        message=data.encode(),
        event="order.completed",
        message_id=message_id,
        receipt=True,
    )
    with grpc.insecure_channel(os.environ.get("USHER_GRPC", "127.0.0.1:9090")) as channel:
        service = services.NotificationStub(channel)
        try:
            answer = service.PushNotification(request, timeout=5, metadata=metadata)
        except grpc.RpcError as error:
            certain = certainly_not_published(error)
            print("not published:" if certain else "unknown:", error.code().name, error.details())
            return 1 if certain else 2
    status = messages.PushStatus.Name(answer.status).removeprefix("PUSH_STATUS_").lower()
    # "dispatched": the MESSAGE_ID was stored before; nobody was asked about sessions.
    sessions = "" if status == "dispatched" else f" sessions={answer.sessions}"
    stored = f" seq={answer.seq}" if answer.seq else ""  # durable mode
    print(status + sessions + stored)
    return 0


sys.exit(main(*sys.argv[1:]))
