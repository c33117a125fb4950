"""A chat room: keeps what was said, and publishes it to the room's topic.

    chat.py

`demo.chat.say {"room","text"}` says something, `demo.chat.history {"room"}` answers the last 100
messages. Here they are in memory; yours are in a database.
"""

import asyncio
import json
from collections import defaultdict, deque

from service import Refused, serve, subject

ROOMS = defaultdict(lambda: deque(maxlen=100))


def room_of(data):
    room = data["room"]
    # Whether this user may be in this room is for you to decide here, and in the ticket.
    if not room.startswith("demo-"):
        raise Refused("403", "no such room")
    return room


def calls(bus):
    async def say(user, data):
        room, text = room_of(data), data["text"]
        if not 0 < len(text) <= 1000:
            raise Refused("400", "a message has 1 to 1000 characters")
        said = ROOMS[room]
        message = {"n": said[-1]["n"] + 1 if said else 1, "from": user, "text": text}
        said.append(message)  # stored first, so that history never lacks what was published
        headers = {"Event": "chat.message"}
        await bus.publish(subject("topic", room), json.dumps(message).encode(), headers=headers)
        return {"n": message["n"]}

    async def history(user, data):
        return list(ROOMS[room_of(data)])

    return {"demo.chat.say": say, "demo.chat.history": history}


asyncio.run(serve(calls))
