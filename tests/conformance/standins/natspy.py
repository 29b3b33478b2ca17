"""A stand-in for services of npm picom 0.6: what they do on the wire, by nats-py alone."""

import asyncio
import json
import sys

import nats

NOTHING = object()


class Thrown(Exception):
    """What a method fails with, as the text that goes on the wire."""


def dump(value):
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError:  # Half of a surrogate pair.
        return json.dumps(value, separators=(",", ":")).encode()


def behave(behaviour, message):
    if behaviour == "echo":
        return message
    if behaviour == "nothing":
        return NOTHING
    [(name, value)] = behaviour.items()
    if name == "return":
        return value
    if name == "throw_text":
        raise Thrown(value)
    if name == "throw_error":
        fields = value.get("fields")
        raise Thrown(value["message"] + (" " + dump(fields).decode() if fields else ""))
    if name == "throw_value":
        raise Thrown(dump(value).decode())
    raise ValueError(f"no such behaviour: {name}")


class Peer:
    def __init__(self, connection):
        self.connection = connection
        self.calls = {}

    async def answer(self, service, methods, message):
        name = message.subject.rsplit(".", 1)[-1]
        if name not in methods:
            return {"error": f'Method not found "{name}"'}
        given = None
        if message.data:
            try:
                given = json.loads(message.data.decode())
            except ValueError:
                return {"error": "Bad JSON request"}
        target = f"{service}.{name}"
        self.calls[target] = self.calls.get(target, 0) + 1
        if methods[name] == "hang":
            await asyncio.get_running_loop().create_future()
        try:
            returned = behave(methods[name], given)
        except Thrown as thrown:
            return {"error": str(thrown)}
        return {} if returned is NOTHING else {"payload": returned}

    async def expose(self, command):
        service, methods = command["service"], command["methods"]

        async def respond(message):
            reply = await self.answer(service, methods, message)
            if message.reply:
                await message.respond(dump(reply))

        async def spawn(message):
            task = asyncio.create_task(respond(message))
            TASKS.add(task)
            task.add_done_callback(TASKS.discard)

        await self.connection.subscribe(f"{service}.>", queue=service, cb=spawn)
        await self.connection.flush()
        return {}

    async def request(self, command):
        target, timeout = command["target"], command["timeout"] / 1000
        body = command.get("message", "").encode()
        try:
            reply = await self.connection.request(target, body, timeout=timeout)
        except nats.errors.TimeoutError:
            raise Thrown(f"Request {target} timed out") from None
        except nats.errors.NoRespondersError as error:
            raise Thrown(str(error)) from None
        if not reply.data:
            return {}
        try:
            parsed = json.loads(reply.data.decode())
        except ValueError:
            raise Thrown("Bad JSON response") from None
        if parsed.get("error"):
            raise Thrown(parsed["error"])
        return {"payload": json.dumps(parsed["payload"])} if "payload" in parsed else {}

    async def publish(self, command):
        await self.connection.publish(command["target"], command.get("message", "").encode())
        await self.connection.flush()
        return {}

    async def calls_(self, command):
        return {"calls": self.calls}

    async def close(self, command):
        await self.connection.close()
        return {}


TASKS = set()


def say(answer):
    print(json.dumps(answer), flush=True)


async def run(peer, command):
    verb = {"calls": peer.calls_}.get(command["do"]) or getattr(peer, command["do"])
    try:
        answer = await verb(command)
    except Thrown as thrown:
        answer = {"error": {"text": str(thrown)}}
    say({"id": command["id"], **answer})


async def main():
    connection = await nats.connect(sys.argv[1])
    peer = Peer(connection)
    lines = asyncio.StreamReader(limit=1 << 24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    say({"ready": True})
    while line := await lines.readline():
        task = asyncio.create_task(run(peer, json.loads(line)))
        TASKS.add(task)
        task.add_done_callback(TASKS.discard)
    if not connection.is_closed:
        await connection.close()


asyncio.run(main())
