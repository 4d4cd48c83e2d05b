"""What a command would do, before it does it: sent, armed and changed, where and for how long."""

from __future__ import annotations

import msgspec

SCHEMA = "netdiag/plan/1"


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that would be done."""

    where: str
    what: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A whole plan. ``lasts_s`` is the longest that anything of it stays."""

    schema: str = SCHEMA
    command: str
    sends: tuple[Planned, ...]
    arms: tuple[Planned, ...]
    changes: tuple[Planned, ...] = ()
    lasts_s: float
