"""Engine versions in all the spellings that engines and distributions give them."""

from __future__ import annotations

import re
from typing import Final

import msgspec

_PATTERN: Final = re.compile(
    r"""
    (?:\d+:)?                               # epoch of a Debian package
    v?(?P<major>\d{1,4})\.(?P<minor>\d{1,4})(?:\.(?P<patch>\d{1,6}))?
    (?![.\d])
    (?:[-~.]?(?P<stage>alpha|beta|tp|rc|dev)[-~.]?(?P<number>\d*))?
    """,
    re.VERBOSE,
)
_STAGES: Final = {"dev": 0, "alpha": 1, "tp": 1, "beta": 2, "rc": 3}
_RELEASED: Final = 4


class EngineVersion(msgspec.Struct, frozen=True, order=True):
    """A version of the engine; pre-releases come before their release, packaging suffixes do not count.

    Attributes:
        stage: 4 for a release; below that dev, alpha, beta and release candidates, in this order.
        stage_number: Which of the pre-releases of its stage.
    """

    major: int
    minor: int
    patch: int = 0
    stage: int = _RELEASED
    stage_number: int = 0

    def __str__(self) -> str:
        text = f"{self.major}.{self.minor}.{self.patch}"
        if self.stage == _RELEASED:
            return text
        name = next(name for name, stage in _STAGES.items() if stage == self.stage)
        return f"{text}-{name}{self.stage_number or ''}"

    def release(self) -> EngineVersion:
        """The release that a pre-release leads to; the version itself otherwise."""
        return EngineVersion(self.major, self.minor, self.patch)


def parse_engine_version(text: str) -> EngineVersion | None:
    """Read what ``Version`` of an engine's API says; None when it is no version (a development build, for example).

    Known spellings: ``1.12.6``, ``17.06.2-ce``, ``20.10.24+dfsg1``, ``5:28.2.2-1~debian.12~bookworm``, ``28.2.2~1``,
    ``29.0.0-rc.1``.
    """
    found = _PATTERN.match(text.strip())
    if found is None:
        return None
    major, minor, patch = int(found["major"]), int(found["minor"]), int(found["patch"] or 0)
    if (major, minor, patch) == (0, 0, 0):
        return None  # what an unversioned build of moby calls itself
    if found["stage"] is None:
        return EngineVersion(major, minor, patch)
    return EngineVersion(major, minor, patch, _STAGES[found["stage"]], int(found["number"] or 0))
