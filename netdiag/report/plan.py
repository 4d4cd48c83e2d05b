"""The plan of an examination from both sides, and a plan for people."""

from __future__ import annotations

from netdiag.model.plan import Plan, Planned
from netdiag.swarm.ports import Plane, PortUse, Protocol, ports_of_swarm


def two_sided_plan(
    command: str, *, here: str, peers: tuple[str, ...], data_path_port: int | None, manager: bool, lasts_s: float
) -> Plan:
    """The plan of an examination between this host and its peers; ``data_path_port`` is None where engines say it."""
    uses = ports_of_swarm(data_path_port=data_path_port or 0, encrypted=True)
    there = ", ".join(peers) if peers else "every peer of the manager's node list"
    inward = [use for use in uses if manager or use.port is None or use.needs != uses[0].needs]
    sends = [
        Planned(where=f"{there} → {here}", what=_probes(inward, known=data_path_port is not None)),
        Planned(where=f"{here} → {there}", what=_probes(list(uses), known=data_path_port is not None)),
        Planned(
            where="both ways",
            what="what does not come through: 5 times more from other ports, 3 datagrams again after the other side has"
            " sent one, sizes with DF until the largest is known (at most 3 times 24 of a kind), one connection attempt"
            " to tcp/22 where nothing arrives at all",
        ),
        Planned(
            where="where a probe is lost at a host",
            what="one packet like it, traced through that host's filters and taken away behind them",
        ),
    ]
    arms = [
        Planned(where=there, what="a participant over ssh (Python 3.6 or newer), in memory; nothing is written"),
        Planned(
            where=f"{here} and {there}",
            what="a packet socket on all devices, that takes only headers of these probes; the ports above,"
            " held where they are free and the host has not joined a swarm; where a program holds one, and on a member, an nft table netdiag-… that takes the probes away"
            " behind all filters, so that no program gets them (connection attempts apart). All of it ends with its"
            " process",
        ),
    ]
    return Plan(command=command, sends=tuple(sends), arms=tuple(arms), lasts_s=lasts_s)


def _probes(uses: list[PortUse], *, known: bool) -> str:
    parts = ["2 pings"]
    for use in uses:
        where = use.label()
        if use.plane is Plane.DATA and use.port is not None and not known:
            where += ", or the data-path port that an engine names,"
        if use.protocol is Protocol.TCP:
            parts.append(f"a connection attempt to {where}")
        elif use.port is None:
            parts.append(f"where an engine has an encrypted network, 2 packets of {where}")
        elif use.plane is Plane.DATA:
            parts.append(f"2 datagrams to {where}")
            parts.append("2 to the same with a VXLAN header, and 2 of each size with DF")
        else:
            parts.append(f"2 datagrams to {where}")
    return "; ".join(part.rstrip(",") for part in parts)


def plan_lines(plan: Plan) -> list[str]:
    """A plan for people."""
    lines = [f"{plan.command} would do this; nothing is done now.", "", "SENT"]
    lines += [f"  {one.where}\n    {one.what}" for one in plan.sends]
    lines += ["", f"ARMED, for {plan.lasts_s:g} s at most"]
    lines += [f"  {one.where}\n    {one.what}" for one in plan.arms]
    lines += ["", "CHANGED"]
    lines += [f"  {one.where}: {one.what}" for one in plan.changes] or ["  nothing"]
    return lines
