"""A journey with clients that Usher's authors did not write.

The auth service is redis-py, the browser is websockets, the publisher is
nats-py, and the service that pushes is grpcio with stubs that protoc generates
from our proto file. Run by tests/journeys/foreign.rs:

    foreign.py PROTO_FOLDER NATS_URL REDIS_URL PUBLIC GRPC PUBLIC_2 GRPC_2

Ends with 0 where all is well, otherwise says what is not. Prints the tickets it
used, so that the gateways' logs can be searched for them.
"""

import asyncio
import importlib
import json
import os
import secrets
import sys
import tempfile

import grpc
import nats
import redis.asyncio as redis
import websockets
from grpc_tools import protoc

PATIENCE = 10


def stubs(folder):
    """What protoc makes of our proto file."""
    target = tempfile.mkdtemp()
    builtin = os.path.join(os.path.dirname(protoc.__file__), "_proto")
    files = [
        os.path.join("usher", "v1", "notification.proto"),
        os.path.join("google", "rpc", "status.proto"),
    ]
    arguments = ["protoc", f"-I{folder}", f"-I{builtin}"]
    arguments += [f"--python_out={target}", f"--grpc_python_out={target}", *files]
    check("protoc's exit code", protoc.main(arguments), 0)
    sys.path.insert(0, target)
    return (
        importlib.import_module("usher.v1.notification_pb2"),
        importlib.import_module("usher.v1.notification_pb2_grpc"),
    )


def check(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: {found!r} instead of {expected!r}")


async def within(what, awaitable):
    try:
        return await asyncio.wait_for(awaitable, PATIENCE)
    except asyncio.TimeoutError:
        sys.exit(f"not within {PATIENCE} s: {what}")


class Browser:
    """One session, as a page has one."""

    def __init__(self, socket):
        self.socket = socket

    @classmethod
    async def open(cls, public, ticket, **options):
        options.setdefault("subprotocols", ["usher.v1"])
        query = f"?ticket={ticket}" if ticket else ""
        socket = await within(
            "a session", websockets.connect(f"ws://{public}/ws{query}", **options)
        )
        browser = cls(socket)
        browser.welcome = (await browser.frame())["welcome"]
        return browser

    async def frame(self):
        while True:
            frame = json.loads(await within("a frame", self.socket.recv()))
            if "ping" not in frame:
                return frame


async def new_ticket(store, user):
    ticket = secrets.token_urlsafe(32)
    print("ticket", ticket)
    await store.set(f"ticket:{ticket}", user, ex=60)
    return ticket


async def journey(proto, nats_url, redis_url, public, grpc_address, public_2, grpc_2):
    messages, services = stubs(proto)
    store = redis.from_url(redis_url)
    bus = await within("NATS", nats.connect(nats_url))

    # The auth service writes a ticket, and the page opens a session with it.
    user = "zoë@example.com"
    subject = "usher.user." + "".join(
        chr(byte) if chr(byte).isascii() and (chr(byte).isalnum() or chr(byte) in "-_") else f"%{byte:02X}"
        for byte in user.encode()
    )
    ticket = await new_ticket(store, user)
    here = await Browser.open(public, ticket, origin=f"http://{public}")
    check("the welcome's user", here.welcome["user"], user)
    check("the chosen sub-protocol", here.socket.subprotocol, "usher.v1")
    check("a used ticket's value", await store.get(f"ticket:{ticket}"), None)

    # Once.
    try:
        await Browser.open(public, ticket)
        sys.exit("a ticket opened a second session")
    except websockets.exceptions.InvalidStatus as refusal:
        check("a used ticket's status", refusal.response.status_code, 401)
        code = json.loads(refusal.response.body)["error"]["code"]
        check("a used ticket's code", code, "ticket_unknown")

    # A publish is on the screen.
    await bus.publish(subject, b'{"order":123}', headers={"Event": "order.completed"})
    expected = {"event": "order.completed", "data": {"order": 123}}
    check("a published event", await here.frame(), expected)

    # A request is answered by the gateway that holds the user.
    receipt = await within("a receipt", bus.request(subject, b"1", timeout=PATIENCE))
    expected = {"gateway": here.welcome["gateway"], "sessions": 1}
    check("a receipt", json.loads(receipt.data), expected)
    check("a requested event", (await here.frame())["data"], 1)
    try:
        await bus.request("usher.user.nobody", b"1", timeout=PATIENCE)
        sys.exit("somebody answered for a user who is not there")
    except nats.errors.NoRespondersError:
        pass

    # The second gateway: the same tickets, the same user, both get all.
    async with grpc.aio.insecure_channel(grpc_2) as channel:
        service = services.NotificationStub(channel)
        request = messages.IssueTicketRequest(user_id=user)
        issued = await within("a ticket", service.IssueTicket(request))
        print("ticket", issued.ticket)
        check("a ticket's time", issued.expires_in.seconds, 60)
        there = await Browser.open(
            public_2, None, subprotocols=["usher.v1", f"usher.ticket.{issued.ticket}"]
        )
        check("the second welcome's user", there.welcome["user"], user)

        request = messages.PushRequest(user_id=user, message=b'"hello"', event="hi", receipt=True)
        answer = await within("a push", service.PushNotification(request))
        check("a push's status", answer.status, messages.PUSH_STATUS_QUEUED)
        check("a push's sessions", answer.sessions, 2)
        for browser in (here, there):
            check("a pushed event", await browser.frame(), {"event": "hi", "data": "hello"})

        request = messages.PushRequest(user_id="nobody", message=b"1", receipt=True)
        answer = await within("a push", service.PushNotification(request))
        check("a push to nobody", answer.status, messages.PUSH_STATUS_OFFLINE)
        try:
            await service.PushNotification(messages.PushRequest(user_id=""))
            sys.exit("a push to an empty user id went well")
        except grpc.aio.AioRpcError as error:
            check("a push to an empty id", error.code(), grpc.StatusCode.INVALID_ARGUMENT)

    async with grpc.aio.insecure_channel(grpc_address) as channel:
        service = services.NotificationStub(channel)
        request = messages.PushRequest(user_id=user, message=bytes(range(256)))
        answer = await within("a push", service.PushNotification(request))
        check("a push's status", answer.status, messages.PUSH_STATUS_DISPATCHED)
        for browser in (here, there):
            frame = await browser.frame()
            check("the keys of an event of bytes", sorted(frame), ["base64", "event"])

    # Everybody gets a broadcast; a raw session gets the payload alone.
    ticket = await new_ticket(store, json.dumps({"user_id": "other"}))
    raw = await within(
        "a raw session",
        websockets.connect(f"ws://{public_2}/ws?ticket={ticket}", subprotocols=["usher.raw.v1"]),
    )
    await bus.publish("usher.broadcast", b"to all")
    check("a raw broadcast", await within("a frame", raw.recv()), "to all")
    for browser in (here, there):
        expected = {"event": "message", "broadcast": True, "data": "to all"}
        check("a broadcast", await browser.frame(), expected)

    # Another way to show a ticket, and the ways to leave.
    ticket = await new_ticket(store, "third")
    third = await Browser.open(
        public, None, additional_headers={"Authorization": f"Usher-Ticket {ticket}"}
    )
    await within("a pong", await third.socket.ping())
    await third.socket.send("no object")
    try:
        await third.frame()
        sys.exit("a frame that is no object went unnoticed")
    except websockets.exceptions.ConnectionClosed as closed:
        check("the close code", closed.rcvd.code, 4102)
    for socket in (here.socket, there.socket, raw):
        await within("a close", socket.close())
        check("the close code", socket.close_code, 1000)

    await bus.close()
    await store.aclose()


asyncio.run(journey(*sys.argv[1:]))
