"""Pushes to a user by NATS, and says what became of it.

    push.py USER JSON [MESSAGE_ID]

Needs nats-py. NATS_URL, NATS_USER and NATS_PASSWORD say where and as whom. Prints one line;
exits 0 where it is published, 1 where it certainly is not, 2 where that is unknown.
"""

import asyncio
import json
import os
import re
import sys

import nats
from nats.errors import NoRespondersError


def subject(user: str) -> str:
    escaped = re.sub(rb"[^A-Za-z0-9_-]", lambda byte: b"%%%02X" % byte[0][0], user.encode())
    return "usher.user." + escaped.decode()


async def push(bus, user, data, message_id=None):
    """The exit code, and what to say."""
    headers = {"Event": "order.completed"}
    if message_id:  # unique across users; the APIs of Usher write the same
        headers["Nats-Msg-Id"] = subject(user).removeprefix("usher.user.") + ":" + message_id
    try:
        answer = await bus.request(subject(user), data.encode(), timeout=2, headers=headers)
    except NoRespondersError:
        # Live mode: no session of the user, the message is gone.
        # Durable mode: the stream is missing or has no leader, the message is not stored.
        return 1, "not published: nobody listens (live mode: the user is offline)"
    except asyncio.TimeoutError:  # nats.errors.TimeoutError is one
        # Durable mode: push again with the same MESSAGE_ID; it is stored once.
        # Live mode, or without a MESSAGE_ID: a repetition may be delivered twice.
        # nats-py tells its error handler of a permissions violation; by default it logs it.
        return 2, "unknown: no answer within 2 s"
    found = json.loads(answer.data)
    if "error" in found:  # the stream says why it did not store the message
        return 1, f"not published: {found['error']['description']}"
    if "stream" in found:
        duplicate = " duplicate" if found.get("duplicate") else ""
        return 0, f"stored seq={found['seq']}{duplicate}"
    # A gateway's receipt: there is no stream, so the message is queued and not stored.
    return 0, f"queued sessions={found['sessions']}"


async def main(user, data, message_id=None):
    bus = await nats.connect(
        os.environ.get("NATS_URL", "nats://127.0.0.1:4222"),
        user=os.environ.get("NATS_USER"),
        password=os.environ.get("NATS_PASSWORD"),
        allow_reconnect=False,  # one call: say at once that NATS is away
    )
    code, line = await push(bus, user, data, message_id)
    await bus.close()
    print(line)
    return code


sys.exit(asyncio.run(main(*sys.argv[1:])))
