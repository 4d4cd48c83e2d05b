"""How the key of `netdiag listen` gets in: from a file, the environment or the terminal, never from an argument."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from netdiag.carrier.listen import VARIABLE, parse_key
from netdiag.errors import UsageError
from netdiag.participant.sealed import Key

_LARGEST_FILE_BYTES = 4096


def read_key(file: str | None = None) -> Key:
    """The key.

    Args:
        file: A path, or ``-`` for standard input. Without one it is NETDIAG_KEY, else the terminal is asked.

    Raises:
        UsageError: There is none, or one that cannot be one.
    """
    # Out of the environment in any case: no process that is started later shall have it.
    in_environment = os.environ.pop(VARIABLE, None)
    if file is not None:
        return _key(_from_file(file))
    if in_environment is not None:
        return _key(in_environment)
    if not sys.stdin.isatty():
        raise UsageError(f"no key: set {VARIABLE}, give --key-file FILE (- is standard input), or use a terminal")
    return _key(click.prompt("The key that the other host printed", hide_input=True, err=True))


def _key(text: str) -> Key:
    """A key; the whole line that the other host printed will do as well."""
    stripped = text.strip()
    if stripped.startswith(f"{VARIABLE}="):
        stripped = stripped.partition("=")[2].split(maxsplit=1)[0] if stripped != f"{VARIABLE}=" else ""
    return parse_key(stripped)


def _from_file(path: str) -> str:
    try:
        if path == "-":
            return sys.stdin.read(_LARGEST_FILE_BYTES)
        with Path(path).open(encoding="ascii", errors="replace") as stream:
            return stream.read(_LARGEST_FILE_BYTES)
    except OSError as error:
        raise UsageError(f"--key-file {path}: {error.strerror}; give a readable file that holds the key") from error
