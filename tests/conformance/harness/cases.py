"""The cases, which are data: cases/*/*.json. README.md says what each field means."""

import base64
import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "cases"

#: What only the side that runs the handler has to be able to do.
OF_HANDLERS = {"types", "panic", "javascript"}


class Case:
    """One case. A field that the file does not give has the file's default, or none."""

    def __init__(self, fields):
        self.fields = fields
        self.name = fields["name"]
        self.needs = set(fields.get("needs", []))

    def __repr__(self):
        return self.name

    def __contains__(self, field):
        return field in self.fields

    def __getitem__(self, field):
        return self.fields[field]

    def get(self, field, otherwise=None):
        return self.fields.get(field, otherwise)

    def text(self, field):
        """A field's text, or `None`."""
        data = self.bytes(field)
        return None if data is None else data.decode("utf-8", "surrogatepass")

    def bytes(self, field):
        """A field's bytes, or `None`."""
        value = self.fields.get(field)
        return None if value is None else expand(value)

    def suits(self, agent):
        """Whether the case is one for the agent: for its level, and within its abilities."""
        return self.needs <= agent.abilities and (agent.level > 0 or self.get("old", True))

    def suits_pair(self, caller, responder):
        """Whether it is one for a caller and a responder, each in its place."""
        if "raw_only" in self or not self.get("old", True) and caller.level == 0:
            return False
        return self.suits(responder) and self.needs - OF_HANDLERS <= caller.abilities

    def parameter(self, *agents):
        """A test's parameter: agents and the case, by their names."""
        name = "-".join(["-to-".join(agent.name for agent in agents), self.name])
        return pytest.param(*agents, self, id=name)


class Served(Case):
    """A request, what its handler does, and what then becomes of it."""

    def __init__(self, fields):
        super().__init__(fields)
        self.service = fields.get("service", "main")
        self.method = fields.get("method", self.name)
        self.subject = fields.get("subject", self.method)
        self.handler = fields["handler"]
        if isinstance(self.handler, dict):
            self.handler = {verb: texts(value) for verb, value in self.handler.items()}

    def target(self, agent):
        return f"{service_name(agent, self.service)}.{self.subject}"

    def counted(self, agent):
        """The name under which an agent counts the calls."""
        return f"{service_name(agent, self.service)}.{self.method}"


def service_name(agent, service):
    """A service of an agent; with a dot, since names may have them."""
    return f"conformance-{agent.name}.{service}"


def services(cases, agent):
    """What an agent exposes for the cases that suit it."""
    exposed = {}
    for case in cases:
        if case.handler != "absent" and case.suits(agent):
            methods = exposed.setdefault(service_name(agent, case.service), {})
            assert case.method not in methods, f"two cases share {case.method}"
            methods[case.method] = case.handler
    return exposed


def expand(value):
    """The bytes of a text: itself, or what `repeat` or `base64` describe."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    [(form, data)] = value.items()
    if form == "base64":
        return base64.b64decode(data)
    assert form == "repeat", form
    return "".join(part * count for part, count in data).encode()


def texts(value):
    """A value in which each text that is described has become itself."""
    if isinstance(value, dict) and set(value) in ({"repeat"}, {"base64"}):
        return expand(value).decode()
    if isinstance(value, dict):
        return {name: texts(inner) for name, inner in value.items()}
    return value


def load(folder, kind=Case):
    """All cases of a folder or a file, in the order of the files."""
    cases = []
    for path in sorted(FOLDER.glob(f"{folder}/*.json")) or [FOLDER / f"{folder}.json"]:
        file = json.loads(path.read_text(encoding="utf-8"))
        cases += [kind({**file.get("defaults", {}), **fields}) for fields in file["cases"]]
    names = [case.name for case in cases]
    assert len(names) == len(set(names)), f"two cases of {folder} share a name"
    return cases


#: The cases that have a handler: every responder exposes all that suit it.
SERVED = load("replies", Served)


def served(name):
    """The case of this name, of those."""
    return next(case for case in SERVED if case.name == name)
