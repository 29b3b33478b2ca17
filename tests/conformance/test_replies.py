"""Responders, seen from the wire: for each request exactly these bytes and headers."""

import pytest

from .harness.agents import CHOSEN, PICOM
from .harness.cases import SERVED, served
from .harness.compare import check_reply
from .harness.wire import head


def suited():
    return [case.parameter(agent) for agent in CHOSEN for case in SERVED if case.suits(agent)]


@pytest.mark.parametrize("agent, case", suited())
def test_reply(agent, case, processes, wire):
    responder = processes.responder(agent)
    before = responder.calls(case.counted(agent))
    if case.get("reply", True) is None:
        expect_silence(case, agent, wire)
    else:
        request = case.bytes("request") or b""
        check_reply(case, agent, wire.request(case.target(agent), request, head(case)))
    wanted = before + case.get("runs", 1)
    assert responder.calls_from(wanted, case.counted(agent)) == wanted


def expect_silence(case, agent, wire):
    """Sends the request, and then enough others that it cannot still be under way."""
    inbox = wire.new_inbox()
    wire.publish(case.target(agent), case.bytes("request") or b"", inbox, head(case))
    others = [wire.new_inbox() for _ in range(20)]
    for other in others:
        wire.publish(served("returns_number").target(agent), b"", other)
    answered = {wire.next(wire.inbox).subject for _ in others}
    assert answered == set(others)


@pytest.mark.parametrize("agent", PICOM, ids=lambda agent: agent.name)
@pytest.mark.parametrize("name", ["throws_error_with_fields", "absent_method", "refuses_words"])
def test_a_client_without_headers_sees_the_same_body(agent, name, processes, connect):
    processes.responder(agent)
    case = served(name)
    reply = connect(headers=False).request(case.target(agent), case.bytes("request") or b"")
    assert reply.head == b""
    assert reply.body == case.bytes("reply")


@pytest.mark.parametrize("agent", CHOSEN, ids=lambda agent: agent.name)
@pytest.mark.parametrize("name", ["message_nested", "returns_nothing", "throws_error"])
def test_without_a_reply_subject_the_method_runs(agent, name, processes, connect):
    """And nothing is sent: a listener to everything sees the calls and the one reply."""
    responder = processes.responder(agent)
    case, wire = served(name), connect()
    target, counted = case.target(agent), case.counted(agent)
    everything = wire.subscribe(">")
    wire.flush()
    before = responder.calls(counted)
    wire.publish(target, case.bytes("request") or b"")
    assert responder.calls_from(before + 1, counted) == before + 1
    reply = wire.request(target, case.bytes("request") or b"")
    seen = [message.subject for message in wire.waiting(everything)]
    assert seen == [target, target, reply.subject]


@pytest.mark.parametrize("agent", CHOSEN, ids=lambda agent: agent.name)
def test_one_subscription_in_the_group_of_the_name(agent, processes, connect):
    """Another member of the group takes its share; a listener outside of it takes nothing."""
    responder = processes.responder(agent)
    case = served("returns_number")
    counted, target = case.counted(agent), case.target(agent)
    service = target.rpartition(".")[0]
    other = connect()
    member = other.subscribe(f"{service}.*", service)
    listener = other.subscribe(f"{service}.>")
    other.flush()
    before = responder.calls(counted)
    for _ in range(100):
        other.publish(target, b"", other.new_inbox())
    taken = len(other.waiting(member))
    assert len(other.waiting(listener)) == 100
    answered = [other.next(other.inbox) for _ in range(100 - taken)]
    assert 0 < len(answered) < 100
    assert responder.calls(counted) == before + 100 - taken
