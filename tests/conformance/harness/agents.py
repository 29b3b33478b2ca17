"""The peers that the cases run on. A new language is one entry in `AGENTS`.

README.md states the commands that an agent takes, and what each ability means.
"""

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1]
REPOSITORY = FOLDER.parents[1]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))

#: What a language or a client may be unable to do; a case names what it needs.
ABILITIES = {
    "null",  # tells JSON null and "nothing" apart, in messages and in payloads
    "text_as_is",  # hands JSON text on as it came: numbers of any size, repeated keys
    "deep",  # reads and writes JSON nested 10,000 levels deep
    "types",  # checks a message against the type that a method takes
    "panic",  # has panics
    "javascript",  # runs JavaScript
}


@dataclass(frozen=True)
class Build:
    """A command, the folder that it runs in, and what it makes there. A command that notices
    by itself what is up to date always runs; another one only where that is missing."""

    command: tuple
    folder: Path
    makes: str = ""

    def run(self):
        if not self.makes or not any(self.folder.glob(self.makes)):
            subprocess.run(self.command, cwd=self.folder, check=True)


@dataclass(frozen=True)
class Agent:
    """How to start a peer, and what to expect of it."""

    name: str
    command: tuple
    level: int
    abilities: frozenset
    #: What builds it.
    build: tuple = ()
    #: Both ends can be in one process, on `memory://`.
    memory: bool = False


AGENTS = {
    agent.name: agent
    for agent in [
        Agent(
            name="rust",
            command=(str(TARGET / "debug/picom-conformance"),),
            build=(Build(("cargo", "build", "--quiet", "-p", "picom-conformance"), REPOSITORY),),
            level=1,
            abilities=frozenset({"null", "text_as_is", "deep", "types", "panic"}),
            memory=True,
        ),
        Agent(
            name="node",
            command=("node", str(FOLDER / "agents/node.js")),
            build=(Build(("node", "scripts/build.js"), REPOSITORY / "bindings/node", "*.node"),),
            level=1,
            abilities=frozenset({"null", "javascript"}),
            memory=True,
        ),
        Agent(
            name="nats2",
            command=("node", str(FOLDER / "standins/nats2.js")),
            build=(Build(("npm", "ci", "--silent"), FOLDER / "standins", "node_modules"),),
            level=0,
            abilities=frozenset({"null"}),
        ),
        Agent(
            name="natspy",
            command=(sys.executable, str(FOLDER / "standins/natspy.py")),
            level=0,
            abilities=frozenset({"text_as_is"}),
        ),
    ]
}

#: The peers of one run: all, or those that the environment names.
CHOSEN = [
    AGENTS[name]
    for name in os.environ.get("PICOM_CONFORMANCE_AGENTS", ",".join(AGENTS)).split(",")
]
PICOM = [agent for agent in CHOSEN if agent.level > 0]


@dataclass
class Process:
    """A running agent."""

    agent: Agent
    server: str
    errors: list = field(default_factory=list)

    def __post_init__(self):
        self.ids = itertools.count(1)
        self.answers = {}
        self.changed = threading.Condition()
        self.ended = False
        self.ready = False
        self.process = subprocess.Popen(
            [*self.agent.command, self.server],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for read in (self._read_answers, self._read_errors):
            threading.Thread(target=read, daemon=True).start()
        try:
            self._wait(lambda: self.ready, 20)
        except AssertionError:
            self.process.kill()
            self.stop()
            raise

    def send(self, verb, **arguments):
        """Gives a command and returns its number."""
        number = next(self.ids)
        command = {"id": number, "do": verb, **arguments}
        # As compact as the replies, since some agents hand JSON text on as it came.
        line = json.dumps(command, ensure_ascii=False, separators=(",", ":"))
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        return number

    def answer(self, number, timeout=10):
        """The answer to a command."""
        self._wait(lambda: number in self.answers, timeout)
        answer = self.answers.pop(number)
        answer.pop("id")
        return answer

    def run(self, verb, **arguments):
        """Gives a command and returns its answer."""
        return self.answer(self.send(verb, **arguments))

    def do(self, verb, **arguments):
        """Gives a command that must not fail."""
        answer = self.run(verb, **arguments)
        assert "error" not in answer, f"{self.agent.name}: {verb}: {answer}"
        return answer

    def calls(self, target):
        """How often a method ran."""
        return self.do("calls")["calls"].get(target, 0)

    def calls_from(self, count, target, timeout=10):
        """The same, as soon as it is `count` or more: a call may arrive and not run yet."""
        deadline = time.monotonic() + timeout
        while (calls := self.calls(target)) < count:
            assert time.monotonic() < deadline, f"{target} ran {calls} times, and not {count}"
        return calls

    def end(self):
        """Has the agent end as its own users would: there are no more commands."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def stop(self):
        """Waits for the agent's end, and otherwise kills it. Returns its exit code."""
        self.end()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        return self.process.returncode

    def _read_answers(self):
        for line in self.process.stdout:
            answer = json.loads(line)
            with self.changed:
                if "ready" in answer:
                    self.ready = True
                else:
                    self.answers[answer["id"]] = answer
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def _read_errors(self):
        for line in self.process.stderr:
            self.errors.append(line.decode(errors="replace"))

    def _wait(self, condition, timeout):
        with self.changed:
            self.changed.wait_for(lambda: condition() or self.ended, timeout)
            if not condition():
                what = "ended" if self.ended else "did not answer"
                shown = "".join(self.errors[-20:])
                raise AssertionError(f"agent {self.agent.name} {what}\n{shown}")
