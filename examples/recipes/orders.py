"""Live order status: pushes each change to the user whose order it is.

    orders.py [SECONDS]

`demo.orders.place {}` places an order, whose status changes each SECONDS; `demo.orders.status
{"order"}` answers what it is now.
"""

import asyncio
import json
import sys
from itertools import count

from service import Refused, serve, subject

STEPS = ["placed", "packed", "shipped", "delivered"]
PAUSE = float(sys.argv[1]) if len(sys.argv) > 1 else 2
NUMBERS = count(1)
ORDERS = {}  # yours are in a database
RUNNING = set()


def calls(bus):
    async def deliver(order):
        for version, status in enumerate(STEPS[1:], 2):
            await asyncio.sleep(PAUSE)
            order.update(status=status, version=version)  # stored first, then told
            told = {key: order[key] for key in ("order", "status", "version")}
            headers = {
                "Event": "order.status",
                # Durable mode: this change is stored once, however often it is published.
                "Nats-Msg-Id": f"order-{order['order']}-{version}",
            }
            to = subject("user", order["user"])
            await bus.publish(to, json.dumps(told).encode(), headers=headers)

    async def place(user, data):
        order = {"order": next(NUMBERS), "user": user, "status": STEPS[0], "version": 1}
        ORDERS[order["order"]] = order
        task = asyncio.create_task(deliver(order))
        RUNNING.add(task)
        task.add_done_callback(RUNNING.discard)
        return {"order": order["order"]}

    async def status(user, data):
        order = ORDERS.get(data["order"])
        # A grant says which calls a session may make; whose order it is, only you know.
        if order is None or order["user"] != user:
            raise Refused("404", "no such order")
        return {key: order[key] for key in ("order", "status", "version")}

    return {"demo.orders.place": place, "demo.orders.status": status}


asyncio.run(serve(calls))
