"""All checks, and how they are run over one host's context.

A new check is a `Check` in one of the modules below; a new module is one more row in `PREFLIGHT` or `VERIFY`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from netdiag.checks import (
    address,
    devices,
    engine,
    firewall,
    gossip,
    images,
    kernel,
    manager,
    membership,
    mtu,
    pair_firewall,
    pair_hosts,
    pair_network,
    pair_swarm,
    pools,
    ports,
    role,
    token,
    two_sided_hosts,
    two_sided_paths,
    verify,
    workload,
)
from netdiag.checks.context import Check, Context
from netdiag.model.found import Found
from netdiag.model.report import Answer, Need, State

PREFLIGHT: tuple[Check, ...] = (
    *engine.CHECKS,
    *membership.CHECKS,
    *token.CHECKS,
    *manager.CHECKS,
    *two_sided_paths.CHECKS,
    *two_sided_hosts.CHECKS,
    *mtu.CHECKS,
    *address.CHECKS,
    *firewall.CHECKS,
    *ports.CHECKS,
    *pools.CHECKS,
    *kernel.CHECKS,
    *devices.CHECKS,
    *images.CHECKS,
    *role.CHECKS,
)
"""What decides whether a host will join, in the order in which causes are told."""

VERIFY: tuple[Check, ...] = (
    next(check for check in engine.CHECKS if check.id == "swarm.engine.reachable"),
    *verify.CHECKS,
    *two_sided_paths.CHECKS,
    *two_sided_hosts.CHECKS,
    *gossip.CHECKS,
    *workload.CHECKS,
    *firewall.CHECKS,
    *pools.CHECKS,
    *kernel.CHECKS,
    *devices.CHECKS,
)
"""What is asked of a host that has joined."""

PAIR: tuple[Check, ...] = (
    *pair_firewall.CHECKS,
    *pair_hosts.CHECKS,
    *pair_network.CHECKS,
    *pair_swarm.CHECKS,
)
"""What is asked of two hosts side by side, from what was recorded of each (`Context.peer`)."""

CHECKS: Mapping[str, Check] = {check.id: check for check in (*PREFLIGHT, *VERIFY, *PAIR)}

_TOLD_ONCE = {"engine": "the engine could not be asked", "firewall": "this host's firewall could not be read"}
"""Sections whose absence has a check of its own, which says why and what stays open."""


def run(checks: Iterable[Check], ctx: Context, *, ignored: Iterable[str] = ()) -> tuple[Found, ...]:
    """Run checks over a context; never stops at the first failure.

    Args:
        ignored: Ids whose *fail* is lowered to *warn* and says so.
    """
    left_out = frozenset(ignored)
    found: list[Found] = []
    for check in checks:
        found += [_lowered(one) if check.id in left_out else one for one in _evaluated(check, ctx)]
    return tuple(found)


def _evaluated(check: Check, ctx: Context) -> Iterator[Found]:
    missing = tuple(_without(check, ctx))
    yield from missing
    if missing:
        return
    try:
        yield from check.evaluate(ctx)
    except Exception as error:  # noqa: BLE001 - a fault in one check must not cost the operator the others
        yield ctx.unknown(
            check.id,
            f"{check.title}: not known",
            f"the check itself failed on these facts ({type(error).__name__}: {error}); please report it",
            leaves=tuple(Need),
        )


def _without(check: Check, ctx: Context) -> Iterator[Found]:
    """What a check has to say where a section that it needs is absent, on this host or on the other of a pair."""
    for name in check.needs:
        for side in (ctx,) if ctx.peer is None else (ctx, ctx.peer.context):
            section = getattr(side.facts, name)
            if section.value is not None:
                continue
            told = _TOLD_ONCE.get(name) if ctx.peer is None else None
            if told is not None:
                yield ctx.skip(check.id, f"{check.title}: not known", told)
            else:
                why = section.absent.text if section.absent is not None else "not collected"
                yield side.unknown(check.id, f"{check.title}: not known", f"{name}: {why}", leaves=check.leaves)
            return


def _lowered(found: Found) -> Found:
    if found.state is not State.FAIL:
        return found
    return msgspec.structs.replace(
        found,
        state=State.WARN,
        summary=f"{found.summary} (ignored, as asked)",
        answers={need: answer for need, answer in found.answers.items() if answer is not Answer.NO},
    )
