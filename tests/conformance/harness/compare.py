"""Whether what came is what a case expects."""

import json

from .cases import texts


def canonical(text):
    """JSON text in one form: equal for equal values, and for no others."""

    def number(digits):
        value = float(digits)
        return int(value) if value.is_integer() else value

    value = json.loads(text, parse_float=number)
    return json.dumps(value, sort_keys=True)


def same_json(one, other):
    """Whether two JSON texts mean the same. Equal texts need not be read, however deep."""
    return one == other or canonical(one) == canonical(other)


def check_reply(case, agent, reply):
    """A reply on the wire, against a case's, at the agent's level."""
    assert reply.status is None
    if "reply_number" in case:
        check_failure(case["reply_number"], reply)
        return
    old = agent.level == 0
    wanted = case.bytes("old_reply" if old and "old_reply" in case else "reply")
    if case.get("exact", True):
        assert reply.body == wanted
    else:
        assert same_json(reply.body.decode(), wanted.decode())
    if old or "reply_headers" not in case:
        assert reply.head == b""
    else:
        headers = {name: texts(value) for name, value in case["reply_headers"].items()}
        # In no order: headers have none.
        assert sorted(reply.headers) == sorted(headers.items())


def check_failure(number, reply):
    """A reply that is a failure with this number, whatever its text."""
    body = json.loads(reply.body)
    assert body["code"] == number
    assert isinstance(body["error"], str) and body["error"] != ""
    headers = dict(reply.headers)
    assert headers["Nats-Service-Error"] != ""
    assert headers["Nats-Service-Error-Code"] == str(number)


def check_result(case, answer, target, caller, responder=None):
    """What a caller's program got, against a case's result, at the levels of both ends."""
    if "reply_number" in case:
        assert answer["error"]["text"] != ""
        assert answer["error"].get("number") in (case["reply_number"], None)
        return
    wanted = case["result"]
    if responder is not None and responder.level == 0:
        wanted = case.get("old_result", wanted)
    if "error" in wanted:
        assert "error" in answer, f"no error, but {answer}"
        check_error(wanted["error"], answer["error"], target, caller, responder)
        return
    assert "error" not in answer, f"an error: {answer}"
    if "payload" in wanted:
        assert same_json(answer["payload"], json.dumps(wanted["payload"]))
    elif "payload_text" in wanted:
        assert same_json(answer["payload"], texts(wanted["payload_text"]))
    else:
        assert "payload" not in answer, f"not nothing: {answer}"


def check_error(wanted, error, target, caller, responder=None):
    """An error as a program sees it. A caller of level 0 knows the text alone."""
    assert error["text"] != ""
    if "text" in wanted:
        text = texts(wanted["text"]).replace("{target}", target)
        assert error["text"] == text.replace("{service}", target.rpartition(".")[0])
    if caller.level > 0:
        assert (error["kind"], error["number"]) == (wanted["kind"], wanted["number"])
        old = responder is not None and responder.level == 0
        assert error.get("details") == (None if old else wanted.get("details"))
