"""Whether the swarm's ports are free on this host, or who holds them."""

from __future__ import annotations

from collections.abc import Iterator

from netdiag.causes import cause
from netdiag.checks.context import Check, Context
from netdiag.model.engine import SwarmState
from netdiag.model.facts import HOST, Socket
from netdiag.model.found import Found
from netdiag.model.report import Confidence, Evidence, Need, Remedy, Risk
from netdiag.shell import shell_text
from netdiag.swarm.ports import Listener, Plane, Protocol, ports_of_swarm

_ENGINES = frozenset({"dockerd", "docker-daemon"})


def _free(ctx: Context) -> Iterator[Found]:
    check = "swarm.port.free"
    engine = ctx.facts.engine.value
    sockets = (ctx.facts.sockets.value or {}).get(HOST)
    if sockets is None:
        return
    if engine is not None and engine.swarm.state in (SwarmState.ACTIVE, SwarmState.PENDING):
        yield ctx.skip(check, "the swarm's ports are in use by this engine", "it is a member, or about to become one")
        return
    for use in ports_of_swarm(data_path_port=ctx.data_path_port):
        if use.port is None or use.protocol is Protocol.ESP:
            continue
        if use.listener is Listener.MANAGERS and not (ctx.options.manager_role or ctx.options.initialise):
            continue
        holders = [one for one in sockets if one.protocol.rstrip("6") == use.protocol.value and one.port == use.port]
        foreign = [one for one in holders if not (one.process in _ENGINES or _kernel_vxlan(ctx, one, use.plane))]
        if not foreign:
            yield ctx.ok(check, f"{use.label()} is free on this host")
            continue
        holder = foreign[0]
        if engine is None and not holder.process:
            yield ctx.unknown(
                check,
                f"whether {use.label()} is free: a socket has it whose process cannot be seen",
                "it may be the engine's own; run netdiag as root",
                leaves=(Need.JOIN,) if use.plane is Plane.CONTROL else use.needs,
            )
            continue
        who = f"{holder.process} (pid {holder.pid})" if holder.process else "a socket whose process cannot be seen"
        seen = Evidence(
            "socket", f"{use.label()} on {holder.address}: {who}", {"pid": holder.pid, "process": holder.process}
        )
        yield ctx.problem(
            check,
            f"{use.label()} is taken on this host by {who}",
            breaks=(Need.JOIN,) if use.plane is Plane.CONTROL else use.needs,
            evidence=[seen],
            cause=cause(
                "swarm.port-taken",
                host=ctx.host,
                object={
                    "kind": "socket",
                    "protocol": use.protocol.value,
                    "address": holder.address,
                    "port": use.port,
                    "process": holder.process,
                    "pid": holder.pid,
                },
                confidence=Confidence.PROVEN,
                explanation=f"The engine needs {use.label()} for {use.purpose}, and {who} has it.",
                evidence=(seen,),
                remedy=(
                    Remedy(
                        host=ctx.host,
                        summary=f"see what {who} is, and stop it or move it to another port",
                        commands=(shell_text(["ss", "-lpn", f"sport = :{use.port}"]),),
                        risk=Risk.NONE,
                    ),
                ),
            ),
        )


def _kernel_vxlan(ctx: Context, socket: Socket, plane: Plane) -> bool:
    # A VXLAN device's socket belongs to no process; devices are judged by their own check. Its inode is 0 or, where the
    # kernel made it as it makes a program's, a number that no process has open.
    if plane is not Plane.DATA or socket.process:
        return False
    ports = {link.vxlan.port for link in ctx.host_links() if link.vxlan is not None}
    return socket.inode == 0 or socket.port in ports


CHECKS = (
    Check(
        id="swarm.port.free",
        title="The swarm's ports are free here",
        explains=(
            "Every node listens on 7946 (tcp and udp) and on the data-path port (udp/4789); managers also on tcp/2377. The"
            " engine joins although 7946 is taken, and then nothing resolves."
        ),
        remedy="Stop the program that holds the port, or move it.",
        evaluate=_free,
        needs=("sockets",),
        leaves=(Need.NAMES, Need.TRAFFIC),
    ),
)
