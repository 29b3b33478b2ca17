#!/usr/bin/env python3
"""picom beside its peers, in one run.

Callers, responders and nats-server are processes of their own, all alive for the whole run. For
each figure the peers take turns, round after round, so that a noisy machine is noisy for all of
them; what is reported are medians over the rounds, and ratios within one round.
"""

import argparse
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
NODE = ["node", str(ROOT / "bench/node/peer.js")]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
RUST = [str(TARGET / "release/picom-bench")]

# name: (command, the peer that its ratios are to)
PEERS = {
    "picom": (NODE, "nats.js"),
    "nats.js": (NODE, "nats.js"),
    "nats.js-noAsyncTraces": (NODE, "nats.js"),
    "nats-services": (NODE, "nats.js"),
    "nats1-as-picom-0.6": (NODE, "nats.js"),
    "moleculer": (NODE, "nats.js"),
    "zeromq": (NODE, "nats.js"),
    "grpc-js": (NODE, "nats.js"),
    "picom-rust": (RUST, "async-nats"),
    "async-nats": (RUST, "async-nats"),
}
# A ratio that differs more than this between its quarters says nothing, and is not printed.
MOST_SPREAD = 0.5
TICKS = os.sysconf("SC_CLK_TCK")


class End:
    """One process of a peer."""

    def __init__(self, name, role, address):
        self.process = subprocess.Popen(
            [*PEERS[name][0], name, role, address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(self.process.stderr.read().strip()[-500:] or "ended at once")

    def command(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(self.process.stderr.read().strip()[-500:] or "ended")
        return json.loads(line)

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")")[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def peak_mb(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def free_port():
    """A port with the two behind it free as well: zeromq and gRPC listen there."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port < 65000:
            return port


def start_server(port):
    binary = os.environ.get("PICOM_NATS_SERVER", str(ROOT / ".venv/bin/nats-server"))
    process = subprocess.Popen(
        [binary, "-a", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL
    )
    give_up = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return process
        except OSError:
            if process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError("nats-server does not start") from None
            time.sleep(0.02)


def cells(full):
    """What is measured: (label, command)."""
    for size, in_flights in ((100, (1, 16, 128, 1024)), (4096, (1, 16, 128, 1024))):
        if size != 100 and not full:
            in_flights = (128,)
        for in_flight in in_flights:
            label = f"{size} B, {in_flight} in flight"
            yield label, {"op": "request", "inflight": in_flight, "size": size}
    yield "publish, 1024 outstanding", {"op": "publish", "inflight": 1024, "size": 100}
    yield "5 ms timer, 1024 in flight", {"op": "timer", "inflight": 1024, "size": 100}


def measure(caller, responder, command, ms):
    before = caller.cpu_seconds(), responder.cpu_seconds()
    result = caller.command(**command, ms=ms)
    if "error" in result or "absent" in result:
        return result
    count = max(1, result["count"])
    result["rate"] = count / result["seconds"]
    result["caller_cpu"] = (caller.cpu_seconds() - before[0]) / count * 1e6
    result["responder_cpu"] = (responder.cpu_seconds() - before[1]) / count * 1e6
    return result


def summarise(rounds, base_rounds):
    """Medians, and the ratio to the base peer with its spread, round by round."""
    summary = {
        key: statistics.median(r[key] for r in rounds)
        for key in ("rate", "p50", "p99", "caller_cpu", "responder_cpu")
    }
    for key in ("rate", "p50", "caller_cpu"):
        ratios = [r[key] / b[key] for r, b in zip(rounds, base_rounds) if b[key] > 0]
        if ratios:
            middle = statistics.median(ratios)
            quarters = statistics.quantiles(ratios, n=4) if len(ratios) > 2 else [middle] * 3
            summary[f"{key}_ratio"] = middle
            summary[f"{key}_spread"] = (quarters[2] - quarters[0]) / middle
    return summary


def shown_ratio(summary, key):
    if f"{key}_ratio" not in summary or summary[f"{key}_spread"] > MOST_SPREAD:
        return "-"
    return f"{summary[f'{key}_ratio']:.2f} ±{summary[f'{key}_spread'] / 2 * 100:.0f}%"


def print_cell(label, rows):
    print(f"\n{label}")
    header = ("peer", "per s", "ratio", "p50 µs", "p99 µs", "p50 ratio", "cpu µs caller/resp.",
              "cpu ratio")
    table = [header]
    for name, summary in rows.items():
        if "error" in summary or "absent" in summary:
            table.append((name, summary.get("error", "absent")[:60], *[""] * 6))
            continue
        table.append((
            name,
            f"{summary['rate']:,.0f}",
            shown_ratio(summary, "rate"),
            f"{summary['p50']:,.0f}",
            f"{summary['p99']:,.0f}",
            shown_ratio(summary, "p50"),
            f"{summary['caller_cpu']:.1f} / {summary['responder_cpu']:.1f}",
            shown_ratio(summary, "caller_cpu"),
        ))
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    for row in table:
        print("  " + "  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="all sizes, more rounds")
    parser.add_argument("--rounds", type=int, help="rounds of each figure")
    parser.add_argument("--ms", type=int, help="milliseconds of each turn")
    parser.add_argument("--peers", help="only these, separated by commas")
    parser.add_argument("--only", help="only figures whose label contains this")
    parser.add_argument("--json", default=str(ROOT / "target/bench.json"), help="where to write")
    arguments = parser.parse_args()
    rounds = arguments.rounds or (7 if arguments.full else 5)
    ms = arguments.ms or (2000 if arguments.full else 1000)
    wanted = arguments.peers.split(",") if arguments.peers else list(PEERS)

    port = free_port()
    server = start_server(port)
    address = f"nats://127.0.0.1:{port}"
    ends, absent, report = {}, {}, {}
    try:
        for name in wanted:
            try:
                responder = End(name, "responder", address)
                ends[name] = (End(name, "caller", address), responder)
            except (RuntimeError, OSError) as error:
                absent[name] = str(error)
                print(f"absent: {name}: {error}", file=sys.stderr)
        for label, command in cells(arguments.full):
            if arguments.only and arguments.only not in label:
                continue
            results = {name: [] for name in ends}
            for turn in range(-1, rounds):
                for name, (caller, responder) in ends.items():
                    if command["op"] == "timer" and PEERS[name][0] is not NODE:
                        results[name].append({"absent": True})
                        continue
                    # The first turn of each figure warms up, and does not count.
                    result = measure(caller, responder, command, ms if turn >= 0 else ms // 3)
                    if turn >= 0:
                        results[name].append(result)
            rows = {}
            for name, measured in results.items():
                base = results.get(PEERS[name][1], measured)
                broken = [r for r in measured + base if "error" in r or "absent" in r]
                own = [r for r in measured if "error" in r or "absent" in r]
                if own:
                    rows[name] = own[0]
                else:
                    rows[name] = summarise(measured, [] if broken else base)
            report[label] = rows
            print_cell(label, rows)
        memory = {name: [end.peak_mb() for end in pair] for name, pair in ends.items()}
        print("\npeak memory, MB, caller / responder")
        for name, (caller_mb, responder_mb) in memory.items():
            print(f"  {name:24}{caller_mb:6.0f} / {responder_mb:.0f}")
    finally:
        for pair in ends.values():
            for end in pair:
                end.stop()
        server.terminate()
        server.wait()
    out = pathlib.Path(arguments.json)
    out.parent.mkdir(parents=True, exist_ok=True)
    versions = {
        "node": shutil.which("node") and subprocess.check_output(["node", "-v"], text=True).strip()
    }
    out.write_text(json.dumps(
        {"rounds": rounds, "ms": ms, "figures": report, "memory": memory, "absent": absent,
         "versions": versions}, indent=1))
    print(f"\nwritten to {out}")


if __name__ == "__main__":
    main()
