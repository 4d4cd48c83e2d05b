"""The text that the script for another admin's host prints, as blocks: what was run or read, and what came of it.

One block is ``@begin VERB [in=NAMESPACE] WORDS…``, then its output with a ``|`` before each line and its errors with a
``!``, then ``@end`` with an exit code, or with a kind of absence where it was not run. Anything else (the comments,
what a mail or a terminal put around it) is passed over. A text that was cut off gives what it still holds: the block
that has no end is one that failed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from netdiag.errors import BundleError
from netdiag.model.facts import Absence, AbsenceKind

SCHEMA = "netdiag/script/1"
_FAMILY = "netdiag/script/"
_HEAD = re.compile(rb"^@netdiag/script/[0-9]+\s*$", re.MULTILINE)
_LOOKED_AT_BYTES = 64 << 10
"""How far into a file its first line may be: terminals and mails put lines before it."""
_TIMED_OUT = frozenset({124, 137, 143})
"""What timeout(1) of coreutils and of busybox end with when they end a command."""
_KINDS = {kind.value: kind for kind in AbsenceKind}


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """What one command or file gave.

    Attributes:
        name: The verb and its words, as the script wrote them: ``command ip -V``, ``file /etc/machine-id``.
        namespace: The network namespace's file where it was run in another one than the host's.
        text: Its output, with a newline at the end of each line.
        code: Its exit code; 0 for what is no command.
        absent: Why there is no output.
    """

    name: str
    namespace: str = ""
    text: str = ""
    errors: str = ""
    code: int = 0
    absent: Absence | None = None


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """All that a script printed.

    Attributes:
        head: What its ``@NAME VALUE`` lines say: tool, parts, made.
        blocks: By name and namespace; of a repeated one the first.
        complete: Whether its last line is there.
    """

    head: Mapping[str, str]
    blocks: Mapping[tuple[str, str], Block]
    complete: bool

    def get(self, name: str, namespace: str = "") -> Block | None:
        """The block of a name; None if the script printed none."""
        return self.blocks.get((name, namespace))


def is_script(data: bytes) -> bool:
    """Whether a file is the output of a script, of whatever version."""
    return _HEAD.search(data[:_LOOKED_AT_BYTES]) is not None


def read(data: bytes, name: str) -> Recorded:
    """The blocks of a script's output; ``name`` is what the operator called the file.

    Raises BundleError, in one line that names it, for a text of another version.
    """
    lines = iter(data.decode("utf-8", "replace").splitlines())
    for line in lines:
        if line.startswith(f"@{_FAMILY}"):
            said = line[1:].strip()
            if said != SCHEMA:
                raise BundleError(f"{name}: {said[:60]} was made by another version; this netdiag reads {SCHEMA}")
            return _body(lines)
    raise BundleError(f"{name}: not the output of a script of netdiag")


class _Open(NamedTuple):
    """The block that is being read."""

    name: str
    namespace: str
    out: list[str]
    errors: list[str]


def _body(lines: Iterable[str]) -> Recorded:
    head: dict[str, str] = {}
    blocks: dict[tuple[str, str], Block] = {}
    current: _Open | None = None
    complete = False

    def close(end: str | None) -> None:
        nonlocal current
        if current is not None:
            block = _closed(current, end)
            blocks.setdefault((block.name, block.namespace), block)
        current = None

    for line in lines:
        mark = line[:1]
        if mark == "|" and current is not None:
            current.out.append(line[1:])
        elif mark == "!" and current is not None:
            current.errors.append(line[1:])
        elif mark == "@":
            word, _, rest = line[1:].strip().partition(" ")
            if word == "begin":
                close(None)
                current = _opened(rest)
            elif word == "end":
                close(rest.strip())
            elif word == "complete":
                complete = True
            elif current is None:
                head.setdefault(word, rest)
    close(None)
    return Recorded(head=head, blocks=blocks, complete=complete)


def _opened(words: str) -> _Open:
    verb, _, rest = words.partition(" ")
    namespace = ""
    if rest.startswith("in="):
        namespace, _, rest = rest[3:].partition(" ")
    return _Open(f"{verb} {rest}".strip(), namespace, [], [])


def _closed(block: _Open, end: str | None) -> Block:
    text = "".join(f"{line}\n" for line in block.out)
    errors = "\n".join(block.errors)
    said = errors.strip().partition("\n")[0]
    code, absent = 0, None
    if end is None:
        text_ = f"{block.name}: the file is cut off in the middle of it; have it sent again"
        absent = Absence(kind=AbsenceKind.FAILED, text=text_)
    elif end in _KINDS:
        absent = Absence(kind=_KINDS[end], text=f"{block.name}: {said or end}")
    elif not re.fullmatch(r"[0-9]{1,3}", end):
        absent = Absence(kind=AbsenceKind.FAILED, text=f"{block.name}: it ended with {end[:40]!r}")
    elif int(end) in _TIMED_OUT:
        absent = Absence(kind=AbsenceKind.TIMEOUT, text=f"{block.name}: not done in its time")
    else:
        code = int(end)
    return Block(name=block.name, namespace=block.namespace, text=text, errors=errors, code=code, absent=absent)
