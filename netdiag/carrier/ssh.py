"""Reaching a host by ssh: the participant is streamed to a Python there and vanishes with the connection.

The system's own ssh(1) is used, with the operator's keys and configuration. Nothing is installed or written there; what
is needed is a Python 3.6 or newer, and root (or a sudo that asks nothing) for firewalls and other namespaces.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import threading
from collections.abc import Sequence

from netdiag.carrier.payload import BOOTSTRAP, payload
from netdiag.carrier.stream import StreamCarrier
from netdiag.errors import CarrierError, UsageError

CONNECT_S = 10.0
GREET_S = 20.0
_DESTINATION = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*@)?\[?[A-Za-z0-9_][A-Za-z0-9._:%-]*\]?")
_PYTHONS = "python3 /usr/bin/python3 /usr/libexec/platform-python python3.13 python3.12 python3.11 python3.9 python3.6"
_REMOTE = (
    'for p in {pythons}; do command -v "$p" >/dev/null 2>&1 && "$p" -c "import sys; sys.exit(sys.version_info < (3, 6))"'
    ' && {{ s=; [ "$(id -u)" = 0 ] || {{ sudo -n true 2>/dev/null && s="sudo -n"; }};'
    ' exec $s "$p" -I -S -B -u -c "{bootstrap}"; }}; done; echo "netdiag: no Python 3.6 or newer here" >&2; exit 127'
)


def connect(destination: str, *, name: str = "", options: Sequence[str] = ()) -> StreamCarrier:
    """A carrier to a host.

    Args:
        destination: ``HOST`` or ``USER@HOST``, as ssh takes it; aliases of ~/.ssh/config included.
        name: What the host is called in answers; the destination by default.
        options: More words for ssh, before the destination.

    Raises:
        UsageError: No ssh here, or a destination that cannot be one.
        CarrierError: The connection does not come about; the text is ssh's own last line.
    """
    program = shutil.which("ssh")
    if program is None:
        raise UsageError("--via ssh: there is no ssh on this host (package openssh-client)")
    if not _DESTINATION.fullmatch(destination):
        raise UsageError(f"--via ssh:{destination}: give HOST or USER@HOST")
    remote = _REMOTE.format(pythons=_PYTHONS, bootstrap=BOOTSTRAP)
    settings = ["-T", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_S:g}", "-o", "ServerAliveInterval=5"]
    argv = [program, *settings, *options, "--", destination, f"sh -c {_quoted(remote)}"]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said = _Said(process)
    assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - both are pipes
    try:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(payload())
            process.stdin.flush()
        return StreamCarrier(
            name or destination, process.stdout, process.stdin, greet_s=GREET_S, close=lambda: _end(process)
        )
    except CarrierError as error:
        why = said.last_line()
        raise CarrierError(f"{destination}: {why}" if why else str(error)) from None


class _Said:
    """What ssh says on standard error, read as it comes so that it never blocks."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._lines: list[str] = []
        self._thread = threading.Thread(target=self._read, args=(process,), daemon=True)
        self._thread.start()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None  # noqa: S101 - it is a pipe
        for raw in process.stderr:
            text = raw.decode("utf-8", "replace").strip()
            if text and not text.startswith("Warning: Permanently added"):
                self._lines = [*self._lines[-20:], text[:300]]

    def last_line(self) -> str:
        self._thread.join(1.0)
        return self._lines[-1] if self._lines else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(1.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
