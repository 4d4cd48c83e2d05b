"""``netdiag firewall diff`` for people: by moment and mechanism, the rule, what happens to it, the one command."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator

from netdiag.model.firewall_diff import Change, ChangeKind, DiffVerdict, FirewallDiff, When
from netdiag.report.wording import to_paste, visible_line

_SHOWN = 6
"""So many changes of one kind are shown one by one; a machine reads the rest."""
_HEADINGS = {
    ("none", When.BOOT): "At the next boot (nothing on this host saves them)",
    ("none", When.RELOAD): "At the next reload or boot (nothing on this host saves them)",
}
_WHENS = {
    When.RELOAD: "When {} is reloaded, and at the next boot",
    When.RESTART: "When {} is restarted, and at the next boot",
    When.BOOT: "At the next boot ({})",
}
_BOOT_WORDS = {True: "starts at boot", False: "does not start at boot", None: "whether it starts at boot is not known"}
_ONLY_THEN = {When.RELOAD: "When {} is reloaded", When.RESTART: "When {} is restarted"}


def lines(found: FirewallDiff, *, width: int = 100) -> list[str]:
    """The whole answer, laid out for a width; commands are never broken, so that they can be copied."""
    return [visible_line(line) for line in _lines(found, width)]


def _lines(found: FirewallDiff, width: int) -> list[str]:
    said = _wrapped(_answer(found), width, "")
    for _, group in itertools.groupby(sorted(found.changes, key=_order), key=_order):
        said += ["", *_group(list(group), width)]
    if found.unknown:
        said += ["", "Not known:"]
        for each in found.unknown:
            said += _wrapped(f"{each.mechanism}: {each.reason}", width, "  ")
    if found.sources:
        said += ["", "What saves rules here:"]
        for source in found.sources:
            state = ", ".join(
                (
                    *(() if source.active is None else ("active" if source.active else "not active",)),
                    _BOOT_WORDS[source.enabled],
                )
            )
            said += _wrapped(f"{source.mechanism}: {state} ({', '.join(source.files) or 'no file'})", width, "  ")
    return said


def _answer(found: FirewallDiff) -> str:
    if found.verdict is DiffVerdict.SAME:
        return "SAME: the next reload and the next boot change no rule of this host."
    if found.verdict is DiffVerdict.UNKNOWN:
        return "UNKNOWN: nothing was seen to change, but not everything could be compared."
    counts = [
        (ChangeKind.LOST, "lost"),
        (ChangeKind.RETURNS, "come back"),
        (ChangeKind.CHANGED, "change"),
        (ChangeKind.WIPES, "of programs thrown away"),
        (ChangeKind.DUPLICATE, "of programs saved by mistake"),
    ]
    parts = [
        f"{number} {text}" for kind, text in counts if (number := sum(each.kind is kind for each in found.changes))
    ]
    return f"CHANGES: {', '.join(parts)}."


def _order(change: Change) -> tuple[int, str, str, str]:
    """Wipes come last: they hurt nobody before a reload, and the programs heal them at their start."""
    last = 10 if change.kind is ChangeKind.WIPES else 0
    return list(When).index(change.when) + last, change.mechanism, change.kind.value, change.file


def _group(changes: list[Change], width: int) -> Iterator[str]:
    first = changes[0]
    headings = _ONLY_THEN if first.kind is ChangeKind.WIPES else _WHENS
    heading = _HEADINGS.get((first.mechanism, first.when)) or headings[first.when].format(first.mechanism)
    yield f"{heading}: {first.kind.value.upper()}" + (f" ({first.file})" if first.file else "")
    alike: dict[str, list[Change]] = {}
    for change in changes[:_SHOWN]:
        alike.setdefault(change.meaning, []).append(change)
    commands = {(change.commands, change.otherwise) for change in changes}
    for number, (meaning, same) in enumerate(alike.items(), 1):
        own = {(change.commands, change.otherwise) for change in same}
        for change in same:
            yield from _change(change, width, command=len(own) > 1)
        if number == len(alike) and len(changes) > _SHOWN:
            yield f"  … and {len(changes) - _SHOWN} more (--output json has all)"
        indent = "  " if len(alike) == 1 else "    "
        yield from _wrapped(meaning, width, indent)
        if len(own) == 1 and len(commands) > 1:
            yield from _commands(same[0], indent)
    if len(commands) == 1:
        yield from _commands(first, "  ")


def _change(change: Change, width: int, *, command: bool) -> Iterator[str]:
    if change.rule is not None:
        rule = change.rule
        whose = f", owner {rule.owner.value}" if rule.owner.value != "operator" else ""
        yield f"  {rule.backend.value} {rule.family} {rule.place()}{whose}"
        if rule.policy is None:
            yield from _wrapped(rule.text, width, "    ")
    else:
        yield f"  {change.setting}"
    if command:
        yield from _commands(change, "    ")


def _commands(change: Change, indent: str) -> Iterator[str]:
    yield from (f"{indent}# {to_paste(command)}" for command in change.commands)
    if change.otherwise:
        yield f"{indent}or, if it is not to come back:"
        yield from (f"{indent}# {to_paste(command)}" for command in change.otherwise)


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    return textwrap.wrap(text, max(40, width), initial_indent=indent, subsequent_indent=indent, break_long_words=False)
