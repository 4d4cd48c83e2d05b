"""Two engines side by side: one swarm, versions that go together, one image behind each tag; and what no record tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from netdiag.causes import cause
from netdiag.checks.commands import carry_over
from netdiag.checks.context import Check, Context, host_of
from netdiag.checks.pair_ends import control_port, is_manager, pair_of
from netdiag.model.engine import Engine, Image, SwarmState
from netdiag.model.found import Found
from netdiag.model.report import Confidence, Evidence, Need, Remedy, Risk, Step, Subject
from netdiag.shell import shell_text
from netdiag.swarm.engine_rules import ConflictKind, conflicts
from netdiag.swarm.ports import GOSSIP_PORT

_TOLD_IMAGES = 20
_EVERYTHING = (Need.JOIN, Need.NAMES, Need.TRAFFIC)


def _engines(ctx: Context) -> tuple[Context, Engine, Context, Engine] | None:
    """Both hosts with their engines; None where one is not known, which a check's ``needs`` has said."""
    if ctx.peer is None:
        return None
    there = ctx.peer.context
    one, two = ctx.facts.engine.value, there.facts.engine.value
    return (ctx, one, there, two) if one is not None and two is not None else None


# --- membership ------------------------------------------------------------------------------------------------------


def _membership(ctx: Context) -> Iterator[Found]:
    check = "pair.membership"
    both = _engines(ctx)
    if both is None:
        return
    here, one, there, two = both
    subject = Subject(host=here.host, peer=there.host)
    waiting = [(who, engine) for who, engine in ((here, one), (there, two)) if engine.swarm.state not in _SETTLED]
    for who, engine in waiting:
        yield who.problem(
            check,
            f"{who.host} is neither in nor out of a swarm: its state is {engine.swarm.state.value}",
            breaks=(Need.JOIN,),
            subject=Subject(host=who.host, peer=(there if who is here else here).host),
            evidence=[
                Evidence("engine", f"docker info: Swarm: {engine.swarm.state.value} {engine.swarm.error}".strip())
            ],
        )
    if waiting:
        return
    members = [who for who, engine in ((here, one), (there, two)) if engine.swarm.state is SwarmState.ACTIVE]
    if not members:
        yield ctx.ok(check, "neither host is in a swarm", subject=subject)
    elif len(members) == 1:
        other = there if members[0] is here else here
        yield ctx.ok(
            check, f"{members[0].host} is in a swarm, and {other.host} is in none: it may join", subject=subject
        )
    else:
        yield _of_one_swarm(ctx, check, both, subject)


_SETTLED = frozenset({SwarmState.ACTIVE, SwarmState.INACTIVE})


def _of_one_swarm(ctx: Context, check: str, both: tuple[Context, Engine, Context, Engine], subject: Subject) -> Found:
    here, one, there, two = both
    if one.swarm.cluster_id and two.swarm.cluster_id:
        if one.swarm.cluster_id == two.swarm.cluster_id:
            return ctx.ok(check, "both are managers of one swarm", subject=subject)
        return _two_swarms(ctx, check, there, two, f"{one.swarm.cluster_id} and {two.swarm.cluster_id}", subject)
    for manager, member, who, by in ((one, two, there, here), (two, one, here, there)):
        if not manager.swarm.is_manager or manager.cluster is None:
            continue
        node = next((row for row in manager.cluster.nodes if row.id == member.swarm.node_id), None)
        if node is None:
            why = f"{by.host}'s list of nodes has no {member.swarm.node_id}, which is the node of {who.host}"
            return _two_swarms(ctx, check, who, member, why, subject)
        if node.state != "ready":
            return ctx.problem(
                check,
                f"both are in one swarm, and its manager says that {who.host} is {node.state}"
                + (f": {node.message}" if node.message else ""),
                subject=subject,
            )
        return ctx.ok(check, f"both are in one swarm, and its manager says that {who.host} is ready", subject=subject)
    known = [{host_of(manager) for manager in engine.swarm.remote_managers} for engine in (one, two)]
    if known[0] & known[1]:
        return ctx.ok(check, "both are in one swarm: they know the same managers", subject=subject)
    return ctx.unknown(
        check,
        "whether the two are in one swarm",
        "neither is a manager whose list of nodes is known, and they know no manager in common",
        leaves=(Need.JOIN,),
        subject=subject,
        next_steps=[
            Step(
                host="a manager", command="docker node ls", why=f"shows whether {here.host} and {there.host} are in it"
            )
        ],
    )


def _two_swarms(ctx: Context, check: str, who: Context, engine: Engine, why: str, subject: Subject) -> Found:
    seen = Evidence("engine", why, {"node_id": engine.swarm.node_id})
    demote = (
        (shell_text(["docker", "node", "demote", engine.swarm.node_id]),) if (engine.swarm.managers or 0) > 1 else ()
    )
    return ctx.problem(
        check,
        "the two hosts are in different swarms",
        breaks=_EVERYTHING,
        subject=subject,
        evidence=[seen],
        cause=cause(
            "swarm.already-member",
            host=who.host,
            object={"kind": "engine", "state": engine.swarm.state.value, "node_id": engine.swarm.node_id},
            confidence=Confidence.LIKELY,
            explanation=f"Each is a member of a swarm of its own: {why}. Their networks and names have nothing in common.",
            evidence=(seen,),
            remedy=(
                Remedy(
                    host=who.host,
                    summary="if it belongs into the other's swarm: leave this one, then join that one",
                    commands=(*demote, "docker swarm leave" + (" --force" if engine.swarm.is_manager else "")),
                    risk=Risk.DISRUPTIVE,
                ),
            ),
        ),
    )


# --- versions --------------------------------------------------------------------------------------------------------


def _versions(ctx: Context) -> Iterator[Found]:
    check = "pair.versions"
    both = _engines(ctx)
    if both is None:
        return
    here, one, there, two = both
    subject = Subject(host=here.host, peer=there.host)
    versions = {here.host: one.version, there.host: two.version}
    encrypted = any(network.encrypted for engine in (one, two) for network in engine.networks)
    found = conflicts(versions, encrypted=encrypted)
    for conflict in found:
        breaking = conflict.kind is ConflictKind.SPI_MISMATCH
        seen = Evidence("engine", "; ".join(f"{host}: {version}" for host, version in versions.items()), {})
        yield ctx.problem(
            check,
            f"{conflict.what} ({seen.text})",
            breaks=(Need.TRAFFIC,) if breaking else (),
            subject=subject,
            evidence=[seen],
            cause=cause(
                "swarm.engine-version",
                host=None,
                object={"kind": "engine", "conflict": conflict.kind.value, "versions": versions},
                confidence=Confidence.LIKELY if breaking else Confidence.POSSIBLE,
                explanation=f"{conflict.what[:1].upper()}{conflict.what[1:]}; {conflict.advice}.",
                evidence=(seen,),
            ),
        )
    if not found:
        yield ctx.ok(check, f"the engines' versions go together ({one.version}, {two.version})", subject=subject)


# --- images ----------------------------------------------------------------------------------------------------------


def _images(ctx: Context) -> Iterator[Found]:
    check = "pair.images"
    both = _engines(ctx)
    if both is None:
        return
    here, one, there, two = both
    subject = Subject(host=here.host, peer=there.host)
    if one.architecture and two.architecture and one.architecture != two.architecture:
        yield ctx.skip(
            check,
            "whether one tag is one image on both",
            f"{here.host} is {one.architecture} and {there.host} {two.architecture}: their ids differ rightly",
            subject=subject,
        )
        return
    mine, theirs = _by_tag(one), _by_tag(two)
    differing = [tag for tag in mine if tag in theirs and _differ(mine[tag], theirs[tag])]
    if differing and _stores_otherwise(one) != _stores_otherwise(two):
        yield ctx.unknown(
            check,
            f"whether {', '.join(differing[:3])} is one image on both",
            f"the two engines keep images in different stores ({one.storage_driver}, {two.storage_driver}), where one"
            " image has different ids",
            subject=subject,
        )
        return
    for tag in differing[:_TOLD_IMAGES]:
        ids = {here.host: mine[tag].id, there.host: theirs[tag].id}
        seen = Evidence(
            "engine", "; ".join(f"{tag} on {host}: {name[:19]}" for host, name in ids.items()), {"ids": ids}
        )
        yield ctx.problem(
            check,
            f"{tag} names different images on the two hosts",
            subject=Subject(host=here.host, peer=there.host, image=tag),
            evidence=[seen],
            cause=cause(
                "swarm.image-differs",
                host=there.host,
                object={"kind": "image", "image": tag, "id": theirs[tag].id, "expected": mine[tag].id},
                confidence=Confidence.LIKELY,
                evidence=(seen,),
                remedy=(
                    Remedy(
                        host=here.host,
                        summary=f"carry the right one over (this is the way from {here.host} to {there.host})",
                        commands=(carry_over(tag, _target(there)),),
                    ),
                ),
            ),
        )
    if len(differing) > _TOLD_IMAGES:
        yield ctx.problem(check, f"{len(differing) - _TOLD_IMAGES} more tags name different images", subject=subject)
    if not differing:
        common = sum(tag in theirs for tag in mine)
        yield ctx.ok(check, f"every tag that both hosts have names one image ({common} of them)", subject=subject)


def _by_tag(engine: Engine) -> Mapping[str, Image]:
    return {tag: image for image in engine.images for tag in image.tags}


def _differ(one: Image, other: Image) -> bool:
    """Whether two images are not the same; one content has one digest in a registry, whatever its id."""
    return one.id != other.id and not {_digest(each) for each in one.digests} & {
        _digest(each) for each in other.digests
    }


def _digest(reference: str) -> str:
    return reference.partition("@")[2]


def _stores_otherwise(engine: Engine) -> bool:
    """Whether images are in containerd's store, where an id is the manifest's and not the configuration's."""
    return engine.storage_driver in ("overlayfs", "native", "stargz")


def _target(ctx: Context) -> str:
    return next(iter(ctx.own_addresses()), ctx.host)


# --- what no record tells --------------------------------------------------------------------------------------------


def _between(ctx: Context) -> Iterator[Found]:
    check = "pair.between"
    pair = pair_of(ctx)
    if pair is None:
        return
    mine, theirs = pair.mine, pair.theirs
    port = control_port(theirs, mine) if is_manager(theirs, mine) else GOSSIP_PORT
    target = f"[{theirs.address}]" if ":" in theirs.address else theirs.address
    yield ctx.unknown(
        check,
        f"what lies between {mine.host} ({mine.address}) and {theirs.host} ({theirs.address}), and what passes there",
        "two records say what each host knows of itself; nothing was sent from one to the other (security groups, routers,"
        " the largest packet, XDP programs and what a rule really did show only then)",
        subject=Subject(host=mine.host, peer=theirs.host),
        next_steps=[
            Step(
                host=mine.host,
                command=shell_text(
                    ["netdiag", "diagnose", mine.address, f"{target}:{port}/tcp", "--via", f"ssh:{theirs.address}"]
                ),
                why="sends packets and looks for them at both ends, if you may log in there",
            )
        ],
    )


CHECKS = (
    Check(
        id="pair.membership",
        title="The two hosts are in one swarm, or free to be",
        explains="The ids of the two swarms, a manager's list of nodes, or the managers that both know.",
        remedy="docker swarm leave on the host that is in the wrong one, then join.",
        evaluate=_membership,
        needs=("engine",),
    ),
    Check(
        id="pair.versions",
        title="The two engines' versions go together",
        explains="Some versions compute IPsec indexes differently; different major versions are not tested together.",
        remedy="Complete the upgrade.",
        evaluate=_versions,
        needs=("engine",),
    ),
    Check(
        id="pair.images",
        title="One tag is one image on both hosts",
        explains=(
            "Tasks of one service run different code where a tag was built or pulled at different times. Images that came"
            " from a registry are compared by their digest, others by their id."
        ),
        remedy="Push the image to a registry and deploy by digest, or copy it with docker save and docker load.",
        evaluate=_images,
        needs=("engine",),
    ),
    Check(
        id="pair.between",
        title="What two records cannot tell",
        explains="No packet was sent: what the network between does, and which rule really took a packet, stay open.",
        remedy="Diagnose with both hosts taking part.",
        evaluate=_between,
    ),
)
