#!/usr/bin/env python3
"""picom beside its peers, in one run.

Callers, responders and nats-server are processes of their own, all alive for the whole run. For
each figure the peers take turns, round after round, so that a noisy machine is noisy for all of
them; what is reported are medians over the rounds, and ratios within one round. A peer that is
not installed, fails or gets stuck is left out, and named at the end.
"""

import argparse

from harness import (
    NODE, ROOT, RUST, Bench, End, Failed, Pair, did_not_measure, run, shown_ratio, summarise,
    turn_limit, versions, write_json,
)

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
    # The same with all of the caller's loops in one task.
    "picom-rust-joined": (RUST, "async-nats-joined"),
    "async-nats-joined": (RUST, "async-nats-joined"),
}
HEADER = ("peer", "per s", "ratio", "p50 µs", "p99 µs", "p50 ratio",
          "cpu µs caller/resp./server", "cpu ratio")


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


def start(bench, names, ms):
    """The peers that start, and why the others do not."""
    pairs, absent = {}, {}
    for name in names:
        try:
            pairs[name] = Pair(bench, PEERS[name][0], name, turn_limit(ms))
        except Failed as error:
            absent[name] = str(error)
    return pairs, absent


def node_alone_mb(bench, limit):
    """What a Node program takes that has nothing but the bench's own loop."""
    end = bench.keep(End, [*NODE, "nothing", "caller", bench.address])
    end.hear(limit)
    idle_mb = end.memory_mb("VmRSS")
    end.kill()
    return idle_mb


def measure(pairs, command, rounds, ms):
    """All turns of one figure: a row for each peer that was alive at its beginning."""
    results = {name: [] for name, pair in pairs.items() if not pair.failed}
    for turn in range(-1, rounds):
        for name, measured in results.items():
            if pairs[name].failed:
                continue
            if command["op"] == "timer" and PEERS[name][0] is not NODE:
                measured.append({"absent": True})
                continue
            # The first turn of each figure warms up, and counts only if it fails.
            result = pairs[name].turn(command, ms if turn >= 0 else ms // 3)
            if turn >= 0 or "error" in result:
                measured.append(result)
    rows = {}
    for name, measured in results.items():
        base = results.get(PEERS[name][1], [])
        rows[name] = did_not_measure(measured) or summarise(
            measured, [] if did_not_measure(base) else base)
    return rows


def print_cell(label, rows):
    print(f"\n{label}")
    table, notes = [HEADER], {}
    for name, summary in rows.items():
        if did_not_measure([summary]):
            notes[len(table)] = summary.get("error", "it has no such thing").splitlines()[0][:80]
            table.append((name, *[""] * (len(HEADER) - 1)))
            continue
        cpu = (summary[f"{which}_cpu"] for which in ("caller", "responder", "server"))
        table.append((
            name,
            f"{summary['rate']:,.0f}",
            shown_ratio(summary, "rate"),
            f"{summary['p50']:,.0f}",
            f"{summary['p99']:,.0f}",
            shown_ratio(summary, "p50"),
            " / ".join(f"{each:.1f}" for each in cpu),
            shown_ratio(summary, "caller_cpu"),
        ))
    widths = [max(len(row[column]) for row in table) for column in range(len(HEADER))]
    for at, row in enumerate(table):
        line = "  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip()
        print(f"  {line.ljust(widths[0])}  {notes[at]}" if at in notes else f"  {line}", flush=True)


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
    if unknown := set(wanted) - set(PEERS):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")

    report = {}
    with Bench() as bench:
        pairs, absent = start(bench, wanted, ms)
        for label, command in cells(arguments.full):
            if arguments.only and arguments.only not in label:
                continue
            report[label] = measure(pairs, command, rounds, ms)
            print_cell(label, report[label])
        failed = {name: pair.failed for name, pair in pairs.items() if pair.failed}
        memory = {
            name: [pair.idle_mb, *pair.peak_mb()] for name, pair in pairs.items() if not pair.failed
        }
        if any(PEERS[name][0] is NODE for name in memory):
            memory["(node alone)"] = [node_alone_mb(bench, turn_limit(ms)), 0, 0]
    print("\nmemory, MB: caller when it is connected and idle; peak of caller / responder")
    for name, (idle_mb, caller_mb, responder_mb) in memory.items():
        print(f"  {name:24}{idle_mb:6.1f}; {caller_mb:.0f} / {responder_mb:.0f}")
    for what, names in (("absent", absent), ("failed, and left out of the rest", failed)):
        if names:
            print(f"\n{what}")
        for name, why in names.items():
            print(f"  {name:24}{why}")
    write_json(arguments.json, {
        "rounds": rounds, "ms": ms, "figures": report, "memory": memory, "absent": absent,
        "failed": failed, "versions": versions(),
    })


if __name__ == "__main__":
    run(main)
