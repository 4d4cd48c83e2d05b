"""Reaching a host by ssh: the participant is streamed to a Python there and vanishes with the connection.

The system's own ssh(1) is used, with the operator's keys and configuration. Nothing is installed or written there; what
is needed is a Python 3.6 or newer, and root (or a sudo that asks nothing) for firewalls and other namespaces.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence

import msgspec

from netdiag.carrier.payload import BOOTSTRAP, READY, payload
from netdiag.carrier.ssh_failure import explain, is_unresolved
from netdiag.carrier.stream import NoGreeting, StreamCarrier, plain
from netdiag.errors import CarrierError, NoSuchHost, UsageError
from netdiag.shell import shell_text

CONNECT_S = 10.0
"""The longest until sshd answers."""
GREET_S = 30.0
"""The longest until the participant greets: log-in, a Python that starts, the program on its way; for slow hosts."""
END_S = 1.0
"""How long ssh may take to end by itself when its input has ended."""

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@\\-]*\$?")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_IPV6 = re.compile(r"[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9._-]+)?")

_PYTHONS = (
    "python3 /usr/bin/python3 /usr/libexec/platform-python python3.14 python3.13 python3.12 python3.11 python3.10"
    " python3.9 python3.8 python3.7 python3.6 python"
)
# Every login shell has to pass it on, csh and fish as well: no single quote, backslash, exclamation mark or line end in
# it, and shorter than the word that an old csh can read (1024).
_FIND_PYTHON = (
    "for p in {pythons};do"
    ' command -v "$p" >/dev/null 2>&1||continue;'
    'if "$p" -ISc "import sys;sys.exit(sys.version_info<(3,6))" </dev/null >/dev/null 2>&1;then s=;'
    'if [ "$(id -u)" -ne 0 ]&&sudo -n "$p" -ISc "" </dev/null >/dev/null 2>&1;then s="sudo -n";fi;'
    'exec $s "$p" -ISBuc "{bootstrap}" {ready};fi;'
    'w="$("$p" -V 2>&1 </dev/null)";case "$v" in *"$w"*);;*)v="$v $w";;esac;'
    'done;echo "netdiag: no Python 3.6 or newer${{v:+ (only$v)}}" >&2;exit 127'
)

# Of the operator's own configuration, what would put something else in place of this one quiet session is overruled. A
# connection that a master holds already is used; we become no master, which would stay behind.
_OPTIONS = {
    "BatchMode": "yes",
    "ConnectTimeout": f"{CONNECT_S:g}",
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "3",
    "ControlMaster": "no",
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "PermitLocalCommand": "no",
    "RemoteCommand": "none",
    "RequestTTY": "no",
    "EscapeChar": "none",
    "LogLevel": "ERROR",
}


class Destination(msgspec.Struct, frozen=True):
    """Where ssh goes."""

    host: str
    """A name, also an alias of ~/.ssh/config, or an address."""
    user: str = ""
    """Empty for the one that ssh takes by itself."""
    port: int = 0
    """0 for the one that ssh takes by itself."""

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host and self.port else self.host
        return f"{user}{host}:{self.port}" if self.port else f"{user}{host}"


def parse_destination(text: str) -> Destination:
    """``[USER@]HOST[:PORT]`` or ``ssh://[USER@]HOST[:PORT]``; an IPv6 address with a port is in brackets.

    Raises UsageError that names the text and says what is accepted.
    """
    rest = text.removeprefix("ssh://").removesuffix("/") if text.startswith("ssh://") else text
    user, at, host = rest.rpartition("@")
    port = ""
    if host.startswith("["):
        host, bracket, port = host[1:].partition("]")
        valid = bool(bracket) and (not port or port.startswith(":")) and bool(_IPV6.fullmatch(host))
        port = port[1:] if port != ":" else "none"
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
        valid = bool(_NAME.fullmatch(host)) and port != ""
    else:
        valid = bool(_NAME.fullmatch(host) or _IPV6.fullmatch(host))
    valid = valid and (not at or bool(_USER.fullmatch(user)))
    number = int(port) if port.isascii() and port.isdecimal() and len(port) < 6 else 0
    if not valid or (port and not 0 < number < 65536):
        raise UsageError(f"ssh:{plain(text, 100)}: give HOST, USER@HOST or USER@HOST:PORT ([ADDRESS]:PORT for IPv6)")
    return Destination(host, user, number)


def remote_command() -> str:
    """What the login shell of the other host is given to run."""
    script = _FIND_PYTHON.format(pythons=_PYTHONS, bootstrap=BOOTSTRAP, ready=READY)
    return f"exec {shell_text(['/bin/sh', '-c', script])}"


def connect(
    destination: str, *, name: str = "", options: Sequence[str] = (), greet_s: float = GREET_S
) -> StreamCarrier:
    """A carrier to a host; where there is no root, its ``restriction`` says what that costs.

    Args:
        destination: As `parse_destination` takes it.
        name: What the host is called in answers; the destination by default.
        options: More words for ssh, before ours.
        greet_s: The longest that all of it may take, log-in included, in seconds.

    Raises:
        UsageError: No ssh here, or a destination that cannot be one.
        CarrierError: The connection does not come about; one line with the reason and what to do. NoSuchHost where it is
            that the host's own name, as it was given, has no address.
    """
    where = parse_destination(destination)
    program = shutil.which("ssh")
    if program is None:
        raise UsageError(f"ssh:{destination}: there is no ssh on this host: install it (package openssh-client)")
    argv = [program, *options, "-T", *(word for each in _OPTIONS.items() for word in ("-o", "=".join(each)))]
    argv += ["-l", where.user] if where.user else []
    argv += ["-p", str(where.port)] if where.port else []
    process = subprocess.Popen(
        [*argv, "--", where.host, remote_command()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_in_english(),
        start_new_session=True,  # an interruption at the terminal is ours to handle: first undone, then closed
    )
    assert process.stdin is not None  # noqa: S101 - it is a pipe
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    said = _Said(process)
    try:
        carrier = StreamCarrier(
            name or str(where),
            process.stdout,
            process.stdin,
            greet_s=greet_s,
            close=lambda: _end(process),
            program=payload(),
            last_words=said.last_line,
        )
    except NoGreeting as error:
        kind = NoSuchHost if where.host == name and is_unresolved(said.lines()) else CarrierError
        raise kind(explain(name or str(where), said.lines(), process.returncode, error)) from None
    if not carrier.is_root:
        carrier.restriction += (
            f"; log in as root (ssh:root@{where.host}), or let sudo run Python there without a password"
        )
    return carrier


def configured_host(destination: str) -> str:
    """The host that ssh would connect to, by the operator's own configuration; empty when it does not say.

    Nobody is asked: what the other host says of itself is not what it is reached at.
    """
    where, program = parse_destination(destination), shutil.which("ssh")
    if program is None:
        return ""
    user = ["-l", where.user] if where.user else []
    try:
        said = subprocess.run(
            [program, "-G", *user, "--", where.host], capture_output=True, timeout=CONNECT_S, check=False
        ).stdout.decode("utf-8", "replace")
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = next((line.partition(" ")[2].strip() for line in said.splitlines() if line.startswith("hostname ")), "")
    return found if _NAME.fullmatch(found) or _IPV6.fullmatch(found) else ""


def _in_english() -> dict[str, str]:
    """This environment, but messages that can be told apart. What ssh sends on of it hurts no Python there."""
    environment = {name: value for name, value in os.environ.items() if name not in ("LC_ALL", "LANGUAGE")}
    return environment | {"LC_MESSAGES": "C"}


class _Said:
    """What ssh says on standard error, read as it comes so that it never blocks."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._lines: list[str] = []
        self._thread = threading.Thread(target=self._read, args=(process,), daemon=True)
        self._thread.start()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None  # noqa: S101 - it is a pipe
        with process.stderr as stream:
            while raw := stream.readline(4096):
                if text := plain(raw.decode("utf-8", "replace")):
                    self._lines = [*self._lines[-20:], text]

    def lines(self) -> list[str]:
        """The last twenty or so."""
        self._thread.join(0.5)
        return self._lines

    def last_line(self) -> str:
        """The last one, or an empty text."""
        lines = self.lines()
        return lines[-1] if lines else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait until ssh has ended; it and its proxies are killed when that takes too long."""
    end_s = time.monotonic() + END_S
    while process.poll() is None and time.monotonic() < end_s:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
