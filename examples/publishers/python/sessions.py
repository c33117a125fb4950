"""Asks who is online, and ends a user's sessions, by NATS's service API.

    sessions.py presence USER...
    sessions.py disconnect USER [REASON]

Needs nats-py. NATS_URL, NATS_USER and NATS_PASSWORD say where and as whom. Prints the answer;
exits 0 where every gateway has answered, 1 where nothing was done, 2 where that is unknown.
"""

import asyncio
import json
import os
import sys

import nats
from nats.errors import NoRespondersError


async def call(bus, endpoint, body):
    """The exit code, and what to print."""
    subject = f"usher.api.{endpoint}"
    try:
        answer = await bus.request(subject, json.dumps(body).encode(), timeout=2)
    except NoRespondersError:
        return 1, "no gateway is there"
    except asyncio.TimeoutError:  # a disconnect may have happened: it is safe to ask again
        return 2, "no answer within 2 s"
    headers = answer.headers or {}
    if code := headers.get("Nats-Service-Error-Code"):
        # 504: no gateway has answered, and a disconnect may have happened.
        return 2 if code == "504" else 1, f"{code}: {headers['Nats-Service-Error']}"
    found = json.loads(answer.data)
    # Not complete: a gateway did not answer. Users may be online there; ask again.
    return 0 if found["complete"] else 2, json.dumps(found)


async def main(endpoint, *arguments):
    bus = await nats.connect(
        os.environ.get("NATS_URL", "nats://127.0.0.1:4222"),
        user=os.environ.get("NATS_USER"),
        password=os.environ.get("NATS_PASSWORD"),
        allow_reconnect=False,  # one call: say at once that NATS is away
    )
    if endpoint == "presence":
        body = {"user_ids": arguments}
    else:
        user, reason = (*arguments, "")[:2]
        body = {"user_id": user, "reason": reason}
    code, line = await call(bus, endpoint, body)
    await bus.close()
    print(line)
    return code


sys.exit(asyncio.run(main(*sys.argv[1:])))
