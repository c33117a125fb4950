"""Callers that push without a pause, by grpcio, while gateways are drained.

Run by tests/journeys/grpc_drain.rs:

    drain.py PROTO_FOLDER GRPC_ADDRESS CALLERS

Each caller has a connection of its own and makes one call after another, each with
a receipt. It prints a line for each call, `ID STATUS`, where the ID is the message's
payload. It ends at SIGTERM, when every call that it began has its answer.
"""

import signal
import sys
import threading
import time

import grpc

from stubs import stubs

# A gateway that is away is tried again after so many milliseconds.
AGAIN = 50

messages, services = stubs(sys.argv[1])
address, callers = sys.argv[2], int(sys.argv[3])
over = threading.Event()
printing = threading.Lock()


def call(caller):
    """Calls until it is over."""
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", AGAIN),
        ("grpc.min_reconnect_backoff_ms", AGAIN),
        ("grpc.max_reconnect_backoff_ms", AGAIN),
    ]
    with grpc.insecure_channel(address, options) as channel:
        stub = services.NotificationStub(channel)
        number = 0
        while not over.is_set():
            number += 1
            name = f"{caller}-{number}"
            push = messages.PushRequest(user_id="drain", message=name.encode(), receipt=True)
            try:
                stub.PushNotification(push, timeout=10)
                status = "OK"
            except grpc.RpcError as error:
                status = error.code().name
            with printing:
                print(name, status, flush=True)
            if status != "OK":
                time.sleep(AGAIN / 1000)


signal.signal(signal.SIGTERM, lambda *_: over.set())
threads = [threading.Thread(target=call, args=[caller]) for caller in range(callers)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("over", flush=True)
