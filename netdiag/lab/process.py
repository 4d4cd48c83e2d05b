"""Processes of this machine as the lab must know them: by id and start time, because ids are used again."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from netdiag.errors import LabError

MARK = "NETDIAG_LAB"
"""Environment variable that every process the lab starts carries; its value is the lab's name."""


class Process(msgspec.Struct, frozen=True):
    """One process, past or present."""

    pid: int
    started: int
    """Start time in clock ticks since boot (field 22 of /proc/PID/stat)."""

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process that has this id now; LabError if there is none."""
        started = _start_time(pid)
        if started is None:
            raise LabError(f"process {pid} has ended")
        return cls(pid, started)

    @property
    def alive(self) -> bool:
        """Whether it still runs (a zombie does not)."""
        return _start_time(self.pid) == self.started


def _start_time(pid: int) -> int | None:
    """Start time in ticks; None if the process is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command name, in brackets, may hold spaces and brackets itself.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def end(processes: Iterable[Process], timeout_s: float = 10.0, how: signal.Signals = signal.SIGKILL) -> None:
    """Signal processes and wait until all are gone.

    Raises:
        LabError: some still run after ``timeout_s`` seconds.
    """
    deadline = time.monotonic() + timeout_s
    with contextlib.ExitStack() as stack:
        waiting: dict[int, int] = {}
        for process in processes:
            try:
                descriptor = os.pidfd_open(process.pid)
            except ProcessLookupError:
                continue
            stack.callback(os.close, descriptor)
            # Only now is the id pinned: check that it is still the one that we mean.
            if process.alive:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, how)
                waiting[descriptor] = process.pid
        poller = select.poll()
        for descriptor in waiting:
            poller.register(descriptor, select.POLLIN)
        while waiting:
            left = deadline - time.monotonic()
            if left <= 0:
                raise LabError(f"process {', '.join(map(str, sorted(waiting.values())))} does not end")
            for descriptor, _ in poller.poll(left * 1000):
                poller.unregister(descriptor)
                del waiting[descriptor]


def marked() -> Iterator[tuple[Process, str]]:
    """Every running process that a lab started, with the lab's name."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:  # it ended, or belongs to someone else
            continue
        for variable in environment.split(b"\0"):
            if variable.startswith(f"{MARK}=".encode()):
                with contextlib.suppress(LabError):
                    yield Process.of(int(entry.name)), variable.partition(b"=")[2].decode(errors="replace")
                break


def until(condition: Callable[[], bool], timeout_s: float, what: str, every_s: float = 0.05) -> None:
    """Wait for a condition of which neither kernel nor engine gives notice.

    Raises:
        LabError: it did not come true within ``timeout_s`` seconds; the text says ``what`` was waited for.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {timeout_s:g} s")
        time.sleep(every_s)
