"""A command as an operator pastes it into a root's shell: the one place where netdiag quotes.

Rules, comments, and the names of devices, chains, containers and hosts come from others. Whatever they hold, it is one
word of the command: nothing of it is run, expanded, or taken for the end of the command.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence


def shell_text(argv: Sequence[str]) -> str:
    """A command of exactly these words; an option's value is quoted, not the option with it."""
    words = []
    for word in argv:
        option, equals, value = word.partition("=")
        if equals and option.startswith("--") and shlex.quote(option) == option:
            words.append(f"{option}={shlex.quote(value) if value else ''}")
        else:
            words.append(shlex.quote(word))
    return " ".join(words)


def operand(name: str) -> list[str]:
    """A name as words that no program takes for an option of its own."""
    return ["--", name] if name.startswith("-") else [name]
