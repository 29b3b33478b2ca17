"""One server and one process of each agent for the whole run, all stopped at its end."""

import signal
import subprocess

import pytest

from .harness.agents import Process
from .harness.cases import SERVED, services
from .harness.server import Server
from .harness.wire import Wire


def pytest_configure():
    # Ended from outside, a run still stops what it has started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


class Processes:
    """Agents by what they do, each started when it is first asked for."""

    def __init__(self, server):
        self.server = server
        self.built = set()
        self.running = {}
        self.unclean = []

    def start(self, agent, role, server=None, exposing=False):
        """The agent's process for this role: the same for the same role, while it lives."""
        key = (agent.name, role)
        process = self.running.get(key)
        if process is None or process.ended:
            if process is not None:
                self._stop(key)
            self._build(agent)
            process = self.running[key] = Process(agent, server or self.server.url)
            if exposing:
                for service, methods in services(SERVED, agent).items():
                    process.do("expose", service=service, methods=methods)
        return process

    def caller(self, agent):
        return self.start(agent, "caller")

    def responder(self, agent):
        """Exposes the methods of all cases."""
        return self.start(agent, "responder", exposing=True)

    def both(self, agent):
        """Caller and responder in one process, on a bus in its memory."""
        return self.start(agent, "both", "memory://conformance", exposing=True)

    def stop(self):
        """Stops all. Says which did not end by themselves and well."""
        for process in self.running.values():
            process.end()
        for key in list(self.running):
            self._stop(key)
        return self.unclean

    def _build(self, agent):
        if agent.name not in self.built:
            self.built.add(agent.name)
            try:
                for build in agent.build:
                    build.run()
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.exit(f"cannot build the agent {agent.name}: {error}", returncode=1)

    def _stop(self, key):
        process = self.running.pop(key)
        if process.stop() != 0:
            self.unclean.append((*key, process.process.returncode, "".join(process.errors[-20:])))


@pytest.fixture(scope="session")
def server():
    server = Server()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def processes(server):
    processes = Processes(server)
    yield processes
    unclean = processes.stop()
    assert unclean == [], f"agents that did not end as they should: {unclean}"


@pytest.fixture
def connect(server):
    """Makes raw connections that end with the test."""
    wires = []

    def connect(**options):
        wires.append(Wire(server.port, **options))
        return wires[-1]

    yield connect
    for wire in wires:
        wire.close()


@pytest.fixture(scope="session")
def wire(server):
    """One raw connection for the tests that leave nothing behind on it."""
    wire = Wire(server.port)
    yield wire
    wire.close()
