"""Changing rules on this machine so that the change is taken back unless it is kept, whatever becomes of this process.

The commands are run by a process of its own, `netdiag.participant.change_guard`, which is ready before anything changes.
"""

from __future__ import annotations

import contextlib
import enum
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from netdiag.errors import NetdiagError, UsageError
from netdiag.model.fix import Command, Fix
from netdiag.participant import change_guard

_READY_S = 10.0
_COMMAND_S = 45.0
"""The longest that a command of the guard's may take, its waiting for a lock included."""
_LEFT_S = 30.0
"""How long a command of a guard that is gone may still run."""
_CONNECT_S = 5.0
_START = """
import sys, types
for name, place in zip(("netdiag", "netdiag.participant"), sys.argv[1:3]):
    package = types.ModuleType(name)  # only the guard's own modules, and not all that a participant can do
    package.__path__ = [place]
    sys.modules[name] = package
from netdiag.participant.change_guard import main
main()
"""


class ChangeError(NetdiagError):
    """The change could not be made, or not be taken back; the text says which."""


class _Said(msgspec.Struct, frozen=True):
    """A message of the guard's."""

    state: str
    problems: list[str]


class State(enum.Enum):
    """What became of a change."""

    APPLIED = "applied"
    KEPT = "kept"
    UNDONE = "undone"


class Change:
    """One fix on this machine. As a context manager it undoes on the way out what nobody has kept."""

    def __init__(self, fix: Fix, *, change_id: str, within_s: float) -> None:
        self.problems: tuple[str, ...] = ()
        """What went wrong with keeping or undoing, in one line each."""
        self.state: State | None = None
        self._plan = {
            "id": change_id,
            "within_s": within_s,
            "commands": _commands(fix.commands),
            "undo": _commands(fix.undo),
            "permanent": _commands(fix.permanent),
        }
        self._within_s = within_s
        # Each command is asked about before it is done, and before it is undone.
        self._timeout_s = _COMMAND_S * 2 * (len(fix.commands) + len(fix.undo) + len(fix.permanent))
        self._end_s = 0.0
        self._control, self._process = _guard(self._plan, self._timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.state is State.APPLIED:
                self.undo()
        finally:
            self._control.close()
            self._process.wait()

    def apply(self) -> None:
        """Run the commands. Raises ChangeError when one fails; what was done before it has then been undone."""
        self._say("apply")
        said = self._heard(self._timeout_s)
        if said is None:
            self._repair()
            raise ChangeError("the guard process ended; what it may have done was taken back")
        if said.state != "applied":
            raise ChangeError("; ".join(said.problems))
        self._end_s = time.monotonic() + self._within_s
        self.state = State.APPLIED

    def left_s(self) -> float:
        """For how many seconds it can still be confirmed."""
        return max(0.0, self._end_s - time.monotonic())

    def fileno(self) -> int:
        """To be waited on: readable when the change is kept or undone from elsewhere, or the guard has ended."""
        return self._control.fileno()

    def keep(self) -> State:
        """Confirm it, and run what makes it permanent."""
        self._say("keep")
        return self.settled()

    def undo(self) -> State:
        """Take it back now."""
        self._say("undo")
        return self.settled()

    def settled(self) -> State:
        """Wait until the change is kept or undone: by this process, from another terminal, or by the time."""
        doing = ""
        while self.state is State.APPLIED:
            said = self._heard(self.left_s() + self._timeout_s)
            if said is not None and said.state in ("kept", "undone"):
                self.problems, self.state = tuple(said.problems), State(said.state)
            elif said is not None:
                doing = said.state
            elif doing == "keeping":
                # It was confirmed: what is in place stays.
                self.problems = ("the guard process ended early: whether it is permanent is not known",)
                self.state = State.KEPT
            else:
                self._repair()
        if self.state is None:
            raise ChangeError("nothing was changed")
        return self.state

    def _repair(self) -> None:
        """The guard is gone, with the change perhaps in place, or being put there: let another one take it back."""
        self.state = State.UNDONE
        self._process.kill()
        _await_session(self._process.pid)
        control, process = _guard({**self._plan, "repair": True}, self._timeout_s)
        with control:
            control.send(msgspec.json.encode({"do": "repair"}))
            said = _receive(control, self._timeout_s)
            while said is not None and said.state == "undoing":
                said = _receive(control, self._timeout_s)
        process.wait()
        problems = said.problems if said is not None else ["whether it was taken back is not known: look at the rules"]
        self.problems = ("the guard process ended early", *problems)

    def _say(self, order: str) -> None:
        # A guard that is gone is noticed where its answer is waited for.
        with contextlib.suppress(OSError):
            self._control.send(msgspec.json.encode({"do": order}))

    def _heard(self, timeout_s: float) -> _Said | None:
        return _receive(self._control, timeout_s)


def pending() -> list[str]:
    """The ids of the changes that wait to be confirmed in this network namespace.

    Anybody can listen at such a name; only what root or this user listens at counts.
    """
    text = Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace")
    named = set(re.findall(rf"@{change_guard.SOCKET_PREFIX}(\w+)$", text, re.MULTILINE | re.ASCII))
    return sorted(change_id for change_id in named if _is_guard(change_id))


def confirm(change_id: str) -> tuple[str, ...]:
    """Keep a change that another process has applied; what went wrong with making it permanent is returned.

    Raises UsageError when there is no such change, or it is not for this user to confirm.
    """
    said = None
    try:
        with _connected(change_id) as guard:
            if not _is_trusted(guard):
                raise UsageError(f"change {change_id} is not netdiag's: neither root nor you listen for it")
            # The guard closes on whom it does not listen to, perhaps before anything could be said.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                guard.send(msgspec.json.encode({"do": "keep"}))
                said = _receive(guard, _COMMAND_S)
    except OSError as error:
        raise UsageError(f"no change {change_id} waits to be confirmed here") from error
    if said is None or said.state != "kept":
        raise UsageError(f"change {change_id} was not kept: it is taken back already, or this is not root")
    return tuple(said.problems)


@contextlib.contextmanager
def _connected(change_id: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as guard:
        guard.settimeout(_CONNECT_S)
        guard.connect("\0" + change_guard.SOCKET_PREFIX + change_id)
        yield guard


def _is_guard(change_id: str) -> bool:
    with contextlib.suppress(OSError), _connected(change_id) as guard:
        return _is_trusted(guard)
    return False


def _is_trusted(guard: socket.socket) -> bool:
    return change_guard.peer_uid(guard) in {0, os.geteuid()}


def _await_session(session: int) -> None:
    """Wait until no process of a guard's session is left; what does not end in time is killed."""
    end_s = time.monotonic() + _LEFT_S
    while left := _members(session):
        if time.monotonic() > end_s:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)  # nothing tells of the end of somebody else's child


def _members(session: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # Behind the name, which may hold anything: state, parent, group, session (proc(5)).
            state, _, _, in_session = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:4]
            if int(in_session) == session and state not in "ZX":
                found.append(int(stat.parent.name))
    return found


def _commands(commands: Iterable[Command]) -> list[dict[str, Any]]:
    return [{"argv": list(each.argv), "comment": each.comment} for each in commands]


def _guard(plan: dict[str, Any], timeout_s: float) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """A guard that is ready. Raises ChangeError; nothing has been changed then."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    package = Path(change_guard.__file__).parent
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _START, package.parent, package, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    ours.send(msgspec.json.encode(plan))
    said = _receive(ours, _READY_S + timeout_s)
    if said is None or said.state != "ready":
        ours.close()
        process.kill()
        process.wait()
        raise ChangeError("; ".join(said.problems) if said is not None else "the guard process did not start")
    return ours, process


def _receive(sender: socket.socket, timeout_s: float) -> _Said | None:
    """The next message; None when the other end has ended, says nothing in time, or nothing that a guard says."""
    if not select.select([sender], [], [], timeout_s)[0]:
        return None
    with contextlib.suppress(OSError, msgspec.DecodeError):
        if data := sender.recv(change_guard.LIMIT_BYTES):
            return msgspec.json.decode(data, type=_Said)
    return None
