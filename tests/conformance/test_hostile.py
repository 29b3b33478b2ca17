"""Bytes that no well-behaved program sends: whatever came before, the next call is served."""

import itertools

import pytest

from .harness.agents import PICOM
from .harness.cases import load, served, service_name

CALLS = load("hostile/calls")
ANSWERS = load("hostile/answers")
NUMBERS = itertools.count(1)


def suited(cases):
    return [case.parameter(agent) for agent in PICOM for case in cases]


@pytest.mark.parametrize("agent, case", suited(CALLS))
def test_call(agent, case, processes, connect):
    processes.responder(agent)
    wire = connect()
    known = served("returns_number")
    last = case.bytes("subject") or known.subject.encode()
    subject = f"{service_name(agent, known.service)}.".encode() + last
    body, head = case.bytes("body") or b"", case.bytes("head") or b""
    # With a reply subject and without; then a call that must not suffer from it.
    wire.publish(subject, body, wire.new_inbox(), head)
    wire.publish(subject, body, "", head)
    reply = first_served(wire, known.target(agent))
    assert (reply.status, reply.body) == (None, known.bytes("reply"))


def first_served(wire, target):
    """The reply to a call, which must not come after the reply to a later one."""
    inbox = wire.new_inbox()
    wire.publish(target, b"", inbox)
    for _ in range(50):
        try:
            reply = wire.next(wire.inbox, timeout=0.2)
        except TimeoutError:
            wire.publish(target, b"", f"{wire.prefix}.later")
            continue
        if reply.subject == inbox:
            return reply
        assert not (reply.subject.endswith(".later") and reply.status is None), "the call was lost"
    raise TimeoutError("nothing came in time")


@pytest.mark.parametrize("agent, case", suited(ANSWERS))
def test_answer(agent, case, processes, connect):
    caller = processes.caller(agent)
    wire = connect()
    name = f"hostile.{next(NUMBERS)}.method"
    subscription = wire.subscribe(name)
    wire.flush()
    number = caller.send("request", target=name, timeout=5000)
    request = wire.next(subscription)
    inbox = request.reply.rpartition(".")[0].encode()
    token = case.bytes("token")
    wire.publish(inbox + b"." + token if token else inbox, b"{}", head=case.bytes("head") or b"")
    wire.publish(request.reply, b'{"payload":"own"}')
    assert caller.answer(number) == {"payload": '"own"'}
