"""A client made of PyPI's centrifuge-python, unchanged. Run by
tests/journeys/centrifuge.rs:

    client.py '{"url":"ws://…","tickets":"http://…/v1/tickets","user":"42"}'

The SDK keeps the same `data` for all its connections. Over JSON that is a dictionary, and
this client puts a fresh ticket into it each time that it begins to connect. With "protobuf"
it speaks Protobuf, with one ticket. With "secret" it signs itself JWTs that live for "life"
seconds instead. Tickets have "grants". With "follow" it subscribes to that topic by itself, with
"call" it makes these calls. Prints `ticket T` for each ticket, and everything that happens as
one JSON object a line, until it is killed.
"""

import asyncio
import json
import sys
import time
import urllib.request

import jwt

from centrifuge import Client, ClientEventHandler, ReplyError, SubscriptionEventHandler

OPTIONS = json.loads(sys.argv[1])
PROTOBUF = OPTIONS.get("protobuf", False)


def say(on, **rest):
    print(json.dumps({"on": on, **rest}), flush=True)


def ticket():
    request = urllib.request.Request(
        OPTIONS["tickets"],
        json.dumps({"user_id": OPTIONS["user"], **OPTIONS.get("grants", {})}).encode(),
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
        subscribed(ctx.channel, ctx)

    async def on_publication(self, ctx):
        publication(ctx.channel, ctx.pub)


class Follower(SubscriptionEventHandler):
    async def on_subscribed(self, ctx):
        subscribed(OPTIONS["follow"], ctx)

    async def on_publication(self, ctx):
        publication(OPTIONS["follow"], ctx.pub)


def subscribed(channel, ctx):
    position = ctx.stream_position
    say(
        "subscribed",
        channel=channel,
        recovered=ctx.recovered,
        wasRecovering=ctx.was_recovering,
        recoverable=ctx.recoverable,
        streamPosition=position and {"offset": position.offset, "epoch": position.epoch},
    )


def publication(channel, pub):
    say("publication", channel=channel, data=shown(pub.data), offset=pub.offset, tags=pub.tags)


def shown(data):
    return data.decode("latin1") if isinstance(data, bytes) else data


def encode(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() if PROTOBUF else value


async def call(client, name, data):
    try:
        say("answer", name=name, data=shown((await client.rpc(name, encode(data))).data))
    except ReplyError as error:
        say("answer", name=name, code=error.code, message=str(error))


async def main():
    data = None
    if "secret" not in OPTIONS:
        data = json.dumps({"ticket": ticket()}).encode() if PROTOBUF else {"ticket": None}
    client = Client(
        OPTIONS["url"],
        events=Handler(data),
        use_protobuf=PROTOBUF,
        data=data,
        token=OPTIONS.get("token") or "",
        get_token=token if "secret" in OPTIONS else None,
        min_reconnect_delay=0.05,
        max_reconnect_delay=0.3,
        proxy=None,
    )
    if "follow" in OPTIONS:
        await client.new_subscription(OPTIONS["follow"], events=Follower()).subscribe()
    await client.connect()
    for name, data in OPTIONS.get("call", []):
        await call(client, name, data)
    await asyncio.Event().wait()


asyncio.run(main())
