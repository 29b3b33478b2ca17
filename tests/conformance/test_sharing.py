"""Instances of old and new programs in one queue group: they share, and nothing runs twice."""

import time
from collections import Counter

import pytest

from .harness.agents import CHOSEN

SERVICE = "shared"
TARGET = f"{SERVICE}.work"
EACH = 400


@pytest.fixture(scope="module")
def instances(processes):
    """An instance of each peer, all of one service, whose payload is the peer's name."""
    started = {}
    for agent in CHOSEN:
        process = processes.start(agent, "sharing")
        process.do("expose", service=SERVICE, methods={"work": {"return": agent.name}})
        started[agent.name] = process
    return started


def counts(instances):
    return Counter({name: process.calls(TARGET) for name, process in instances.items()})


@pytest.mark.parametrize("agent", CHOSEN, ids=lambda agent: agent.name)
def test_requests_are_shared_and_run_once(agent, processes, instances):
    caller = processes.caller(agent)
    before = counts(instances)
    numbers = [caller.send("request", target=TARGET, timeout=10_000) for _ in range(EACH)]
    answers = [caller.answer(number) for number in numbers]
    who = Counter(answer["payload"].strip('"') for answer in answers)
    ran = counts(instances) - before
    assert ran == who
    assert ran.total() == EACH
    assert set(ran) == set(instances), "an instance got nothing"


@pytest.mark.parametrize("agent", CHOSEN, ids=lambda agent: agent.name)
def test_publishes_are_shared_and_run_once(agent, processes, instances):
    caller = processes.caller(agent)
    before = counts(instances)
    numbers = [caller.send("publish", target=TARGET) for _ in range(EACH)]
    for number in numbers:
        assert caller.answer(number) == {}
    deadline = time.monotonic() + 10
    while (counts(instances) - before).total() < EACH:
        assert time.monotonic() < deadline, "publishes were lost"
    ran = counts(instances) - before
    assert ran.total() == EACH
    assert set(ran) == set(instances), "an instance got nothing"
