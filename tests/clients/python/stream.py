"""A caller by grpcio that pushes over streams.

Run by tests/journeys/push_stream.rs and grpc_drain.rs:

    stream.py PROTO_FOLDER GRPC_ADDRESS numbers USER COUNT BAD
    stream.py PROTO_FOLDER GRPC_ADDRESS cancel USER ANSWERS
    stream.py PROTO_FOLDER GRPC_ADDRESS forever USER

`numbers` pushes 0, 1, 2, … over one stream; each BADth is for no user. `cancel` pushes
without an end, and cancels after so many answers. `forever` pushes without a pause, over
one stream after another, until SIGTERM.

It prints a line for each push, `MESSAGE STATUS`, where STATUS is `none` for one without an
answer, and for each stream `end:STATUS:CERTAIN:ANSWERS`, CERTAIN as of push.py.
"""

import itertools
import signal
import sys
import threading
import time

import grpc

from stubs import is_certain, stubs

# A gateway that is away is tried again after so many milliseconds.
AGAIN = 50
# Seconds between two pushes of `forever`.
PAUSE = 0.001

messages, services = stubs(sys.argv[1])
address, mode, user = sys.argv[2:5]
over = threading.Event()


def status_of(answer):
    """OK, or the code's name."""
    if answer.HasField("response"):
        return "OK"
    codes = {code.value[0]: code.name for code in grpc.StatusCode}
    return codes[answer.error.code]


def stream(stub, requests, cancel_after=None):
    """Pushes over one stream: `requests` are pairs of a user and a message."""
    sent = []
    answers = 0

    def sending():
        for name, message in requests:
            push = messages.PushRequest(user_id=name, message=message.encode())
            sent.append(message)
            yield messages.PushStreamRequest(push=push)

    call = stub.PushStream(sending())
    try:
        for answer in call:
            if answer.index != answers:
                sys.exit(f"answer {answer.index} came in place of {answers}")
            print(sent[answers], status_of(answer), flush=True)
            answers += 1
            if answers == cancel_after:
                call.cancel()
        end = "OK:certain"
    except grpc.RpcError as error:
        end = f"{error.code().name}:{'certain' if is_certain(error) else 'unknown'}"
    for message in sent[answers:]:
        print(message, "none")
    print(f"end:{end}:{answers}", flush=True)
    return end


def numbers(stub, count, bad):
    """`numbers`"""
    stream(stub, (("" if n % bad == bad - 1 else user, str(n)) for n in range(count)))


def cancel(stub, answers):
    """`cancel`"""
    stream(stub, ((user, str(n)) for n in itertools.count()), answers)


def forever(stub):
    """`forever`"""
    signal.signal(signal.SIGTERM, lambda *_: over.set())

    def requests(number):
        for n in itertools.takewhile(lambda _: not over.is_set(), itertools.count()):
            yield user, f"{number}-{n}"
            time.sleep(PAUSE)

    for number in itertools.takewhile(lambda _: not over.is_set(), itertools.count()):
        end = stream(stub, requests(number))
        if end != "OK:certain":
            time.sleep(AGAIN / 1000)
    print("over", flush=True)


options = [
    ("grpc.initial_reconnect_backoff_ms", AGAIN),
    ("grpc.min_reconnect_backoff_ms", AGAIN),
    ("grpc.max_reconnect_backoff_ms", AGAIN),
]
with grpc.insecure_channel(address, options if mode == "forever" else None) as channel:
    caller = services.NotificationStub(channel)
    arguments = [int(argument) for argument in sys.argv[5:]]
    {"numbers": numbers, "cancel": cancel, "forever": forever}[mode](caller, *arguments)
