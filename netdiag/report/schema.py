"""JSON schemas of the documents that netdiag writes, made from their types."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from netdiag.model import (
    clean,
    explain,
    facts,
    firewall_diff,
    firewall_lint,
    firewall_show,
    fix,
    plan,
    report,
    trace,
    wire,
)

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Document(NamedTuple):
    """A document: its type, the name in its field ``schema``, and a title."""

    type: type
    id: str
    title: str


DOCUMENTS: Mapping[str, Document] = MappingProxyType(
    {
        "facts": Document(facts.Facts, facts.SCHEMA, "netdiag facts: one host's state at one moment"),
        "report": Document(report.Report, report.SCHEMA, "netdiag report: the answer of one command"),
        "trace": Document(trace.Trace, trace.SCHEMA, "netdiag trace: one packet's way through the filters"),
        "explain": Document(
            explain.Explanation, explain.SCHEMA, "netdiag explain: what a rule set does with a packet, computed"
        ),
        "allow": Document(fix.Allow, fix.SCHEMA, "netdiag allow: the least rule that lets one packet through"),
        "firewall-diff": Document(
            firewall_diff.FirewallDiff, firewall_diff.SCHEMA, "netdiag firewall diff: what a reload or a boot changes"
        ),
        "firewall-show": Document(
            firewall_show.FirewallShow, firewall_show.SCHEMA, "netdiag firewall show: a rule set laid out for reading"
        ),
        "firewall-lint": Document(
            firewall_lint.FirewallLint, firewall_lint.SCHEMA, "netdiag firewall lint: what is wrong with a rule set"
        ),
        "clean": Document(clean.Clean, clean.SCHEMA, "netdiag clean: what a killed netdiag had left"),
        "plan": Document(plan.Plan, plan.SCHEMA, "netdiag plan: what a command would do, and does not"),
    }
)
"""The documents that have a schema, by the name that ``netdiag schema`` takes."""


PARTICIPANT = "participant"
"""The one document that is no single object: the lines of the stream between a requester and a participant."""
NAMES = (*DOCUMENTS, PARTICIPANT)
"""Everything that has a schema."""


def schema(name: str) -> bytes:
    """The JSON schema of one of `NAMES`, as an indented document with a line end.

    Fields that it does not name are allowed: a newer netdiag may have added them.
    """
    if name == PARTICIPANT:
        return _lines_schema()
    document = DOCUMENTS[name]
    made = _tidy(msgspec.json.schema(document.type))
    made["$defs"][document.type.__name__]["properties"]["schema"] = {"const": document.id}
    head = {"$schema": _DIALECT, "$id": document.id, "title": document.title}
    return msgspec.json.format(msgspec.json.encode(head | made), indent=2) + b"\n"


def _lines_schema() -> bytes:
    """Any one line, in either direction."""
    kinds, definitions = msgspec.json.schema_components(wire.LINES, ref_template="#/$defs/{name}")
    definitions["Greeting"]["properties"]["protocol"] = {"const": wire.PROTOCOL}
    head = {"$schema": _DIALECT, "$id": wire.PROTOCOL, "title": "netdiag participant: one line of its stream"}
    made = _tidy({"anyOf": list(kinds), "$defs": definitions})
    return msgspec.json.format(msgspec.json.encode(head | made), indent=2) + b"\n"


def _tidy(node: Any) -> Any:  # noqa: ANN401 - any JSON value
    """The schema with the indentation of the docstrings taken out of its descriptions."""
    if isinstance(node, dict):
        return {
            key: "\n".join(line.strip() for line in value.splitlines())
            if key == "description" and isinstance(value, str)
            else _tidy(value)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_tidy(value) for value in node]
    return node
