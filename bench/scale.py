#!/usr/bin/env python3
"""The cost of a request as callers, instances, methods or messages grow.

picom beside nats.js, in Node. All rows of a table are set up at once and take their turns round
after round, each with processes of its own, so that rows compare as well as peers do. Figures are
medians over the rounds; ratios are picom to nats.js within one round.
"""

import argparse

from harness import (
    NODE, ROOT, Bench, Failed, Pair, did_not_measure, run, shown_ratio, summarise, turn_limit,
    versions, write_json,
)

PEERS = ("picom", "nats.js")
KIB = 1024
SIZES = {"16 B": 16, "1 KiB": KIB, "16 KiB": 16 * KIB, "128 KiB": 128 * KIB,
         "1 MiB - 1 KiB": 1023 * KIB}


def tables():
    """(what grows, what holds for all rows, rows); a row is
    (label, setup of the caller, setup of the responder, command)."""
    yield "caller connections", "in one process; 256 in flight in total, one responder, 100 B", [
        (f"{n}", {"copies": n}, {}, request(max(n, 256))) for n in (1, 4, 16, 64, 256)]
    yield "instances", "responders in one process; one caller, 128 in flight, 100 B", [
        (f"{n}", {}, {"copies": n}, request(128)) for n in (1, 4, 16, 64)]
    yield "methods", "of one service, called in rotation; 128 in flight, 100 B", [
        (f"{n:,}", {"methods": n}, {"methods": n}, request(128)) for n in (1, 100, 10_000)]
    yield "message size", "there and back; 16 in flight", [
        (label, {}, {}, request(16, size)) for label, size in SIZES.items()]


def request(inflight, size=100):
    return {"op": "request", "inflight": inflight, "size": size}


def measure(bench, rows, rounds, ms):
    """For each row, what each peer measured, or why it did not."""
    pairs = []
    try:
        for number, (_, caller, responder, command) in enumerate(rows):
            for peer in PEERS:
                # Rows are alive together: each needs a service of its own.
                own = {"service": f"scale-{peer}-{number}"}
                try:
                    pair = Pair(bench, NODE, peer, turn_limit(ms), {**own, **caller},
                                {**own, **responder})
                    pairs.append((pair, command, []))
                except Failed as error:
                    pairs.append((None, command, [{"error": str(error)}]))
        for turn in range(-1, rounds):
            for pair, command, measured in pairs:
                if pair is None or pair.failed:
                    continue
                # The first turn warms up (processes are new for each table), and counts only if it
                # fails.
                result = pair.turn(command, ms)
                if turn >= 0 or "error" in result:
                    measured.append(result)
    finally:
        for pair, _, _ in pairs:
            if pair is not None:
                pair.kill()
    results = [measured for _, _, measured in pairs]
    summaries = []
    for ours, base in zip(results[::2], results[1::2]):
        summaries.append(dict(zip(PEERS, (
            did_not_measure(ours) or summarise(ours, [] if did_not_measure(base) else base),
            did_not_measure(base) or summarise(base, base),
        ))))
    return summaries


def print_table(grows, fixed, rows, summaries):
    print(f"\n**{grows[0].upper()}{grows[1:]}** {fixed}\n")
    both = " / ".join(PEERS)
    print(f"| {grows} | requests/s, {both} | ratio | p50 µs | caller's CPU µs per request |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    errors = []
    for (label, *_), summary in zip(rows, summaries):
        for peer in PEERS:
            if "error" in summary[peer]:
                errors.append(f"{label}, {peer}: {summary[peer]['error'].splitlines()[0][:200]}")
        figures = (
            " / ".join(f"{summary[peer][key]:,.{digits}f}" if key in summary[peer] else "-"
                       for peer in PEERS)
            for key, digits in (("rate", 0), ("p50", 0), ("caller_cpu", 1)))
        rate, p50, cpu = figures
        print(f"| {label} | {rate} | {shown_ratio(summary['picom'], 'rate')} | {p50} | {cpu} |")
    for error in errors:
        print(f"\n{error}")
    print(end="", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each row")
    parser.add_argument("--ms", type=int, default=700, help="milliseconds of each turn")
    parser.add_argument("--only", help="only tables whose name contains this")
    parser.add_argument("--json", default=str(ROOT / "target/scale.json"), help="where to write")
    arguments = parser.parse_args()

    report = {}
    with Bench() as bench:
        for grows, fixed, rows in tables():
            if arguments.only and arguments.only not in grows:
                continue
            summaries = measure(bench, rows, arguments.rounds, arguments.ms)
            report[grows] = {label: summary for (label, *_), summary in zip(rows, summaries)}
            print_table(grows, fixed, rows, summaries)
    write_json(arguments.json, {
        "rounds": arguments.rounds, "ms": arguments.ms, "tables": report, "versions": versions(),
    })


if __name__ == "__main__":
    run(main)
