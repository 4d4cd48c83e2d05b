"""A script's output as a bundle: its answers by the keys of the requests that a live host would have been asked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from netdiag.facts import script_text
from netdiag.facts.assemble import context_of, failed, in_order
from netdiag.facts.bundle import Bundle, Collection, Ended, withheld
from netdiag.facts.context import Options
from netdiag.facts.script_answers import ScriptHost
from netdiag.facts.script_sections import NOT_ASKED, PURPOSE, SCRIPT_SECTIONS
from netdiag.facts.script_text import Recorded
from netdiag.model.facts import Absence, AbsenceKind, Section
from netdiag.model.wire import Answer, Request

_LEFT_OUT = {
    "swarm": ("engine",),
    "firewall": ("firewall", "firewall_saved"),
}
"""The sections that a script without a part does not give."""
_MADE = re.compile(r"([0-9]{1,12}) (\S+)")


def decode(data: bytes, name: str) -> Bundle:
    """The bundle of a script's output; ``name`` is what the operator called the file.

    Its arguments say when and where the script was made (``made_s``, ``made_on``), and whether the text is whole.
    Raises BundleError for a text that is none, or of another version.
    """
    recorded = script_text.read(data, name)
    host = _Kept(ScriptHost(recorded))
    done: dict[str, Section[Any]] = {}
    given_up = _given_up(recorded)
    for section in in_order(tuple(SCRIPT_SECTIONS)):
        if section in given_up:
            done[section] = Section(absent=given_up[section])
            continue
        try:
            done[section] = host.run(section, done)
        except Exception as error:  # noqa: BLE001 - what one section makes of strange text must not cost the others
            done[section] = failed(section, error)
    clock = done["clock"].value
    collected_s = clock.unix_s if clock is not None else 0.0
    collection = Collection(
        collected_s=collected_s,
        ended={section: Ended(duration_s=0.0, given_up=reason) for section, reason in given_up.items()},
    )
    return Bundle(
        tool=recorded.head.get("tool", ""),
        created_s=collected_s,
        purpose=PURPOSE,
        collection=collection,
        arguments=_arguments(recorded),
        answers={key: withheld(key, answer) for key, answer in host.answers.items()},
    )


def _arguments(recorded: Recorded) -> dict[str, Any]:
    made = _MADE.fullmatch(recorded.head.get("made", "").strip())
    return {
        "complete": recorded.complete,
        **({"made_s": int(made[1]), "made_on": made[2]} if made is not None else {}),
    }


def _given_up(recorded: Recorded) -> dict[str, Absence]:
    """The sections that this script was not made to give."""
    parts = recorded.head.get("parts", "").split()
    reasons = dict(NOT_ASKED)
    for part, sections in _LEFT_OUT.items():
        if part not in parts:
            reasons.update(dict.fromkeys(sections, f"the script was made without --{part}"))
    return {name: Absence(kind=AbsenceKind.NOT_PROBED, text=text) for name, text in reasons.items()}


class _Kept:
    """A script's answers, and what was asked of them."""

    def __init__(self, host: ScriptHost) -> None:
        self._host = host
        self.answers: dict[str, Answer] = {}

    def run(self, name: str, done: dict[str, Section[Any]]) -> Section[Any]:
        gather = SCRIPT_SECTIONS[name].gather(context_of(Options(), done))
        try:
            requests = next(gather)
            while True:
                requests = gather.send(self._ask(requests))
        except StopIteration as stop:
            section: Section[Any] = stop.value
            return section

    def _ask(self, requests: Sequence[Request]) -> list[Answer]:
        answers = self._host.ask(requests)
        self.answers.update(zip((request.key() for request in requests), answers, strict=True))
        return answers
