"""What passes between the nodes of a swarm that this host has joined: gossip as it is seen, and the data path."""

from __future__ import annotations

from collections.abc import Iterator

from netdiag.causes import cause
from netdiag.checks.context import Check, Context, host_of, same_address
from netdiag.checks.two_sided import peers as examined_peers
from netdiag.checks.verify import address_of
from netdiag.model.engine import Engine, SwarmState
from netdiag.model.found import Found
from netdiag.model.report import Confidence, Evidence, Need, Step, Subject
from netdiag.shell import shell_text

SETTLING_S = 60.0
"""How long gossip may take to know a new node: it rejoins its first contact every 60 s (moby libnetwork networkdb)."""


def _expected(engine: Engine) -> dict[str, str]:
    """Who must be among the peers of the ingress network: address and name; a worker knows the managers only."""
    if engine.cluster is not None:
        rows = [
            (address_of(node), node.hostname or node.id, node.id)
            for node in engine.cluster.nodes
            if node.state == "ready"
        ]
        found = {address: name for address, name, node_id in rows if address and node_id != engine.swarm.node_id}
    else:
        found = {host_of(manager): "the manager" for manager in engine.swarm.remote_managers}
    found.pop(engine.swarm.node_address, None)
    return found


def _newcomers(ctx: Context, engine: Engine) -> set[str]:
    """Addresses of nodes that are in the swarm for less time than gossip may take."""
    rows = engine.cluster.nodes if engine.cluster is not None else ()
    return {address_of(node) for node in rows if node.created_s is not None and ctx.now_s - node.created_s < SETTLING_S}


def _gossip(ctx: Context) -> Iterator[Found]:
    check = "swarm.verify.peers"
    engine = ctx.facts.engine.value
    if engine is None or engine.swarm.state is not SwarmState.ACTIVE:
        return
    expected = _expected(engine)
    # Ingress reaches every node; other networks only nodes that run a task on them.
    ingress = next((one for one in engine.networks if one.driver == "overlay" and one.ingress and one.peers), None)
    if not expected:
        return
    if ingress is None:
        yield ctx.unknown(
            check,
            "whether gossip knows the other nodes",
            "the engine shows no peers of the ingress network",
            leaves=(Need.NAMES,),
        )
        return
    peers = {peer.address for peer in ingress.peers}
    missing = {address: name for address, name in expected.items() if address not in peers}
    strangers = peers - set(expected) - {engine.swarm.node_address}
    if missing and len(strangers) >= len(missing):
        yield ctx.unknown(
            check,
            f"whether gossip on {ingress.name} knows {', '.join(f'{name} ({address})' for address, name in missing.items())}",
            f"it knows peers at addresses that the node list does not show: {', '.join(sorted(strangers))}",
            leaves=(Need.NAMES,),
        )
        return
    fresh = {address: missing.pop(address) for address in list(missing) if address in _newcomers(ctx, engine)}
    if fresh:
        yield ctx.unknown(
            check,
            f"whether gossip on {ingress.name} reaches {', '.join(f'{name} ({address})' for address, name in fresh.items())}",
            f"it joined less than {SETTLING_S:.0f} s ago, and gossip takes a while; ask again",
            leaves=(Need.NAMES,),
        )
    for address, name in missing.items():
        yield ctx.problem(
            check,
            f"gossip on {ingress.name} does not know {name} ({address}), which is Ready",
            breaks=(Need.NAMES, Need.TRAFFIC),
            subject=Subject(host=ctx.host, peer=address, network=ingress.name),
            evidence=[
                Evidence("engine", f"peers of {ingress.name}: {', '.join(sorted(peers))}", {"peers": sorted(peers)})
            ],
            cause=cause(
                "swarm.gossip",
                host=None,
                object={"kind": "segment", "from": ctx.host, "to": address, "protocol": "tcp, udp", "port": 7946},
                confidence=Confidence.LIKELY,
            ),
            next_steps=[
                Step(
                    host=address,
                    command=shell_text(["netdiag", "verify", "swarm", "--peer", engine.swarm.node_address]),
                    why="says whether that host's filters let 7946 in from here",
                )
            ],
        )
    if not missing and not fresh:
        yield ctx.ok(check, f"gossip on {ingress.name} knows {len(expected)} other nodes, all that are known here")


def _data(ctx: Context) -> Iterator[Found]:
    check = "swarm.verify.data"
    engine = ctx.facts.engine.value
    # Who asks for a peer asks what this side does with that peer's packets; the filters' checks say that.
    if engine is None or engine.swarm.state is not SwarmState.ACTIVE or ctx.options.peers:
        return
    examined = [view.address for view in examined_peers(ctx)]
    others = [address for address in _expected(engine) if not any(same_address(address, one) for one in examined)]
    if not others:
        return
    yield ctx.unknown(
        check,
        f"whether udp/{ctx.data_path_port} passes between this host and {', '.join(others[:5])}"
        + (f" and {len(others) - 5} more" if len(others) > 5 else ""),
        "VXLAN answers nothing, so one side alone cannot tell",
        leaves=(Need.TRAFFIC,),
        next_steps=[
            Step(
                host=address,
                command=shell_text(["netdiag", "verify", "swarm", "--peer", engine.swarm.node_address]),
                why=f"says whether that host's filters let udp/{ctx.data_path_port} in from here",
            )
            for address in others[:5]
        ],
    )


CHECKS = (
    Check(
        id="swarm.verify.peers",
        title="Gossip knows every node",
        explains=(
            "The peers of the ingress network, as gossip (7946) knows them here, against the list of Ready nodes; on a"
            " worker, which has no such list, against the managers that it knows."
        ),
        remedy="Let tcp and udp 7946 pass between all nodes.",
        evaluate=_gossip,
        needs=("engine",),
    ),
    Check(
        id="swarm.verify.data",
        title="The data path passes",
        explains=(
            "A member shows Ready, resolves names and may nevertheless exchange nothing: VXLAN (udp/4789) is answered by"
            " nobody, so it takes the other side to tell."
        ),
        remedy="Run the command in 'next' on the other hosts.",
        evaluate=_data,
        needs=("engine",),
    ),
)
