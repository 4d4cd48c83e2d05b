"""The words for what became of probes: who sends to whom, what each side saw."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from netdiag.checks.context import Context
from netdiag.checks.two_sided import Judged, label_of, names_of
from netdiag.model.report import Evidence, Subject
from netdiag.model.two_sided import PeerView, Way


def ends_of(ctx: Context, way: Way, views: Sequence[PeerView]) -> tuple[str, str]:
    """Who sends and who receives."""
    there = names_of(label_of(ctx, view) for view in views)
    return (ctx.host, there) if way is Way.THERE else (there, ctx.host)


def views_of(losses: Iterable[Judged]) -> list[PeerView]:
    """The peers that are meant, each once."""
    kept: dict[int, PeerView] = {id(each.view): each.view for each in losses}
    return list(kept.values())


def subject_of(ctx: Context, views: Sequence[PeerView]) -> Subject:
    """What a finding about several peers is about."""
    return Subject(host=ctx.host, peer=names_of(label_of(ctx, view) for view in views))


def labels_of(losses: Iterable[Judged]) -> str:
    """The ports, each once."""
    return ", ".join(dict.fromkeys(each.what for each in losses))


def direction_of(ctx: Context, way: Way, views: Sequence[PeerView]) -> str:
    """Who sends to whom."""
    there = names_of(label_of(ctx, view) for view in views)
    return f"from here to {there}" if way is Way.THERE else f"from {there} to here"


def seen_of(ctx: Context, losses: Sequence[Judged], most: int = 6) -> tuple[Evidence, ...]:
    """What both sides saw of the first of them."""
    kept = [
        Evidence(
            "probe", f"{each.label} {direction_of(ctx, each.probe.way, [each.view])}: {_counts(each)}", _data(each)
        )
        for each in losses[:most]
    ]
    return tuple(kept)


def _counts(each: Judged) -> str:
    probe = each.probe
    if probe.unsent:
        return probe.unsent
    if not probe.sent:
        return f"the kernel refused to send it ({probe.refused})"
    said = [f"sent {probe.sent}"] if probe.protocol != "tcp" else []
    said += [
        f"{word} {count}" for word, count in (("left", probe.left), ("arrived", probe.arrived)) if count is not None
    ]
    if probe.passed is not None:
        said.append(f"came through the filters {probe.passed}")
    if probe.protocol == "tcp":
        said += [
            f"{word} {count}"
            for word, count in (("answers left", probe.answers_left), ("answers arrived", probe.answers_arrived))
            if count is not None
        ]
    heard = probe.heard
    if heard.icmp is not None:
        said.append(f"ICMP type {heard.icmp.type} code {heard.icmp.code} from {heard.icmp.sender} came back")
    elif probe.expected or heard.kind != "nothing":
        said.append({"nothing": "nothing was heard", "reset": "a RST came back"}.get(heard.kind, heard.kind))
    if heard.rtt_us is not None and heard.kind in ("connected", "reply"):
        said.append(f"in {heard.rtt_us / 1000:.2f} ms")
    return ", ".join(said)


def _data(each: Judged) -> dict[str, object]:
    probe = each.probe
    return {
        "way": probe.way.value,
        "where": each.where.value,
        "left": probe.left,
        "arrived": probe.arrived,
        "passed": probe.passed,
        "heard": probe.heard.kind,
        "rtt_us": probe.heard.rtt_us,
    }


def state_of(ctx: Context, losses: Sequence[Judged]) -> tuple[Evidence, ...]:
    """That the filter keeps state, where that was seen."""
    stateful = next((each for each in losses if each.stateful), None)
    if stateful is None:
        return ()
    _, receiver = ends_of(ctx, stateful.probe.way, [stateful.view])
    text = (
        f"{stateful.label} came through after {receiver} had sent to the port that it came from: the filter keeps state"
    )
    return (Evidence("probe", text, {"stateful_side": receiver}),)
