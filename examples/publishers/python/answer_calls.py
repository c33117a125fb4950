"""Answers the call orders.cancel of browsers, as one of several instances.

    answer_calls.py

Ends at SIGINT or SIGTERM. Needs nats-py 2.16 or later: older ones lose all headers of a call by
a user whose id is not ASCII. NATS_URL, NATS_USER and NATS_PASSWORD say where and as whom.
"""

import asyncio
import json
import os
import signal
import time

import nats
from nats.micro import add_service

SHIPPED = {99}


async def cancel(call):
    user = call.headers["Usher-User"]  # who asks: a gateway has checked that
    if int(call.headers["Usher-Deadline"]) < time.time() * 1000:
        return  # nobody waits any more
    order = json.loads(call.data)["order"]
    if order in SHIPPED:
        return await call.respond_error("409", "the order has left the house")
    await call.respond(json.dumps({"cancelled": order, "by": user}).encode())


async def main():
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    bus = await nats.connect(
        os.environ.get("NATS_URL", "nats://127.0.0.1:4222"),
        user=os.environ.get("NATS_USER"),
        password=os.environ.get("NATS_PASSWORD"),
    )
    orders = await add_service(bus, name="orders", version="1.0.0")
    await orders.add_endpoint(name="cancel", subject="usher.call.orders.cancel", handler=cancel)
    await bus.flush()
    print("listening", flush=True)
    await over.wait()
    await bus.drain()


asyncio.run(main())
