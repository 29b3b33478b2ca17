"""Callers, seen from the wire: for each message exactly this request and this publish."""

import itertools
import re

import pytest

from .harness.agents import CHOSEN, PICOM
from .harness.cases import load
from .harness.compare import check_error
from .harness.wire import block

MESSAGES = load("requests/messages")
TARGETS = load("requests/targets")
NUMBERS = itertools.count(1)
TIMEOUT = 5000


def suited():
    return [case.parameter(agent) for agent in CHOSEN for case in MESSAGES if case.suits(agent)]


@pytest.fixture
def target(wire):
    """A target of its own that the raw connection serves: the name, and the subscription."""
    name = f"requests.{next(NUMBERS)}.method"
    subscription = wire.subscribe(name)
    wire.flush()
    yield name, subscription
    wire.unsubscribe(subscription)


def message(case):
    """How a case's message is given to an agent."""
    if "javascript" in case:
        return {"javascript": case["javascript"]}
    return {"message": case.text("message")} if "message" in case else {}


def mark(request):
    """The id and the milliseconds of a request's one header."""
    [(name, value)] = request.headers
    assert name == "Picom-Call"
    found = re.fullmatch(r"([!-~]{1,128}) ([0-9]+)", value)
    assert found, value
    return found[1], int(found[2])


@pytest.mark.parametrize("verb", ["request", "publish"])
@pytest.mark.parametrize("agent, case", suited())
def test_message(agent, case, verb, processes, wire, target):
    caller = processes.caller(agent)
    name, subscription = target
    number = caller.send(verb, target=name, timeout=TIMEOUT, **message(case))
    if "result" in case:
        check_error(case["result"]["error"], caller.answer(number)["error"], name, agent)
        # Nothing left: what comes first is the message behind it.
        number = caller.send(verb, target=name, timeout=TIMEOUT, message='"behind"')
        expected = b'"behind"'
    else:
        expected = case.bytes("body")
    sent = wire.next(subscription)
    assert sent.body == expected
    if verb == "request":
        wire.publish(sent.reply, b"{}")
    else:
        assert sent.reply is None
    if verb == "request" and agent.level > 0:
        _, left = mark(sent)
        assert TIMEOUT - 2000 < left <= TIMEOUT
    assert caller.answer(number) == {}


@pytest.mark.parametrize("verb", ["request", "publish"])
@pytest.mark.parametrize("case", TARGETS, ids=repr)
@pytest.mark.parametrize("agent", PICOM, ids=lambda agent: agent.name)
def test_target(agent, case, verb, processes, wire):
    caller = processes.caller(agent)
    everything = wire.subscribe(">")
    wire.flush()
    name = case.text("target")
    error = caller.run(verb, target=name, message="1", timeout=TIMEOUT)["error"]
    check_error(case["result"]["error"], error, name, agent)
    assert case["text_has"] in error["text"]
    behind = f"requests.{next(NUMBERS)}.behind"
    caller.do("publish", target=behind, message="1")
    # All that the caller's connection sent, its barriers apart.
    sent = [message.subject for message in wire.waiting(everything)]
    assert [subject for subject in sent if not subject.startswith("_INBOX.")] == [behind]
    wire.unsubscribe(everything)


@pytest.mark.parametrize("agent", PICOM, ids=lambda agent: agent.name)
def test_each_request_has_an_id_and_an_inbox_of_its_own(agent, processes, wire, target):
    caller = processes.caller(agent)
    name, subscription = target
    numbers = [caller.send("request", target=name, timeout=TIMEOUT) for _ in range(100)]
    requests = [wire.next(subscription) for _ in numbers]
    assert len({mark(request)[0] for request in requests}) == 100
    assert len({request.reply for request in requests}) == 100
    assert len({request.reply.rpartition(".")[0] for request in requests}) == 1
    for request in reversed(requests):
        wire.publish(request.reply, b"{}")
    assert [caller.answer(number) for number in numbers] == [{}] * 100


@pytest.mark.parametrize("agent", PICOM, ids=lambda agent: agent.name)
def test_the_default_deadline_travels_where_none_is_given(agent, processes, wire, target):
    caller = processes.caller(agent)
    name, subscription = target
    number = caller.send("request", target=name, timeout=0)
    request = wire.next(subscription)
    _, left = mark(request)
    assert 20_000 < left <= 30_000
    wire.publish(request.reply, b"{}")
    assert caller.answer(number) == {}


@pytest.mark.parametrize("agent", PICOM, ids=lambda agent: agent.name)
def test_a_call_that_is_sent_again_keeps_its_id(agent, processes, wire, target):
    caller = processes.caller(agent)
    name, subscription = target
    number = caller.send("request", target=name, timeout=TIMEOUT, message="[1]")
    first = wire.next(subscription)
    wire.publish(first.reply, head=block({}, " 503"))
    second = wire.next(subscription)
    assert second.body == first.body == b"[1]"
    (first_id, first_left), (second_id, second_left) = mark(first), mark(second)
    assert first_id == second_id
    assert second_left <= first_left
    wire.publish(second.reply, b"{}")
    assert caller.answer(number) == {}
