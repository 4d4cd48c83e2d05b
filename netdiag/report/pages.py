"""What ``netdiag explain`` prints: the page of a cause or of a check, their list, and the whole catalogue."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable, Mapping
from typing import Protocol

from netdiag.causes import CATALOGUE, GROUPS, OBJECT_KINDS, CauseKind
from netdiag.errors import UsageError

_REPOSITORIES = {
    "docker.machine": "docker/machine",
    "classicswarm": "docker-archive/classicswarm",
    "swarmkit": "moby/swarmkit",
    "moby": "moby/moby",
    "libnetwork": "moby/libnetwork",
    "for-linux": "docker/for-linux",
    "firewalld": "firewalld/firewalld",
    "firehol": "firehol/firehol",
    "flannel": "flannel-io/flannel",
    "fedora-coreos-tracker": "coreos/fedora-coreos-tracker",
    "typhoon": "poseidon/typhoon",
    "operator": "tigera/operator",
    "calico": "projectcalico/calico",
    "calicoctl": "projectcalico/calicoctl",
    "felix": "projectcalico/felix",
    "bird": "projectcalico/bird",
    "node": "projectcalico/node",
    "cni-plugin": "projectcalico/cni-plugin",
    "libnetwork-plugin": "projectcalico/libnetwork-plugin",
}


class Explained(Protocol):
    """What a check tells about itself."""

    @property
    def id(self) -> str:
        """The stable dotted id."""

    @property
    def title(self) -> str:
        """What it looks at, in a few words."""

    @property
    def explains(self) -> str:
        """What it means when it does not pass."""

    @property
    def remedy(self) -> str:
        """What to do then."""


def page(name: str, checks: Mapping[str, Explained], *, width: int = 80) -> str:
    """The page of a cause or, if there is no such cause, of a check.

    Raises:
        UsageError: There is neither; the text names those that are nearest.
    """
    if name in CATALOGUE:
        return _cause_page(CATALOGUE[name], width)
    if name in checks:
        return _check_page(checks[name], width)
    raise UsageError(_unknown(name, [*CATALOGUE, *checks]))


def listing(checks: Mapping[str, Explained]) -> str:
    """All codes with their titles by group, then all checks."""
    groups = {title: [(kind.code, kind.title) for kind in kinds] for title, kinds in GROUPS.items()}
    if checks:
        groups["Checks"] = [(check.id, check.title) for check in checks.values()]
    longest = max(len(name) for rows in groups.values() for name, _ in rows)
    blocks = [
        "\n".join([title, *(f"  {name:<{longest}}  {text}" for name, text in rows)]) for title, rows in groups.items()
    ]
    return "\n\n".join([*blocks, "netdiag explain CODE prints one of them."]) + "\n"


def everything(*, width: int = 80) -> str:
    """The pages of all causes, one after the other."""
    return "\n".join(_cause_page(kind, width) for kind in CATALOGUE.values())


def _cause_page(kind: CauseKind, width: int) -> str:
    told = "  (told, never ranked as a cause)" if kind.info else ""
    parent = [f"Refines {kind.parent}."] if kind.parent else []
    blocks = [
        f"{kind.code}{told}\n{_wrap(f'{kind.title}.', width)}",
        _wrap(kind.meaning, width),
        *parent,
        _section("Proven by", [kind.evidence], width),
        _section("Looks alike and is not it", kind.decoys, width),
        _section("What to do", [kind.remedy], width),
        _section("Breaks", [", ".join(kind.affects)], width),
        _section("Names", [f"{name}: {OBJECT_KINDS[name]}" for name in kind.object_kinds], width),
    ]
    if kind.refs:
        blocks.append(_section("People who met it", [", ".join(kind.refs)], width))
    return "\n\n".join(blocks) + "\n"


def _check_page(check: Explained, width: int) -> str:
    blocks = [f"{check.id}\n{check.title}", _wrap(check.explains, width)]
    if check.remedy:
        blocks.append(_section("What to do", [check.remedy], width))
    return "\n\n".join(blocks) + "\n"


def _section(title: str, texts: Iterable[str], width: int) -> str:
    lines = list(texts)
    lead = "  - " if len(lines) > 1 else "  "
    return "\n".join([f"{title}:", *(_wrap(text, width, lead=lead) for text in lines)])


def _wrap(text: str, width: int, *, lead: str = "") -> str:
    return textwrap.fill(
        text,
        width,
        initial_indent=lead,
        subsequent_indent=" " * len(lead),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _unknown(name: str, names: list[str]) -> str:
    by_last = {known.rpartition(".")[2]: known for known in names}
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.55)
    near += [by_last[last] for last in difflib.get_close_matches(name.rpartition(".")[2], by_last, n=2, cutoff=0.75)]
    near += [known for known in names if known.startswith(f"{name.rstrip('.')}.")]
    listed = list(dict.fromkeys(near))
    hint = f"; did you mean {', '.join(listed)}?" if listed else "; netdiag explain lists them all"
    return f"no cause and no check is called {name!r}{hint}"


# --- the reference ---------------------------------------------------------------------------------------------------


def markdown() -> str:
    """The catalogue as a Markdown page: ``docs/reference/causes.md``."""
    lines = [
        "<!-- Generated by `netdiag explain --all --markdown`; do not edit. -->",
        "# Causes",
        "",
        "Every code that a report may name. Codes are stable: one may be added, none is removed or given another",
        "meaning. A report names the most specific code that is proven; the general one is its `parent`.",
        "`netdiag explain CODE` prints an entry.",
    ]
    for title, kinds in GROUPS.items():
        lines += ["", f"## {title}", "", "| code | what |", "| --- | --- |"]
        lines += [f"| [{kind.code}](#{_anchor(kind.code)}) | {kind.title} |" for kind in kinds]
        for kind in kinds:
            lines += ["", *_entry(kind)]
    lines += ["", "## Objects", "", "What a cause names, by the field `kind` of its `object`.", ""]
    lines += ["| kind | what, and its fields |", "| --- | --- |"]
    lines += [f"| `{name}` | {text} |" for name, text in OBJECT_KINDS.items()]
    return "\n".join(lines) + "\n"


def _entry(kind: CauseKind) -> Iterable[str]:
    yield f"### {kind.code}"
    yield ""
    yield f"**{kind.title}.**" + (" Told, never ranked as a cause." if kind.info else "")
    yield ""
    yield kind.meaning
    yield ""
    if kind.parent:
        yield f"* Refines: [{kind.parent}](#{_anchor(kind.parent)})"
    yield f"* Proven by: {kind.evidence}"
    yield "* Looks alike and is not it:"
    for decoy in kind.decoys:
        yield f"    * {decoy}"
    yield f"* What to do: {kind.remedy}"
    yield f"* Breaks: {', '.join(kind.affects)}"
    yield f"* Names: {', '.join(f'`{name}`' for name in kind.object_kinds)}"
    if kind.refs:
        yield f"* People who met it: {', '.join(_link(ref) for ref in kind.refs)}"


def _anchor(code: str) -> str:
    """The anchor that Markdown readers give to a heading of this code."""
    return code.replace(".", "")


def _link(ref: str) -> str:
    repository, _, number = ref.partition("#")
    return f"[{ref}](https://github.com/{_REPOSITORIES[repository]}/issues/{number})"
