"""A connection that shows and sends the bytes themselves.

A client library would decode headers, hide what the server strips for clients without headers,
and refuse to send what no well-behaved program sends.
"""

import json
import socket
import time
from collections import defaultdict, deque
from dataclasses import dataclass

LINE_END = b"\r\n"


@dataclass
class Message:
    subject: str
    reply: str | None
    head: bytes
    body: bytes

    @property
    def status(self):
        """The number behind `NATS/1.0`, where there is one."""
        line = self.head.split(LINE_END)[0].removeprefix(b"NATS/1.0").decode().split()
        return int(line[0]) if line else None

    @property
    def headers(self):
        """Names and values as sent, in order."""
        lines = self.head.split(LINE_END)[1:]
        pairs = [line.decode().split(":", 1) for line in lines if line]
        return [(name, value.removeprefix(" ")) for name, value in pairs]


def block(headers, status=""):
    """A header block from names and values."""
    lines = [f"NATS/1.0{status}"] + [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + LINE_END * 2


def head(case):
    """The header block of a case, where it has any."""
    if "head" not in case and "status" not in case:
        return b""
    return block(case.get("head", {}), f" {case['status']}" if "status" in case else "")


class Wire:
    """One connection. Not for several threads."""

    def __init__(self, port, headers=True):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.buffer = b""
        self.messages = defaultdict(deque)
        self.pongs = 0
        self.last_sid = 0
        self.last_inbox = 0
        self.prefix = f"_INBOX.prober{id(self)}{time.monotonic_ns()}"
        options = {"verbose": False, "headers": headers, "no_responders": headers}
        self._write(b"CONNECT " + json.dumps(options).encode() + LINE_END)
        self.inbox = self.subscribe(f"{self.prefix}.*")
        self.flush()

    def close(self):
        self.socket.close()

    def subscribe(self, subject, queue=""):
        """Subscribes and returns the number under which `next` finds the messages."""
        self.last_sid += 1
        parts = ["SUB", subject] + ([queue] if queue else []) + [str(self.last_sid)]
        self._write(" ".join(parts).encode() + LINE_END)
        return self.last_sid

    def unsubscribe(self, sid):
        self._write(f"UNSUB {sid}".encode() + LINE_END)
        self.messages.pop(sid, None)

    def publish(self, subject, body=b"", reply="", head=b""):
        """Sends a message; a subject may be bytes, and `head` is a whole header block."""
        subject = subject if isinstance(subject, bytes) else subject.encode()
        where = subject + (b" " + reply.encode() if reply else b"")
        if head:
            sizes = f"{len(head)} {len(head) + len(body)}".encode()
            self._write(b"HPUB " + where + b" " + sizes + LINE_END + head + body + LINE_END)
        else:
            self._write(b"PUB %b %d\r\n%b\r\n" % (where, len(body), body))

    def flush(self, timeout=10):
        """Returns when the server has processed all that was sent."""
        waiting = self.pongs + 1
        self._write(b"PING" + LINE_END)
        deadline = time.monotonic() + timeout
        while self.pongs < waiting:
            self._read(deadline)

    def new_inbox(self):
        """A reply subject of its own, and how to recognise it."""
        self.last_inbox += 1
        return f"{self.prefix}.{self.last_inbox}"

    def next(self, sid, timeout=10):
        """The next message of a subscription."""
        deadline = time.monotonic() + timeout
        while not self.messages[sid]:
            self._read(deadline)
        return self.messages[sid].popleft()

    def waiting(self, sid):
        """The messages that have come, after all that the server had for this connection."""
        self.flush()
        return list(self.messages[sid])

    def request(self, subject, body=b"", head=b"", timeout=10):
        """Sends a request and returns the first reply to it."""
        inbox = self.new_inbox()
        self.publish(subject, body, inbox, head)
        while True:
            reply = self.next(self.inbox, timeout)
            if reply.subject == inbox:
                return reply

    def _write(self, data):
        self.socket.sendall(data)

    def _read(self, deadline):
        """Takes one operation of the server."""
        line = self._line(deadline)
        verb, _, rest = line.partition(b" ")
        if verb in (b"MSG", b"HMSG"):
            self._message(verb, rest.decode().split(), deadline)
        elif line == b"PING":
            self._write(b"PONG" + LINE_END)
        elif line == b"PONG":
            self.pongs += 1
        elif verb == b"-ERR":
            raise ConnectionError(line.decode())

    def _message(self, verb, parts, deadline):
        subject, sid, *middle, size = parts
        head_size = int(middle.pop()) if verb == b"HMSG" else 0
        data = self._take(int(size) + 2, deadline)[:-2]
        reply = middle[0] if middle else None
        message = Message(subject, reply, data[:head_size], data[head_size:])
        self.messages[int(sid)].append(message)

    def _line(self, deadline):
        while LINE_END not in self.buffer:
            self._fill(deadline)
        line, self.buffer = self.buffer.split(LINE_END, 1)
        return line

    def _take(self, size, deadline):
        while len(self.buffer) < size:
            self._fill(deadline)
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def _fill(self, deadline):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("nothing came in time")
        self.socket.settimeout(left)
        data = self.socket.recv(1 << 20)
        if not data:
            raise ConnectionError("the server closed the connection")
        self.buffer += data
