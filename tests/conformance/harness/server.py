"""A real nats-server on a free port of this machine."""

import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]


def executable():
    """The server's program: the one that is asked for, the one of the tests, or any."""
    installed = REPOSITORY / ".venv" / "bin" / "nats-server"
    found = os.environ.get("PICOM_NATS_SERVER") or (
        str(installed) if installed.exists() else shutil.which("nats-server")
    )
    if not found:
        raise FileNotFoundError(
            "no nats-server: install tests/requirements.txt, or set PICOM_NATS_SERVER"
        )
    return found


class Server:
    """Starts when it is made; ready when that returns."""

    def __init__(self):
        self.log = []
        self.port = None
        self.process = subprocess.Popen(
            [executable(), "-a", "127.0.0.1", "-p", "-1"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        ready = threading.Event()
        threading.Thread(target=self._read, args=(ready,), daemon=True).start()
        if not ready.wait(10) or self.port is None:
            self.stop()
            raise RuntimeError("nats-server did not start:\n" + "".join(self.log))

    def _read(self, ready):
        for line in self.process.stderr:
            self.log.append(line)
            listening = re.search(r"Listening for client connections on .*:(\d+)", line)
            if listening:
                self.port = int(listening[1])
            if "Server is ready" in line:
                ready.set()
        ready.set()

    @property
    def url(self):
        return f"nats://127.0.0.1:{self.port}"

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
