"""A client made of PyPI's centrifuge-python, unchanged. Run by
tests/journeys/centrifuge.rs:

    client.py '{"url":"ws://…","tickets":"http://…/v1/tickets","user":"42"}'

The SDK keeps the same `data` for all its connections. Over JSON that is a dictionary, and
this client puts a fresh ticket into it each time that it begins to connect. With "protobuf"
it speaks Protobuf, with one ticket. With "secret" it signs itself JWTs that live for "life"
seconds instead. Prints `ticket T` for each ticket, and everything that
happens as one JSON object a line, until it is killed.
"""

import asyncio
import json
import sys
import time
import urllib.request

import jwt

from centrifuge import Client, ClientEventHandler

OPTIONS = json.loads(sys.argv[1])


def say(on, **rest):
    print(json.dumps({"on": on, **rest}), flush=True)


def ticket():
    request = urllib.request.Request(
        OPTIONS["tickets"],
        json.dumps({"user_id": OPTIONS["user"]}).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        ticket = json.load(answer)["ticket"]
    print(f"ticket {ticket}", flush=True)
    return ticket


async def token():
    claims = {"sub": OPTIONS["user"], "exp": int(time.time()) + OPTIONS["life"]}
    token = jwt.encode(claims, OPTIONS["secret"], "HS256")
    say("token")
    print(f"ticket {token}", flush=True)
    return token


class Handler(ClientEventHandler):
    def __init__(self, data):
        self.data = data

    def refresh(self):
        if isinstance(self.data, dict):
            self.data["ticket"] = ticket()

    async def on_connecting(self, ctx):
        say("connecting", code=ctx.code, reason=ctx.reason)
        self.refresh()

    async def on_connected(self, ctx):
        say("connected")

    async def on_disconnected(self, ctx):
        say("disconnected", code=ctx.code, reason=ctx.reason)

    async def on_error(self, ctx):
        code = getattr(ctx.error, "code", None)
        say("error", error={"code": code, "message": str(ctx.error)})
        self.refresh()

    async def on_subscribed(self, ctx):
        position = ctx.stream_position
        say(
            "subscribed",
            channel=ctx.channel,
            recovered=ctx.recovered,
            wasRecovering=ctx.was_recovering,
            recoverable=ctx.recoverable,
            streamPosition=position
            and {"offset": position.offset, "epoch": position.epoch},
        )

    async def on_publication(self, ctx):
        pub = ctx.pub
        data = pub.data
        if isinstance(data, bytes):
            data = data.decode("latin1")
        say("publication", channel=ctx.channel, data=data, offset=pub.offset, tags=pub.tags)


async def main():
    protobuf = OPTIONS.get("protobuf", False)
    data = None
    if "secret" not in OPTIONS:
        data = json.dumps({"ticket": ticket()}).encode() if protobuf else {"ticket": None}
    client = Client(
        OPTIONS["url"],
        events=Handler(data),
        use_protobuf=protobuf,
        data=data,
        token=OPTIONS.get("token") or "",
        get_token=token if "secret" in OPTIONS else None,
        min_reconnect_delay=0.05,
        max_reconnect_delay=0.3,
        proxy=None,
    )
    await client.connect()
    await asyncio.Event().wait()


asyncio.run(main())
