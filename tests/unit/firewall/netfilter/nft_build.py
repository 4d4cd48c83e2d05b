"""Rule sets of nft's own in the words of ``nft -j``, for tests."""

import json

from netdiag.firewall.explain import Explainer, read_rule_file
from netdiag.model.explain import PacketLine

PACKET = {"source": "192.0.2.21", "destination": "192.0.2.10", "in_device": "eth0", "sport": 40000, "dport": 80}
ACCEPT, DROP = {"accept": None}, {"drop": None}


def field(name):
    protocol, _, rest = name.partition(" ")
    return {"payload": {"protocol": protocol, "field": rest}}


def meta(key):
    return {"meta": {"key": key}}


def ct(key, **more):
    return {"ct": {"key": key, **more}}


def match(left, right, op="=="):
    return {"match": {"op": op, "left": left, "right": right}}


def jump(chain):
    return {"jump": {"target": chain}}


def base(name, hook="input", prio=0, policy="accept", kind="filter", family="inet", table="t", **more):
    place = {"family": family, "table": table, "name": name, "type": kind, "hook": hook, "prio": prio}
    return {"chain": {**place, "policy": policy, **more}}


def chain(name, family="inet", table="t"):
    return {"chain": {"family": family, "table": table, "name": name}}


def rule(in_chain, *statements, family="inet", table="t", **more):
    return {"rule": {"family": family, "table": table, "chain": in_chain, "expr": list(statements), **more}}


def named(kind, name, type_, elements, family="inet", table="t", **more):
    return {kind: {"family": family, "table": table, "name": name, "type": type_, "elem": elements, **more}}


def text(*rows):
    known = [row["table"]["name"] for row in rows if "table" in row]
    places = {(inner["family"], inner["table"]) for row in rows for inner in row.values() if "table" in inner}
    tables = [{"table": {"family": family, "name": name}} for family, name in sorted(places) if name not in known]
    return json.dumps({"nftables": [{"metainfo": {"version": "1.0.6"}}, *tables, *rows]})


def explain(rows, host=None, **packet):
    said = rows if isinstance(rows, str) else text(*rows)
    return Explainer(read_rule_file(said), host).explain(PacketLine(**{**PACKET, **packet}))


def told(found):
    decided = found.rule or found.policy
    return found.verdict.value, None if decided is None else decided.place()


def ask(*statements, host=None, hook="input", family="inet", extra=(), **packet):
    """What becomes of a packet in a chain of one rule, which drops what it matches: drop, accept or unknown."""
    rows = [base("c", hook=hook, family=family), *extra, rule("c", *statements, DROP, family=family)]
    return explain(rows, host, **packet).verdict.value
