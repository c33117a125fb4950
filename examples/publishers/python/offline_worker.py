"""Sends a mobile push for each message that no session was given (offline.events).

    offline_worker.py [COUNT]

Ends after COUNT messages; without COUNT at SIGINT or SIGTERM. Needs nats-py. NATS_URL,
NATS_USER and NATS_PASSWORD say where and as whom.

Gateways publish on usher.offline.USER once. A plain subscriber misses it while it restarts, so
a stream of our own captures it. That stream also drops repetitions with the same Nats-Msg-Id.
"""

import asyncio
import os
import signal
import sys
from urllib.parse import unquote

import nats
from nats.js.api import RetentionPolicy


def send_mobile_push(user, event, data, key):
    """Here you call APNs or FCM. `key` is the same in a repetition: use it to send once."""
    print("mobile push", user, event, data.decode(errors="replace"), f"key={key}", flush=True)


async def main(count=0):
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    bus = await nats.connect(
        os.environ.get("NATS_URL", "nats://127.0.0.1:4222"),
        user=os.environ.get("NATS_USER"),
        password=os.environ.get("NATS_PASSWORD"),
    )
    stream = bus.jetstream()
    await stream.add_stream(  # does nothing where it is there with these settings
        name="USHER_OFFLINE",
        subjects=["usher.offline.*"],
        retention=RetentionPolicy.WORK_QUEUE,  # a message goes once it is acknowledged
        max_age=24 * 3600,
    )
    # All workers share this consumer. What is not acknowledged within 30 s comes again.
    messages = await stream.pull_subscribe(
        "usher.offline.*", durable="mobile", stream="USHER_OFFLINE"
    )
    print("listening", flush=True)
    done = 0
    while not over.is_set() and (not count or done < count):
        try:
            [message] = await messages.fetch(1, timeout=1)
        except asyncio.TimeoutError:
            continue
        user = unquote(message.subject.removeprefix("usher.offline."))
        headers = message.headers or {}
        key = headers.get("Nats-Msg-Id") or headers["Usher-Seq"]
        send_mobile_push(user, headers.get("Event", "message"), message.data, key)
        await message.ack()  # after the work: a worker that dies here has it come again
        done += 1
    await bus.close()


asyncio.run(main(*map(int, sys.argv[1:])))
