"""Caller and responder in one process on `memory://`: the same cases, without a server."""

import pytest

from .harness.agents import PICOM
from .harness.cases import SERVED, served
from .harness.compare import check_result
from .test_pairs import request

IN_MEMORY = [agent for agent in PICOM if agent.memory]


def suited():
    return [
        case.parameter(agent)
        for agent in IN_MEMORY
        for case in SERVED
        if case.suits_pair(agent, agent)
    ]


@pytest.mark.parametrize("agent, case", suited())
def test_pair(agent, case, processes):
    process = processes.both(agent)
    before = process.calls(case.counted(agent))
    target = case.target(agent)
    check_result(case, request(process, case, target), target, agent, agent)
    wanted = before + case.get("runs", 1)
    assert process.calls_from(wanted, case.counted(agent)) == wanted


@pytest.mark.parametrize("agent", IN_MEMORY, ids=lambda agent: agent.name)
def test_nobody(agent, processes):
    answer = processes.both(agent).run("request", target="nobody.home", timeout=5000)
    assert answer["error"]["kind"] == "NO_RESPONDER"


@pytest.mark.parametrize("agent", IN_MEMORY, ids=lambda agent: agent.name)
def test_publish(agent, processes):
    process = processes.both(agent)
    case = served("message_nested")
    before = process.calls(case.counted(agent))
    process.do("publish", target=case.target(agent), message=case.text("request"))
    assert process.calls_from(before + 1, case.counted(agent)) == before + 1
