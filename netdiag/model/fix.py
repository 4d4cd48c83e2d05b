"""The least rule that lets one packet through, as commands that can be run, pasted and taken back."""

from __future__ import annotations

import msgspec

from netdiag.model.proof import Proof
from netdiag.model.report import Risk
from netdiag.model.trace import Trace, TracedPacket

SCHEMA = "netdiag/allow/1"
WITHIN_S = (5, 600)
"""For how long a change may wait to be confirmed, at least and at most."""
HANDLE = "HANDLE"
"""Stands in a command's words for a handle that the kernel has yet to give; see `Command.comment`."""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """One command.

    Attributes:
        argv: Its words; no shell is needed to run it.
        text: The same as it is pasted into a shell.
        comment: Where a word is `HANDLE`: the comment of the nft rule whose handle is meant.
    """

    argv: tuple[str, ...]
    text: str
    comment: str = ""


class Fix(msgspec.Struct, frozen=True, kw_only=True):
    """A change that lets the packet through, and nothing else.

    Attributes:
        host: Where to run it.
        place: Where the rule goes, in a few words.
        covers: Which packets it lets through.
        commands: In their order.
        undo: One for each of ``commands``, in the same order; they are run backwards.
        permanent: Commands that keep it over a reload and a reboot, for what can be kept by a command of its owner's.
        persist: How to keep it, as text to paste; lines that begin with ``#`` are for people.
        notes: What else an operator should know before.
    """

    host: str
    summary: str
    place: str
    covers: str
    commands: tuple[Command, ...]
    undo: tuple[Command, ...]
    permanent: tuple[Command, ...] = ()
    persist: tuple[str, ...] = ()
    risk: Risk = Risk.LOW
    notes: tuple[str, ...] = ()


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """A fix, or why there is none."""

    fix: Fix | None = None
    reason: str = ""


class Allow(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``netdiag firewall allow``.

    Attributes:
        before: What became of the packet before anything was changed.
        reason: Why no rule is proposed, or what went wrong with it; empty otherwise.
        applied: Whether the rule was put in, if only for a while.
        after: What became of the packet with the rule in place; None where it was not applied.
        kept: Whether the rule is in place now.
        proof: What the rule does, tried out before it is made; None where that was not asked for, or no rule is proposed.
    """

    schema: str = SCHEMA
    packet: TracedPacket
    before: Trace
    fix: Fix | None
    reason: str = ""
    applied: bool = False
    after: Trace | None = None
    kept: bool = False
    proof: Proof | None = None
