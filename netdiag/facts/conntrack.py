"""Totals of the connection-tracking table, from /proc: opening a conntrack socket could load modules."""

from __future__ import annotations

from collections.abc import Sequence

from netdiag.facts.context import Context, absence, each_namespace, missing, texts, within
from netdiag.facts.counters import stat_table
from netdiag.model.facts import Absence, Conntrack, Namespace, Section
from netdiag.model.wire import Answer, Gather, Request

_COUNT = "/proc/sys/net/netfilter/nf_conntrack_count"
_MAXIMUM = "/proc/sys/net/netfilter/nf_conntrack_max"
_STATISTICS = "/proc/net/stat/nf_conntrack"


def gather_conntrack(context: Context) -> Gather[Section[dict[str, Conntrack]]]:
    """How full the table is and what it dropped, per namespace."""

    def ask(namespace: Namespace) -> list[Request]:
        return [Request("files", within(namespace, {"globs": [_COUNT, _MAXIMUM, _STATISTICS]}), 2.0)]

    def read(_namespace: Namespace, answers: Sequence[Answer]) -> tuple[Conntrack | None, Absence | None]:
        if answers[0].data is None:
            return None, absence(answers[0])
        found = texts(answers[0])
        if not found:
            return None, missing("read /proc/sys/net/netfilter: connection tracking is not in use")
        totals = stat_table(found.get(_STATISTICS, ""))
        return Conntrack(
            count=_number(found.get(_COUNT)),
            maximum=_number(found.get(_MAXIMUM)),
            insert_failed=totals.get("insert_failed"),
            dropped=totals.get("drop"),
            early_drop=totals.get("early_drop"),
        ), None

    return each_namespace(context, ask, read)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.strip().isdigit() else None
