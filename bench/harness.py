"""What run.py and scale.py share: processes with a time limit, nats-server, and the arithmetic."""

import ctypes
import json
import os
import pathlib
import random
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
NODE = ["node", str(ROOT / "bench/node/peer.js")]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
RUST = [str(TARGET / "release/picom-bench")]

# A ratio that differs more than this between its quarters says nothing, and is not printed.
MOST_SPREAD = 0.5
MEDIANS = ("rate", "p50", "p99", "caller_cpu", "responder_cpu", "server_cpu")
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


class Failed(Exception):
    """A process did not do what it was started for."""


class Process:
    """A child in a session of its own, so that Ctrl-C leaves it to us to end it."""

    def __init__(self, command, **streams):
        self.errors = tempfile.TemporaryFile()
        try:
            self.process = subprocess.Popen(
                command, stderr=self.errors, start_new_session=True, preexec_fn=die_with_parent,
                **streams,
            )
        except FileNotFoundError:
            raise Failed(f"{pathlib.Path(command[0]).name} is not installed or built") from None

    def cpu_seconds(self):
        """What its threads have run for. The scheduler's own count: the kernel's clock ticks see
        little of a process that works for microseconds at a time."""
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    def memory_mb(self, which):
        """VmRSS, what it takes now, or VmHWM, the most that it ever took."""
        if self.process.poll() is not None:
            return 0
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split(f"{which}:")[1].split()[0]) / 1024

    def last_words(self):
        self.errors.seek(0)
        lines = [line.strip() for line in self.errors.read().decode(errors="replace").splitlines()]
        said = [line for line in lines if "Error:" in line] or [line for line in lines if line]
        return f"ended: {said[0][:200]}" if said else "ended without a word"

    def kill(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class End(Process):
    """One process of a peer: it answers a line with a line."""

    def __init__(self, command):
        super().__init__(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.heard = b""

    def say(self, command):
        try:
            self.process.stdin.write(json.dumps(command).encode() + b"\n")
        except OSError:
            raise Failed(self.last_words()) from None

    def hear(self, limit):
        give_up = time.monotonic() + limit
        output = self.process.stdout.fileno()
        while b"\n" not in self.heard:
            left = give_up - time.monotonic()
            if left <= 0 or not select.select([output], [], [], left)[0]:
                raise Failed(f"stuck: no answer in {limit:.0f} s")
            some = os.read(output, 1 << 16)
            if not some:
                raise Failed(self.last_words())
            self.heard += some
        line, self.heard = self.heard.split(b"\n", 1)
        return json.loads(line)


class Pair:
    """The two ends of a peer. Raises Failed if they do not start in time."""

    def __init__(self, bench, command, name, limit, caller=None, responder=None):
        self.bench = bench
        # None, or why this pair takes no more turns.
        self.failed = None
        self.ends = []
        try:
            for role, setup in (("responder", responder), ("caller", caller)):
                more = [json.dumps(setup)] if setup else []
                end = bench.keep(End, [*command, name, role, bench.address, *more])
                self.ends.insert(0, end)
                end.hear(limit)
            self.idle_mb = self.ends[0].memory_mb("VmRSS")
        except Failed:
            self.kill()
            raise

    def turn(self, command, ms):
        """What one turn measured, or {"error": …}, or {"absent": True}."""
        caller, responder = self.ends
        measured = (*self.ends, self.bench.server)
        try:
            before = [process.cpu_seconds() for process in measured]
            caller.say({**command, "ms": ms})
            result = caller.hear(turn_limit(ms))
            if "error" in result or "absent" in result:
                return result
            count = max(1, result["count"])
            result["rate"] = count / result["seconds"]
            for key, process, begin in zip(MEDIANS[3:], measured, before):
                result[key] = (process.cpu_seconds() - begin) / count * 1e6
            return result
        except (Failed, OSError) as error:
            self.failed = str(error)
            if responder.process.poll() is not None:
                self.failed = f"responder {responder.last_words()}"
            self.kill()
            return {"error": self.failed}

    def peak_mb(self):
        return [end.memory_mb("VmHWM") for end in self.ends]

    def kill(self):
        for end in self.ends:
            end.kill()


class Bench:
    """nats-server and every other child; none of them outlives the `with` block."""

    def __init__(self):
        self.children = []

    def __enter__(self):
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        port = free_port()
        self.address = f"nats://127.0.0.1:{port}"
        try:
            self.server = self.start_server(port)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        # A second Ctrl-C shall not end us before the children.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        for child in self.children:
            child.kill()

    def keep(self, kind, command, **streams):
        child = kind(command, **streams)
        self.children.append(child)
        return child

    def start_server(self, port):
        binary = os.environ.get("PICOM_NATS_SERVER", str(ROOT / ".venv/bin/nats-server"))
        server = self.keep(Process, [binary, "-a", "127.0.0.1", "-p", str(port)])
        give_up = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return server
            except OSError:
                if server.process.poll() is not None or time.monotonic() > give_up:
                    raise Failed("nats-server does not start") from None
                time.sleep(0.02)


def die_with_parent():
    # For the one exit that leaves us no time to kill: being killed.
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def turn_limit(ms):
    return ms * 3 / 1000 + 15


def free_port():
    """A port with the two behind it free as well: zeromq and gRPC listen there. Not one of those
    that the system gives to connections: these would take them before the peers do."""
    while True:
        port = random.randrange(20000, 32000)
        probes = []
        try:
            for offset in range(3):
                probes.append(socket.create_server(("127.0.0.1", port + offset)))
            return port
        except OSError:
            pass
        finally:
            for probe in probes:
                probe.close()


def did_not_measure(results):
    return next((result for result in results if "error" in result or "absent" in result), None)


def summarise(rounds, base_rounds):
    """Medians, and the ratio to the base peer with its spread, round by round."""
    summary = {key: statistics.median(r[key] for r in rounds) for key in MEDIANS}
    for key in ("rate", "p50", "caller_cpu"):
        ratios = [r[key] / b[key] for r, b in zip(rounds, base_rounds) if b[key] > 0]
        if ratios:
            summary[f"{key}_ratio"] = statistics.median(ratios)
        if len(ratios) > 2:
            quarters = statistics.quantiles(ratios, n=4)
            middle = max(summary[f"{key}_ratio"], 1e-9)
            summary[f"{key}_spread"] = (quarters[2] - quarters[0]) / middle
    return summary


def shown_ratio(summary, key):
    if f"{key}_ratio" not in summary:
        return "-"
    ratio = f"{summary[f'{key}_ratio']:.2f}"
    # Of one or two rounds there is no spread to tell.
    if f"{key}_spread" not in summary:
        return ratio
    spread = summary[f"{key}_spread"]
    return f"{ratio} ±{spread / 2 * 100:.0f}%" if spread <= MOST_SPREAD else "-"


def versions():
    node = shutil.which("node") and subprocess.check_output(["node", "-v"], text=True).strip()
    return {"node": node}


def write_json(path, report):
    out = pathlib.Path(path)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1))
    print(f"\nwritten to {os.path.relpath(out)}")


def run(main):
    """The program's exit, also when it is interrupted."""
    try:
        main()
    except Failed as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
