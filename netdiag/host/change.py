"""Changing rules on this machine so that the change is taken back unless it is kept, whatever becomes of this process.

The commands are run by a process of its own, `netdiag.participant.change_guard`, which is ready before anything changes.
"""

from __future__ import annotations

import contextlib
import enum
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from netdiag.errors import NetdiagError, UsageError
from netdiag.model.fix import Command, Fix
from netdiag.participant import change_guard

WITHIN_S = (5, 600)
"""For how long a change may wait to be confirmed."""
_READY_S = 10.0
_COMMAND_S = 45.0
"""The longest that a command of the guard's may take, its waiting for a lock included."""


class ChangeError(NetdiagError):
    """The change could not be made, or not be taken back; the text says which."""


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
        self._timeout_s = _COMMAND_S * (len(fix.commands) + len(fix.undo) + len(fix.permanent))
        self._end_s = 0.0
        self._control, self._process = _guard(self._plan)

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
        if said["state"] != "applied":
            raise ChangeError("; ".join(said["problems"]))
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
        undoing = False
        while self.state is State.APPLIED:
            said = self._heard(self.left_s() + self._timeout_s)
            if said is None:
                if undoing:
                    self.problems = ("the guard process ended while it took the change back: look at the rules",)
                    self.state = State.UNDONE
                else:
                    self._repair()
            elif said["state"] in ("kept", "undone"):
                self.problems, self.state = tuple(said["problems"]), State(said["state"])
            else:
                undoing = True
        if self.state is None:
            raise ChangeError("nothing was changed")
        return self.state

    def _repair(self) -> None:
        """The guard is gone, with the change perhaps in place: let another one take it back."""
        self.state = State.UNDONE
        control, process = _guard(self._plan)
        with control:
            control.send(msgspec.json.encode({"do": "repair"}))
            said = _receive(control, self._timeout_s)
            while said is not None and said["state"] == "undoing":
                said = _receive(control, self._timeout_s)
        process.wait()
        self.problems = ("the guard process ended early", *(said["problems"] if said is not None else ()))

    def _say(self, order: str) -> None:
        # A guard that is gone is noticed where its answer is waited for.
        with contextlib.suppress(OSError):
            self._control.send(msgspec.json.encode({"do": order}))

    def _heard(self, timeout_s: float) -> dict[str, Any] | None:
        return _receive(self._control, timeout_s)


def pending() -> list[str]:
    """The ids of the changes that wait to be confirmed in this network namespace."""
    text = Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace")
    return sorted(set(re.findall(rf"@{change_guard.SOCKET_PREFIX}(\w+)$", text, re.MULTILINE)))


def confirm(change_id: str) -> tuple[str, ...]:
    """Keep a change that another process has applied; what went wrong with making it permanent is returned.

    Raises UsageError when there is no such change, or it is not for this user to confirm.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as guard:
        try:
            guard.connect("\0" + change_guard.SOCKET_PREFIX + change_id)
        except OSError as error:
            raise UsageError(f"no change {change_id} waits to be confirmed here: {error.strerror}") from error
        said = None
        # The guard closes on whom it does not listen to, perhaps before anything could be said.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            guard.send(msgspec.json.encode({"do": "keep"}))
            said = _receive(guard, _COMMAND_S)
    if said is None:
        raise UsageError(f"change {change_id} was not kept: it is taken back already, or this is not root")
    return tuple(said["problems"])


def _commands(commands: Iterable[Command]) -> list[dict[str, Any]]:
    return [{"argv": list(each.argv), "comment": each.comment} for each in commands]


def _guard(plan: dict[str, Any]) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """A guard that is ready. Raises ChangeError; nothing has been changed then."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", change_guard.__file__, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    ours.send(msgspec.json.encode(plan))
    said = _receive(ours, _READY_S)
    if said is None or said["state"] != "ready":
        ours.close()
        process.wait()
        raise ChangeError("; ".join(said["problems"]) if said is not None else "the guard process did not start")
    return ours, process


def _receive(sender: socket.socket, timeout_s: float) -> dict[str, Any] | None:
    """The next message; None when the other end has ended or says nothing in time."""
    if not select.select([sender], [], [], timeout_s)[0]:
        return None
    with contextlib.suppress(OSError):
        if data := sender.recv(change_guard.LIMIT_BYTES):
            found: dict[str, Any] = msgspec.json.decode(data)
            return found
    return None
