"""'typing…': tells a room's followers who is typing there.

    whos_typing.py

`demo.typing {"room"}` is published to the room's topic, in the name of the user who calls.
"""

import asyncio
import json

from service import Refused, serve, subject


def calls(bus):
    async def typing(user, data):
        room = data["room"]
        if not room.startswith("demo-"):
            raise Refused("403", "no such room")
        # In durable mode the stream keeps it for five seconds: who comes back later does not care.
        headers = {"Event": "typing", "Nats-TTL": "5s"}
        payload = json.dumps({"from": user}).encode()
        await bus.publish(subject("topic", room), payload, headers=headers)

    return {"demo.typing": typing}


asyncio.run(serve(calls))
