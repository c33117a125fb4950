"""What the services of the recipes have in common: a connection, and calls that they answer.

NATS_URL, NATS_USER and NATS_PASSWORD say where and as whom. Needs nats-py 2.16 or later.
"""

import asyncio
import json
import os
import re
import signal

import nats


def subject(kind, name):
    """`usher.user.NAME` or `usher.topic.NAME`: other bytes than A-Z a-z 0-9 - _ are %XX."""
    escaped = re.sub(rb"[^A-Za-z0-9_-]", lambda byte: b"%%%02X" % byte[0][0], name.encode())
    return f"usher.{kind}.{escaped.decode()}"


class Refused(Exception):
    """The browser is told this code and these words."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


async def serve(calls):
    """Answers calls until SIGINT or SIGTERM. `calls` makes them, by name, of the connection."""
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    bus = await nats.connect(
        os.environ.get("NATS_URL", "nats://127.0.0.1:4222"),
        user=os.environ.get("NATS_USER"),
        password=os.environ.get("NATS_PASSWORD"),
    )

    async def reply(call, answer):
        # Who asks: only gateways may publish here, and they have checked it.
        user = call.headers["Usher-User"]
        headers = None
        try:
            data = await answer(user, json.loads(call.data or b"{}"))
        except Refused as refused:
            data = None
            headers = {"Nats-Service-Error-Code": refused.code, "Nats-Service-Error": str(refused)}
        except (ValueError, KeyError, TypeError, AttributeError):
            data = None
            headers = {"Nats-Service-Error-Code": "400", "Nats-Service-Error": "not such data"}
        if call.reply:
            await bus.publish(call.reply, json.dumps(data).encode(), headers=headers)

    def handler(answer):
        async def handle(call):
            await reply(call, answer)

        return handle

    for name, answer in calls(bus).items():
        # One of several instances answers.
        await bus.subscribe(f"usher.call.{name}", queue="recipes", cb=handler(answer))
    await bus.flush()
    print("listening", flush=True)
    await over.wait()
    await bus.drain()
