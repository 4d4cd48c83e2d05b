"""The words that all renderings share: the verdict as a sentence, an object or a subject as a phrase, safe text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from netdiag.model.report import Answer, Cause, Confidence, Finding, Need, Report, State, Subject, clause

_TOKEN = re.compile(r"SWMTKN-[0-9A-Za-z-]+")
_ASCII = str.maketrans(
    {"→": "->", "←": "<-", "–": "-", "—": "-", "…": "...", "≥": ">=", "≤": "<=", "×": "x", "±": "+-", "µ": "u"}
    | dict.fromkeys("‘’", "'")
    | dict.fromkeys("“”", '"')
)
_PROMISES = {
    Need.JOIN: ("This node will join", "This node will not join", "Whether this node will join is not known"),
    Need.NAMES: ("Names will resolve", "Names will not resolve", "Whether names will resolve is not known"),
    Need.TRAFFIC: (
        "Containers will reach each other",
        "Containers will not reach each other",
        "Whether containers will reach each other is not known",
    ),
}


_SURENESS = {Confidence.PROVEN: "", Confidence.LIKELY: "most likely ", Confidence.POSSIBLE: "perhaps "}


def visible(text: str) -> str:
    r"""The text with what could steer a terminal or break a document written out (``\x1b``, lone surrogates).

    Names of containers and lines of logs come from anywhere. Line ends and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in "\n\t" else _escaped(one) for one in text)


def _escaped(character: str) -> str:
    return " " if character.isspace() and character not in "\x0b\x0c\r\x1c\x1d\x1e\x1f\x85" else ascii(character)[1:-1]


def visible_line(text: str) -> str:
    r"""`visible` for a line whose blanks count: a line end in it, which only others can have put there, is ``\n``."""
    return visible(text).replace("\n", "\\n").replace("\t", " ")


def to_paste(command: str) -> str:
    """A command, or a remark in its place where its signs cannot be shown: it would be another one when pasted."""
    return command if visible_line(command) == command else "(it has signs that no terminal shows: see --output json)"


def one_line(text: str) -> str:
    """`visible`, on one line."""
    return " ".join(visible(text).split())


def plain_ascii(text: str) -> str:
    """The text for a terminal or locale that has ASCII only; what has no likeness is written as an escape."""
    return text.translate(_ASCII).encode("ascii", "backslashreplace").decode("ascii")


def without_tokens(text: str) -> str:
    """The text with any join token left out."""
    return _TOKEN.sub("(token left out)", text)


def amount(number: int, noun: str) -> str:
    """A number with its noun: "1 warning", "2 warnings"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def headline(report: Report) -> str:
    """The verdict as one sentence that answers the command's question."""
    why = _why(report)
    if report.question is not None:
        yes, no, open_ = _PROMISES[report.question]
        if report.verdict is State.FAIL:
            return f"{no}: {why}."
        if report.verdict is State.UNKNOWN:
            return f"{open_}: {why}."
        joined = any(one.code == "swarm.already-member" for one in report.causes)
        return f"{'This node has joined already' if joined else yes}{_with_warnings(report)}."
    if report.verdict is State.FAIL:
        return f"Something is broken: {why}."
    if report.verdict is State.UNKNOWN:
        return f"Not everything could be checked: {why}."
    if report.causes:
        return f"Nothing was seen to fail, but there is something to mend: {_why(report)}."
    if any(one.check.startswith("pair.") for one in report.findings):
        return f"Nothing in the two records stands against the hosts' traffic{_with_warnings(report)}."
    return f"Nothing is broken{_with_warnings(report)}."


def _with_warnings(report: Report) -> str:
    warnings = report.counts.warn
    return f", with {amount(warnings, 'warning')}" if warnings else ""


def _why(report: Report) -> str:
    """The first cause of the worst findings; without one, what was found or why it could not be."""
    worst = [one for one in report.findings if one.state is report.verdict]
    if report.verdict is State.UNKNOWN and report.question is not None:
        needs = list(Need)
        needed = needs[: needs.index(report.question) + 1]
        worst = [one for one in worst if any(one.answers.get(need) is Answer.UNKNOWN for need in needed)]
    ranked = sorted(one.cause for one in worst if one.cause is not None)
    if ranked and report.verdict in (State.FAIL, State.WARN):
        cause = report.causes[ranked[0]]
        where_ = f" on {one_line(cause.host)}" if cause.host else ""
        exact = f": {_decision(cause.object)}" if cause.object.get("chain") else ""
        return f"{_SURENESS[cause.confidence]}{clause(one_line(cause.title))}{where_}{exact}"
    if not worst:
        return "nothing could be checked"
    first: Finding = worst[0]
    text = first.reason if report.verdict is State.UNKNOWN and first.reason else first.summary
    return one_line(text).rstrip(".")


def answers_line(report: Report) -> str:
    """The answers to the three questions in one line; empty for a command without them."""
    words = {Need.JOIN: "join", Need.NAMES: "names", Need.TRAFFIC: "traffic"}
    return ", ".join(f"{words[need]}: {report.answers[need].value}" for need in Need if need in report.answers)


def where(subject: Subject) -> str:
    """A subject as a phrase: "worker-1 to manager-1, container web.1"."""
    parts = [" to ".join(filter(None, (subject.host, subject.peer)))]
    parts += [
        f"{word} {name}"
        for word, name in (
            ("container", subject.container),
            ("network", subject.network),
            ("device", subject.device),
            ("image", subject.image),
        )
        if name
    ]
    return one_line(", ".join(filter(None, parts)))


def described(cause: Cause) -> str:
    """The object of a cause as a phrase, as exact as its fields allow."""
    thing = cause.object
    kind = str(thing.get("kind", "object"))
    if kind in {"rule", "policy"} and thing.get("chain"):
        return _rule(thing)
    if kind == "segment" and "from" in thing and "to" in thing:
        rest = _fields(thing, {"kind", "from", "to"})
        return one_line(f"between {thing['from']} and {thing['to']}{': ' if rest else ''}{rest}")
    if kind == "rule" and thing.get("known") is False:
        rest = _fields(thing, {"kind", "known"})
        return one_line(f"a rule that only that host can show{': ' if rest else ''}{rest}")
    if kind == "stage" and "stage" in thing:
        return one_line(f"the stage {thing['stage']}" + (f", with {thing['manager']}" if thing.get("manager") else ""))
    if kind == "sysctl" and "key" in thing:
        wanted = f" (wanted: {thing['wanted']})" if "wanted" in thing else ""
        return one_line(f"{thing['key']} = {thing.get('value')}{wanted}")
    named = next((key for key in (kind, "name", "path", "key", "address") if thing.get(key)), None)
    if named is None:
        rest = _fields(thing, {"kind"})
        return one_line(f"{kind}: {rest}" if rest else kind)
    rest = _fields(thing, {"kind", named})
    return one_line(f"{kind} {_value(thing[named])}{', ' if rest else ''}{rest}")


def _decision(thing: Mapping[str, Any]) -> str:
    """Where in the firewall it was decided: "rule 5 of filter INPUT"."""
    chain = " ".join(str(thing[key]) for key in ("table", "chain") if thing.get(key))
    number = f"rule {thing['number']}" if thing.get("number") is not None else "a rule"
    what = f"policy {thing['policy']}" if thing.get("policy") else number
    return one_line(f"{what} of {chain}" if chain else what)


def _rule(thing: Mapping[str, Any]) -> str:
    notes = [str(thing["backend"])] if thing.get("backend") else []
    if thing.get("family"):
        notes.append({"ip": "IPv4", "ip6": "IPv6"}.get(thing["family"], str(thing["family"])))
    if thing.get("namespace") not in {None, "", "host"}:
        notes.append(f"namespace {thing['namespace']}")
    if thing.get("owner"):
        notes.append(f"set by {thing['owner']}")
    return one_line(f"{_decision(thing)}{' (' + ', '.join(notes) + ')' if notes else ''}")


def _fields(thing: Mapping[str, Any], without: set[str]) -> str:
    return ", ".join(
        f"{key.replace('_', ' ')} {_value(value)}"
        for key, value in thing.items()
        if key not in without and value is not None and value not in ("", [], {})
    )


def _value(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key} {_value(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return " ".join(_value(inner) for inner in value)
    return str(value)


def verbatim(cause: Cause) -> str:
    """What the cause names in its own words (the text of a rule), or nothing."""
    text = cause.object.get("text")
    return visible(text) if isinstance(text, str) else ""
