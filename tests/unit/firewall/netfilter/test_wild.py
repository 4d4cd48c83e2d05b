"""Rule sets as programs and people write them, and what becomes of packets there, read from the rules by hand.

Every ``wild/NAME.save`` has a ``NAME.jsonl``: a packet, the verdict, and the rule that decides, as it stands in the file
(or its chain and number, where lines move rules), or ``policy``; behind unknown, the verdicts that remain.
"""

import json
import re
from pathlib import Path

import pytest

from netdiag.firewall.explain import Explainer, read_rule_file
from netdiag.firewall.netfilter.skb import Host
from netdiag.model.explain import PacketLine
from netdiag.model.trace import TracePath

DIRECTORY = Path(__file__).parent / "wild"
NAMES = sorted(path.stem for path in DIRECTORY.glob("*.save"))
_APPENDED = re.compile(r"^\s*(?:\[\d+:\d+\]\s*)?(-A (\S+)(?: .*?)?)\s*$")


def places(text):
    """Where each appended line stands, counted as a reader would: by its text, table, chain and number."""
    found, count, table = {}, {}, "filter"
    for line in text.replace("\r", "").split("\n"):
        table = line[1:].strip() if line.startswith("*") else table
        appended = _APPENDED.match(line)
        if appended is not None:
            place = table, appended[2]
            count[place] = count.get(place, 0) + 1
            found.setdefault(appended[1], []).append((*place, count[place]))
    return found


def cases():
    for name in NAMES:
        for number, line in enumerate((DIRECTORY / f"{name}.jsonl").read_text().splitlines(), 1):
            if line.strip():
                packet, _, expect = line.partition(" => ")
                yield pytest.param(name, packet, expect, id=f"{name}-{number}")


@pytest.fixture(scope="module")
def explainers():
    """A set is read once."""
    known = {}

    def explainer(name):
        if name not in known:
            text = (DIRECTORY / f"{name}.save").read_text()
            read = read_rule_file(text)
            known[name] = Explainer(read, Host(bridges=frozenset())), places(text), read.problems
        return known[name]

    return explainer


@pytest.mark.parametrize("name", NAMES)
def test_every_line_is_understood(name, explainers):
    assert explainers(name)[2] == ()


@pytest.mark.parametrize(("name", "packet", "expect"), list(cases()))
def test_a_packet(name, packet, expect, explainers):
    explainer, where, _ = explainers(name)
    found = explainer.explain(PacketLine(**_fields(json.loads(packet))))
    verdict, _, place = expect.partition(" ")
    decided = found.rule and (found.rule.table, found.rule.chain, found.rule.number)
    assert found.verdict.value == verdict, (found.reason, found.depends, decided)
    if verdict == "unknown":
        assert found.rule is None
        said = [each.value for each in found.possible]
        assert said == place.split() if place else len(said) > 1
    elif place in ("", "policy"):
        assert decided is None
    elif place.startswith("-A "):
        (only,) = where[place]
        assert decided == only
    else:
        chain, number = place.split()
        assert decided is not None
        assert decided[1:] == (chain, int(number))


def _fields(said):
    names = {"in": "in_device", "out": "out_device", "src": "source", "dst": "destination"}
    return {names.get(name, name): value for name, value in said.items() if name != "path"} | (
        {"path": TracePath(said["path"])} if "path" in said else {}
    )
