"""How a join token gets in: from an option, a file or the environment, and never into a list of processes."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from netdiag.errors import UsageError
from netdiag.swarm.token import Token, TokenProblem, parse_token

VARIABLE = "NETDIAG_TOKEN"
_LARGEST_FILE_BYTES = 64 * 1024


def read_token(given: str | None, file: str | None) -> Token | TokenProblem | None:
    """What the given token says of its swarm; its text is not kept.

    Args:
        given: The value of ``--token``; wiped from this process's argument list, which every user can read.
        file: A path, or ``-`` for standard input.

    Raises:
        UsageError: Two sources at once, or a file that cannot be read.
    """
    if given is not None and file is not None:
        raise UsageError("--token and --token-file were both given; give one of them")
    if given is not None:
        _wipe_argument(given)
        return parse_token(given)
    if file is not None:
        return parse_token(_from_file(file))
    in_environment = os.environ.get(VARIABLE)
    return parse_token(in_environment) if in_environment else None


def _from_file(path: str) -> str:
    if path == "-":
        return sys.stdin.read(_LARGEST_FILE_BYTES)
    try:
        with Path(path).open(encoding="utf-8") as stream:
            return stream.read(_LARGEST_FILE_BYTES)
    except OSError as error:
        raise UsageError(
            f"--token-file {path}: {error.strerror}; give a readable file that holds one join token"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--token-file {path}: not a text file; give a file that holds one join token") from error


def _wipe_argument(secret: str) -> None:
    """Overwrite an argument where the kernel shows it (/proc/PID/cmdline, proc(5): arg_start and arg_end of stat)."""
    try:
        fields = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        start, end = int(fields[45]), int(fields[46])
    except (OSError, ValueError, IndexError):
        return
    wanted = os.fsencode(secret)
    if not wanted or not 0 < end - start < 1 << 24:
        return
    shown = ctypes.string_at(start, end - start)
    at = shown.find(wanted)
    while at >= 0:
        ctypes.memset(start + at, ord("x"), len(wanted))
        at = shown.find(wanted, at + len(wanted))
