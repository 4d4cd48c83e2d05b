"""The control groups that engines of a lab make, in either version of the hierarchy."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from netdiag.lab.process import until

PREFIX = "netdiag-lab-"
_TOP = Path("/sys/fs/cgroup")


def group_name(lab: str, host: str) -> str:
    """Name of the group that holds a host's containers; a dot keeps lab ``a-b`` apart from host ``b`` of lab ``a``."""
    return f"{PREFIX}{lab}.{host}"


def lab_groups(lab: str | None = None) -> list[Path]:
    """Every group of a lab's hosts (of all labs if None), one for each controller that has its own hierarchy."""
    pattern = f"{PREFIX}{lab}.*" if lab is not None else f"{PREFIX}*"
    return sorted({*_TOP.glob(pattern), *_TOP.glob(f"*/{pattern}")})


def lab_of(group: Path) -> str:
    """The name of the lab that a group belongs to."""
    return group.name.removeprefix(PREFIX).partition(".")[0]


def remove(group: Path, timeout_s: float = 5.0) -> None:
    """Remove a group and those below it; its processes must have been killed.

    Raises:
        LabError: the kernel keeps it for longer than ``timeout_s`` seconds.
    """

    def gone() -> bool:
        for directory, _, _ in os.walk(group, topdown=False):
            # Busy for a moment after the last process died; version 1 gives no notice of it.
            with contextlib.suppress(OSError):
                Path(directory).rmdir()
        return not group.exists()

    until(gone, timeout_s, f"removing {group}", every_s=0.01)
