"""Every caller with every responder, over a server: what the caller's program gets."""

import pytest

from .harness.agents import CHOSEN, PICOM
from .harness.cases import SERVED
from .harness.compare import check_result

#: Two stand-ins say nothing about picom.
PAIRS = [(c, r) for c in CHOSEN for r in CHOSEN if max(c.level, r.level) > 0]


def suited():
    return [case.parameter(*pair) for pair in PAIRS for case in SERVED if case.suits_pair(*pair)]


def request(process, case, target):
    """Has a caller make a case's request."""
    arguments = {"message": case.text("request")} if "request" in case else {}
    return process.run("request", target=target, timeout=case.get("timeout", 5000), **arguments)


@pytest.mark.parametrize("caller, responder, case", suited())
def test_pair(caller, responder, case, processes):
    processes.responder(responder)
    target = case.target(responder)
    answer = request(processes.caller(caller), case, target)
    check_result(case, answer, target, caller, responder)


@pytest.mark.parametrize("agent", PICOM, ids=lambda agent: agent.name)
def test_nobody(agent, processes):
    target = "nobody.at.home"
    answer = processes.caller(agent).run("request", target=target, timeout=5000)
    assert answer["error"] == {
        "kind": "NO_RESPONDER",
        "number": 503,
        "text": f'Request {target} found no responder: no instance of "nobody.at" is connected',
    }
