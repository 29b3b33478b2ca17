"""Callers, seen from the wire: for each answer exactly this payload or error."""

import itertools

import pytest

from .harness.agents import PICOM
from .harness.cases import load
from .harness.compare import check_result
from .harness.wire import head

CASES = load("results")
NUMBERS = itertools.count(1)


def suited():
    return [case.parameter(agent) for agent in PICOM for case in CASES if case.suits(agent)]


@pytest.mark.parametrize("agent, case", suited())
def test_result(agent, case, processes, wire):
    caller = processes.caller(agent)
    service = f"raw.{next(NUMBERS)}"
    target = f"{service}.method"
    subscription = wire.subscribe(target)
    wire.flush()
    number = caller.send("request", target=target, timeout=case.get("timeout", 5000))
    answer(case, wire, subscription)
    check_result(case, caller.answer(number), target, agent)
    wire.unsubscribe(subscription)


def answer(case, wire, subscription):
    """Answers as the case says: so often, with more behind it, or otherwise the next time."""
    for _ in range(case.get("times", 1)):
        request = wire.next(subscription)
        wire.publish(request.reply, case.bytes("reply"), head=head(case))
    if "also" in case:
        wire.publish(request.reply, case.bytes("also"))
    if "then" in case:
        wire.publish(wire.next(subscription).reply, case.bytes("then"))


@pytest.mark.parametrize("agent", PICOM, ids=lambda agent: agent.name)
def test_a_late_reply_finds_nothing(agent, processes, wire):
    caller = processes.caller(agent)
    target = f"raw.{next(NUMBERS)}.method"
    subscription = wire.subscribe(target)
    wire.flush()
    error = caller.run("request", target=target, timeout=100)["error"]
    assert error["kind"] == "TIMED_OUT"
    late = wire.next(subscription)
    number = caller.send("request", target=target, timeout=5000)
    own = wire.next(subscription)
    wire.publish(late.reply, b'{"payload":"late"}')
    wire.publish(own.reply, b'{"payload":"own"}')
    assert caller.answer(number) == {"payload": '"own"'}
    wire.unsubscribe(subscription)
