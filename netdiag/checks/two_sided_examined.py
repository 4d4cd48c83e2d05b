"""With which peers something could be found out together, and what helps where it could not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from netdiag.checks.context import Check, Context
from netdiag.checks.two_sided import label_of, names_of, peers
from netdiag.checks.two_sided_words import ends_of
from netdiag.model.found import Found
from netdiag.model.report import Need, Step, Subject
from netdiag.model.two_sided import PeerView, Unmet, Way
from netdiag.shell import operand, shell_text

_CHECK = "two-sides.examined"


def _examined(ctx: Context) -> Iterator[Found]:
    views = ctx.observed.peers if ctx.observed is not None else ()
    twice = [view for view in views if view.unmet is Unmet.SAME_HOST]
    for view in twice:
        yield ctx.skip(_CHECK, f"what passes between this host and {view.given}", view.why_not)
    yield from _unmet(ctx, [view for view in views if view.why_not and view not in twice])
    met = peers(ctx)
    if met:
        yield ctx.ok(_CHECK, f"{len(met)} of {len(views) - len(twice)} peers were asked together with this host")
    yield from _unfinished(ctx, met)
    blind: dict[tuple[str, str], None] = {}
    for view in met:
        for who, text in ((ctx.host, view.blind_here), (label_of(ctx, view), view.blind_there)):
            if text:
                blind.setdefault((who, text))
    for who, text in blind:
        yield ctx.unknown(_CHECK, f"where on its way a packet is lost, as far as {who} would see it", text)


def _unmet(ctx: Context, views: Sequence[PeerView]) -> Iterator[Found]:
    why: dict[tuple[str, Unmet], list[PeerView]] = {}
    for view in views:
        why.setdefault((view.why_not, view.unmet or Unmet.UNREACHED), []).append(view)
    for (reason, kind), mine in why.items():
        given = [view.given for view in mine]
        yield ctx.unknown(
            _CHECK,
            f"what passes between this host and {names_of(given)}",
            reason,
            leaves=(Need.NAMES, Need.TRAFFIC),
            subject=Subject(host=ctx.host, peer=names_of(given)),
            next_steps=[_step(ctx, kind, mine[0])],
        )


def _step(ctx: Context, kind: Unmet, view: PeerView) -> Step:
    """What helps, by the kind of reason."""
    ssh = shell_text(["ssh", *operand(view.given), "true"])
    command, why = {
        Unmet.NO_ROUTE: (
            shell_text(["ip", "route", "get", view.address or view.given]),
            f"this host must have a way to {view.given}",
        ),
        Unmet.NO_WAY: ("", f"say how {view.given} is reached: --via {view.given}=ssh"),
        Unmet.UNNAMED: ("", f"name {view.given} by the address that this host sends to: ADDRESS=ssh:{view.given}"),
        Unmet.LATE: ("", f"ask {view.given} alone, with its own --via: many share the time, one has all of it"),
        Unmet.GONE: (ssh, f"is {view.given} still there? Then ask again"),
        Unmet.ODD: ("", f"what answers at {view.given} is not this version of netdiag, or is not itself: look at it"),
        Unmet.UNREAD: (ssh, "must give a Python that may read /proc and the kernel's tables"),
    }.get(kind, (ssh, "must work without a question (keys, known host)"))
    return Step(host=ctx.host, command=command, why=why)


def _unfinished(ctx: Context, met: Sequence[PeerView]) -> Iterator[Found]:
    unfinished: dict[tuple[Way, str], list[PeerView]] = {}
    for view in met:
        for each in view.unfinished:
            unfinished.setdefault(each, []).append(view)
    for (way, text), late in unfinished.items():
        source, target = ends_of(ctx, way, late)
        yield ctx.unknown(_CHECK, f"what would be asked again, and sizes, from {source} to {target}", text)


CHECK = Check(
    id=_CHECK,
    title="The peers were asked together with this host",
    explains="With --via a participant runs on each peer for as long as the command does; nothing is written there.",
    remedy="Make ssh to the peer work without a question, as root or with a sudo that asks nothing.",
    evaluate=_examined,
)
