"""What is remembered of running labs, in /run/netdiag-lab: enough for another process to use them or to sweep them.

One file a lab, written before the lab's first process starts. The directory itself is the lock, and disappears with
the last lab.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from netdiag.lab.process import Process
from netdiag.lab.topology import Topology

DIRECTORY = Path("/run/netdiag-lab")
MOUNT_POINT = DIRECTORY / "root"
"""Every host builds its root on this directory, in its own mount namespace; outside it stays empty."""


class StepKind(enum.Enum):
    """What a step of undoing does."""

    RUN = "run"
    START_ENGINE = "start-engine"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of undoing a fault, in one host."""

    host: str
    kind: StepKind = StepKind.RUN
    argv: tuple[str, ...] = ()
    stdin: str = ""
    only_if: tuple[str, ...] = ()
    """A command that fails if there is nothing left to undo."""


class ActiveFault(msgspec.Struct, frozen=True, kw_only=True):
    """A fault that was injected and how it is undone."""

    number: int
    """Its handle for ``lab heal``; counts from 1 in each lab."""
    fault: str
    parameters: dict[str, str]
    undo: tuple[Step, ...]
    """In the order in which they are run."""

    def __str__(self) -> str:
        return " ".join([self.fault, *(f"{key}={value}" for key, value in self.parameters.items())])


class LabState(msgspec.Struct, frozen=True, kw_only=True):
    """One lab as its file holds it."""

    name: str
    topology: Topology
    owner: Process | None
    """The process whose end is the lab's; None for a lab that stays until ``lab down``."""
    hosts: dict[str, Process] = {}
    """The init of each host and of the fabric, by name in the lab."""
    complete: bool = False
    """False while ``lab up`` is at work."""
    faults: tuple[ActiveFault, ...] = ()

    @property
    def orphaned(self) -> bool:
        """Whether its owner has ended without taking it down."""
        return self.owner is not None and not self.owner.alive


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Hold the lock on all labs of this machine; short work only."""
    descriptor = _lock()
    try:
        yield
    finally:
        if not any(DIRECTORY.glob("*.json")):
            with contextlib.suppress(OSError):
                MOUNT_POINT.rmdir()
                DIRECTORY.rmdir()
        os.close(descriptor)


def _lock() -> int:
    """A descriptor of the directory, locked."""
    while True:
        MOUNT_POINT.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(DIRECTORY, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            # Not the same directory if the last lab went while we waited.
            if os.path.samestat(os.fstat(descriptor), DIRECTORY.stat()) and MOUNT_POINT.is_dir():
                return descriptor
        os.close(descriptor)


def save(state: LabState) -> None:
    """Write a lab's file, at once and whole."""
    path = DIRECTORY / f"{state.name}.json"
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(state)))
    fresh.rename(path)


def load(name: str) -> LabState | None:
    """A lab's file; None if there is no such lab, or it is of another version (then only a sweep can end it)."""
    try:
        return msgspec.json.decode((DIRECTORY / f"{name}.json").read_bytes(), type=LabState)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def load_all() -> list[LabState]:
    """Every lab of this machine, by name."""
    return [state for path in sorted(DIRECTORY.glob("*.json")) if (state := load(path.stem)) is not None]


class _Claim(msgspec.Struct, frozen=True):
    """What every version of the file has."""

    owner: Process | None = None


def claimed() -> set[str]:
    """Names of the labs that somebody still wants, those of another version of netdiag included."""
    names = set()
    for path in DIRECTORY.glob("*.json"):
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            owner = msgspec.json.decode(path.read_bytes(), type=_Claim).owner
            if owner is None or owner.alive:
                names.add(path.stem)
    return names


def forget(name: str) -> None:
    """Remove a lab's file."""
    for suffix in (".json", ".new"):
        (DIRECTORY / f"{name}{suffix}").unlink(missing_ok=True)
