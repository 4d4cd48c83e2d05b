"""What a killed netdiag had left, and what became of it: the document of ``netdiag clean``."""

from __future__ import annotations

import msgspec

SCHEMA = "netdiag/clean/1"


class Cleaned(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in one namespace.

    Attributes:
        namespace: ``host``, ``container:NAME``, ``overlay:NETWORK`` …
        removed: What was taken away or put back, or would be; one line each.
        living: Names of tables and devices that a running trace uses.
        error: Why the namespace could not be looked at; empty otherwise.
    """

    namespace: str
    removed: tuple[str, ...] = ()
    living: tuple[str, ...] = ()
    error: str = ""


class Clean(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``netdiag clean``.

    Attributes:
        plan: Nothing was done: ``removed`` says what would be.
        namespaces: Every namespace of the host; none where nf_tables, which alone keeps what could be left, does not run.
    """

    schema: str = SCHEMA
    plan: bool
    namespaces: tuple[Cleaned, ...]
