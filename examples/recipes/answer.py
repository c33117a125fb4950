"""Streams a language model's answer to the page that asked, token by token.

    answer.py [SECONDS]

`demo.answer.ask {"answer","prompt"}` begins the answer that has this id; `demo.answer.stop
{"answer"}` ends it; `demo.answer.text {"answer"}` is all of it so far. Needs durable mode: a page
that comes back in the middle gets what it missed. `tokens` stands for your model: it yields a word
each SECONDS.
"""

import asyncio
import json
import sys

from service import Refused, serve, subject

PAUSE = float(sys.argv[1]) if len(sys.argv) > 1 else 0.05
GATHER = 0.05  # seconds: tokens that come within it are one event
KEEP = 1000  # answers
ANSWERS = {}  # by user and id
RUNNING = set()


async def tokens(prompt):
    for word in f"You asked: {prompt}. Here a model would answer, one token after another.".split():
        await asyncio.sleep(PAUSE)
        yield word + " "


class Answer:
    def __init__(self, bus, user, name):
        self.stream, self.user, self.name = bus.jetstream(), user, name
        self.parts, self.over, self.stopped = [], False, asyncio.Event()

    async def publish(self, event, more):
        # The stream stores it once, so it may be published again where nobody answers.
        number = len(self.parts)
        id = f"{subject('user', self.user).split('.')[2]}:{self.name}-{event}-{number}"
        payload = json.dumps({"answer": self.name, "n": number, **more}).encode()
        headers = {"Event": event, "Nats-Msg-Id": id}
        for attempt in range(5):
            try:
                to = subject("user", self.user)
                return await self.stream.publish(to, payload, timeout=2, headers=headers)
            except Exception as error:  # no stream, no leader, no answer in time
                print(f"not stored: {error!r}", file=sys.stderr, flush=True)
                await asyncio.sleep(attempt)

    async def part(self, text):
        self.parts.append(text)
        await self.publish("answer.part", {"text": text})

    async def run(self, prompt):
        clock, text = asyncio.get_running_loop(), ""
        since = clock.time()
        async for token in tokens(prompt):
            if self.stopped.is_set():
                break
            text += token
            if clock.time() - since >= GATHER:
                await self.part(text)
                text, since = "", clock.time()
        if text:
            await self.part(text)
        self.over = True
        await self.publish("answer.done", {"stopped": self.stopped.is_set()})


def calls(bus):
    def find(user, data):
        answer = ANSWERS.get((user, data["answer"]))
        if answer is None:
            raise Refused("404", "no such answer")
        return answer

    async def ask(user, data):
        name, prompt = data["answer"], data["prompt"]
        if not (isinstance(name, str) and 0 < len(name) <= 64 and name.isascii()):
            raise Refused("400", "answer is 1 to 64 characters")
        if (user, name) not in ANSWERS:  # asked again: the same answer
            answer = ANSWERS[user, name] = Answer(bus, user, name)
            if len(ANSWERS) > KEEP:
                del ANSWERS[next(iter(ANSWERS))]
            task = asyncio.create_task(answer.run(prompt))
            RUNNING.add(task)
            task.add_done_callback(RUNNING.discard)

    async def stop(user, data):
        find(user, data).stopped.set()

    async def text(user, data):
        answer = find(user, data)
        return {"n": len(answer.parts), "text": "".join(answer.parts), "over": answer.over}

    return {"demo.answer.ask": ask, "demo.answer.stop": stop, "demo.answer.text": text}


asyncio.run(serve(calls))
