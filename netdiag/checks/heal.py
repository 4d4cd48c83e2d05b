"""What lets a flow through that a rule of this host stops: planned from the trace, else from the rule alone."""

from __future__ import annotations

from netdiag.checks.context import Context
from netdiag.firewall.allow import plan
from netdiag.firewall.around import Around
from netdiag.firewall.remedy import accept_before
from netdiag.model.firewall import Direction, FirewallRule, Packet
from netdiag.model.report import Remedy
from netdiag.model.trace import Trace


def remedy_for(ctx: Context, rule: FirewallRule, packet: Packet, trace: Trace | None) -> tuple[Remedy, ...]:
    """The least change for one flow; none where nothing should be opened (a policy's verdict, a ban's by its program).

    Args:
        ctx: The host's facts.
        rule: What stops the flow.
        packet: Its first packet.
        trace: The trace that named the rule; None where it was only read.
    """
    identity, saved = ctx.facts.identity.value, ctx.facts.firewall_saved.value
    if trace is None:
        remedy = accept_before(
            rule,
            packet,
            host=ctx.host,
            rule_sets=ctx.rule_sets(),
            identity=identity,
            saved=saved,
            both_backends=ctx.both_backends(),
        )
        return (remedy,)
    other = packet.source if packet.direction is Direction.IN else packet.destination
    around = Around(
        host=ctx.host,
        rule_sets=ctx.rule_sets(),
        identity=identity,
        saved=saved,
        rule_id="-".join((other, packet.protocol, str(packet.destination_port or ""))),
    )
    fix = plan(trace, around).fix
    if fix is None:
        return ()
    return (
        Remedy(
            host=fix.host,
            summary=fix.summary,
            commands=tuple(command.text for command in fix.commands),
            undo=tuple(command.text for command in reversed(fix.undo)),
            persist=fix.persist,
            risk=fix.risk,
        ),
    )
