"""One push by grpcio, and what its caller learns.

Run by tests/journeys/grpc_unavailable.rs:

    push.py PROTO_FOLDER GRPC_ADDRESS USER MESSAGE

It prints `STATUS certain` where the gateway says that nothing was published, otherwise
`STATUS unknown`; after OK nothing more.
"""

import sys

import grpc

from stubs import is_certain, stubs

messages, services = stubs(sys.argv[1])
address, user, message = sys.argv[2:5]
with grpc.insecure_channel(address) as channel:
    stub = services.NotificationStub(channel)
    try:
        push = messages.PushRequest(user_id=user, message=message.encode())
        stub.PushNotification(push, timeout=30)
        print("OK")
    except grpc.RpcError as error:
        print(error.code().name, "certain" if is_certain(error) else "unknown")
