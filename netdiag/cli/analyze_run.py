"""The run of ``netdiag analyze``: which checks a bundle's purpose asks for, and those of two hosts side by side."""

from __future__ import annotations

import datetime as dt

import msgspec

from netdiag.checks.context import Context, Options, Peer
from netdiag.checks.pair_hosts import same_host
from netdiag.checks.registry import PAIR, PREFLIGHT, VERIFY, run
from netdiag.cli.preflight_run import repeat_preflight
from netdiag.errors import UsageError
from netdiag.facts.assemble import replay
from netdiag.facts.bundle import Bundle
from netdiag.model.engine import SwarmState
from netdiag.model.report import Need, Report
from netdiag.report.assemble import build_report


def analyze_bundle(bundle: Bundle) -> Report:
    """The report of one bundle: a preflight's as it was, else what the facts alone tell.

    Raises:
        BundleError: The bundle lacks what its own purpose needs.
    """
    if bundle.purpose == "preflight swarm":
        return repeat_preflight(bundle)
    facts = replay(bundle)
    engine = facts.engine.value
    member = engine is not None and engine.swarm.state is SwarmState.ACTIVE
    ctx = Context(facts=facts, options=Options(need=Need.TRAFFIC if member else Need.JOIN, probed=False))
    return build_report(
        command=f"analyze ({bundle.purpose})",
        host=ctx.host,
        started=_rfc3339(bundle.created_s),
        duration_s=round(facts.duration_s, 3),
        found=run(VERIFY if member else PREFLIGHT, ctx),
        answers_for=(Need.JOIN, Need.NAMES) if member else (Need.JOIN,),
    )


def analyze_pair(mine: Bundle, theirs: Bundle, *, names: tuple[str, str], now_s: float) -> Report:
    """The report of two hosts, from what was recorded of each; at most *likely*, for nothing was sent between them.

    Args:
        mine: The operator's own host.
        theirs: The other.
        names: What the operator called the two files.
        now_s: Unix time of this machine: what was recorded is older.

    Raises:
        UsageError: Both are of one host.
    """
    here, there = (_recorded(bundle) for bundle in (mine, theirs))
    if same_host(here, there):
        raise UsageError(f"{names[0]} and {names[1]} are both of {here.host}; give one record of each host")
    if here.host == there.host:
        here, there = (msgspec.structs.replace(one, called=_with_address(one)) for one in (here, there))
    if here.host == there.host:
        here, there = (
            msgspec.structs.replace(one, called=f"{one.host} ({name})")
            for one, name in zip((here, there), names, strict=True)
        )
    peer = Peer(context=there, read_s=now_s, asked_s=_asked_s(theirs, here))
    return build_report(
        command=f"analyze {names[0]} {names[1]}",
        host=here.host,
        started=_rfc3339(now_s),
        duration_s=0.0,
        found=run(PAIR, msgspec.structs.replace(here, peer=peer)),
    )


def _recorded(bundle: Bundle) -> Context:
    # Whatever of the swarm's traffic is stopped makes the pair's question a no.
    return Context(facts=replay(bundle), options=Options(need=Need.TRAFFIC, probed=False))


def _with_address(ctx: Context) -> str:
    address = next(iter(ctx.own_addresses()), "")
    return f"{ctx.host} ({address})" if address and address not in ctx.host else ctx.host


def _asked_s(theirs: Bundle, here: Context) -> float | None:
    """When the first host made the script that gave the other's record; None if it was another that made it."""
    made_s, made_on = theirs.arguments.get("made_s"), theirs.arguments.get("made_on")
    identity = here.facts.identity.value
    mine = identity is not None and made_on == identity.hostname
    return float(made_s) if mine and isinstance(made_s, int | float) else None


def _rfc3339(unix_s: float) -> str:
    return dt.datetime.fromtimestamp(unix_s, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
