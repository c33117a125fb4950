"""A service that finds, reads and calls the service `usher` with nats-py.

    services.py NATS_URL USER PASSWORD GATEWAYS

The user 42 is online with one session. Ends with 0 where all is well.
"""

import asyncio
import json
import sys

import nats


def check(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: {found!r} instead of {expected!r}")


async def several(bus, subject, count):
    """The answers of so many instances, and that there are no more within 1 s."""
    inbox = bus.new_inbox()
    answers = await bus.subscribe(inbox)
    await bus.publish(subject, b"", reply=inbox)
    found = [json.loads((await answers.next_msg(10)).data) for _ in range(count)]
    try:
        extra = await answers.next_msg(1)
        sys.exit(f"one answer too many to {subject}: {extra.data!r}")
    except nats.errors.TimeoutError:
        return found


async def call(bus, endpoint, body):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await bus.request(f"usher.api.{endpoint}", data, timeout=10)
    headers = answer.headers or {}
    if "Nats-Service-Error-Code" in headers:
        return headers["Nats-Service-Error-Code"], headers["Nats-Service-Error"]
    return json.loads(answer.data)


async def journey(url, user, password, gateways):
    bus = await nats.connect(url, user=user, password=password)
    count = int(gateways)
    pings = await several(bus, "$SRV.PING", count)
    check("types", {ping["type"] for ping in pings}, {"io.nats.micro.v1.ping_response"})
    check("ids", len({ping["id"] for ping in pings}), count)
    [info] = await several(bus, f"$SRV.INFO.usher.{pings[0]['id']}", 1)
    names = sorted(endpoint["name"] for endpoint in info["endpoints"])
    check("endpoints", names, ["disconnect", "presence", "topics"])
    subjects = sorted(endpoint["subject"] for endpoint in info["endpoints"])
    check("subjects", subjects, ["usher.api.disconnect", "usher.api.presence", "usher.api.topics"])

    found = await call(bus, "presence", {"user_ids": ["42", "nobody"]})
    check("who is online", list(found["users"]), ["42"])
    check("sessions", found["users"]["42"]["sessions"], 1)
    check("complete", found["complete"], True)
    for endpoint, body, says in [
        ("presence", b"[1", "body"),
        ("presence", {"user_ids": [str(i) for i in range(1001)]}, "at most 1000"),
        ("disconnect", {"user_id": "42", "reconect": True}, "reconect"),
    ]:
        code, error = await call(bus, endpoint, body)
        check(f"the code of {endpoint}", code, "400")
        if says not in error:
            sys.exit(f"no {says!r} in {error!r}")
    ended = await call(bus, "disconnect", {"user_id": "42", "reason": "by python"})
    check("ended", ended, {"sessions": 1, "complete": True})

    stats = await several(bus, "$SRV.STATS.usher", count)
    endpoints = [endpoint for one in stats for endpoint in one["endpoints"]]
    if sum(endpoint["num_requests"] for endpoint in endpoints) < 5:
        sys.exit(f"too few requests: {endpoints}")
    if sum(endpoint["num_errors"] for endpoint in endpoints) < 3:
        sys.exit(f"too few errors: {endpoints}")
    await bus.close()


asyncio.run(journey(*sys.argv[1:]))
