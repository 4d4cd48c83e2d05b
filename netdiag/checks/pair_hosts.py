"""Two hosts side by side: their names, machine ids, addresses and clocks."""

from __future__ import annotations

from collections.abc import Iterator

from netdiag.causes import cause
from netdiag.checks.commands import rename
from netdiag.checks.context import Check, Context
from netdiag.checks.pair_ends import pair_of, shared_addresses
from netdiag.model.found import Found
from netdiag.model.report import Confidence, Evidence, Need, Remedy, Risk, Step, Subject

_NODE_BACKDATED_S = 3600.0
"""A node's certificate is dated one hour back, a root's five minutes: beyond that a join fails."""
_ROOT_BACKDATED_S = 300.0
_SECOND_S = 1.0


def same_host(ctx: Context, other: Context) -> bool:
    """Whether two records are of one host: its machine id, its name and its addresses."""
    one, two = ctx.facts.identity.value, other.facts.identity.value
    if one is None or two is None or not one.machine_id:
        return False
    named = (one.machine_id, one.hostname) == (two.machine_id, two.hostname)
    return named and set(ctx.own_addresses()) == set(other.own_addresses())


def _names(ctx: Context) -> Iterator[Found]:
    check = "pair.names"
    if ctx.peer is None:
        return
    there = ctx.peer.context
    one, two = ctx.facts.identity.value, there.facts.identity.value
    if one is None or two is None:
        return
    subject = Subject(host=ctx.host, peer=there.host)
    if one.hostname and one.hostname == two.hostname:
        seen = Evidence("host", f"both say that they are called {one.hostname}", {"name": one.hostname})
        address = next(iter(ctx.own_addresses()), "")
        yield ctx.problem(
            check,
            f"both hosts are called {one.hostname}",
            subject=subject,
            evidence=[seen],
            cause=cause(
                "host.name-duplicate",
                host=ctx.host,
                object={
                    "kind": "host",
                    "name": one.hostname,
                    "address": address,
                    "other": next(iter(there.own_addresses()), ""),
                },
                confidence=Confidence.LIKELY,
                evidence=(seen,),
                remedy=(
                    Remedy(
                        host=ctx.host,
                        summary="give one of the two another name; the engine shows it after its restart",
                        commands=(
                            rename(f"{one.hostname.partition('.')[0]}-2"),
                            "systemctl restart docker",
                        ),
                        undo=(rename(one.hostname), "systemctl restart docker"),
                        risk=Risk.DISRUPTIVE,
                    ),
                ),
            ),
        )
    else:
        yield ctx.ok(check, f"the two have names of their own ({one.hostname}, {two.hostname})", subject=subject)
    if one.machine_id and one.machine_id == two.machine_id:
        yield ctx.problem(
            check,
            f"both hosts have the machine id {one.machine_id}: one is a copy of the other, and DHCP may give both one address",
            subject=subject,
            evidence=[Evidence("file", f"/etc/machine-id: {one.machine_id} on both", {})],
            next_steps=[
                Step(
                    host=ctx.host,
                    command="rm /etc/machine-id && systemd-machine-id-setup",
                    why="gives one of the two a machine id of its own (then restart it)",
                )
            ],
        )


def _addresses(ctx: Context) -> Iterator[Found]:
    check = "pair.address"
    if ctx.peer is None:
        return
    there = ctx.peer.context
    here_rows = {row.cidr.partition("/")[0]: row for row in shared_addresses(ctx)}
    there_rows = {row.cidr.partition("/")[0]: row for row in shared_addresses(there)}
    subject = Subject(host=ctx.host, peer=there.host)
    pair = pair_of(ctx)
    between = pair is not None and pair.mine.address == pair.theirs.address
    both = [address for address in here_rows if address in there_rows]
    for address in both:
        devices = (here_rows[address].device, there_rows[address].device)
        seen = Evidence(
            "address",
            f"{address}: on {devices[0]} of {ctx.host} and on {devices[1]} of {there.host}",
            {"address": address},
        )
        # Two networks that never meet may number their hosts alike; the address by which these two meet is another matter.
        certain = between and pair is not None and address == pair.mine.address
        yield ctx.problem(
            check,
            f"both hosts have the address {address}",
            breaks=tuple(Need) if certain else (),
            subject=subject,
            evidence=[seen],
            cause=cause(
                "underlay.duplicate-address",
                host=ctx.host,
                object={"kind": "address", "address": address, "device": devices[0], "others": [there.host]},
                confidence=Confidence.LIKELY if certain else Confidence.POSSIBLE,
                evidence=(seen,),
            ),
        )
    if not both and here_rows and there_rows:
        yield ctx.ok(check, "no address is on both hosts", subject=subject)


# --- clocks ----------------------------------------------------------------------------------------------------------


def _clock(ctx: Context) -> Iterator[Found]:
    check = "pair.clock"
    if ctx.peer is None:
        return
    there = ctx.peer.context
    subject = Subject(host=ctx.host, peer=there.host)
    off = False
    for one in (ctx, there):
        apart = _apart(one)
        if apart is not None:
            off = True
            offset_s, error_s = apart
            ahead = "ahead of" if offset_s > 0 else "behind"
            text = (
                f"the clock of {one.host} is {abs(offset_s):.1f} s {ahead} that of the machine that collected its record"
                f" (± {error_s:.1f} s)"
            )
            data = {"offset_s": round(offset_s, 3), "error_s": round(error_s, 3)}
            yield _off(ctx, one, check, text, abs(offset_s) - error_s, data, subject)
    if off:
        return
    clock = there.facts.clock.value
    if clock is not None and ctx.peer.asked_s is not None and clock.unix_s < ctx.peer.asked_s - 2 * _SECOND_S:
        least_s = ctx.peer.asked_s - clock.unix_s - _SECOND_S
        text = (
            f"the clock of {there.host} is at least {least_s:.0f} s behind that of {ctx.host}: its answer is dated before"
            " the script that asked for it was made"
        )
        yield _off(ctx, there, check, text, least_s, {"behind_s_at_least": least_s}, subject)
        return
    if clock is not None and clock.unix_s > ctx.peer.read_s + 2 * _SECOND_S:
        least_s = clock.unix_s - ctx.peer.read_s - _SECOND_S
        text = f"the clock of {there.host} is at least {least_s:.0f} s ahead of this machine's: its record is dated in the future"
        yield _off(ctx, there, check, text, least_s, {"ahead_s_at_least": least_s}, subject)
        return
    yield ctx.unknown(
        check,
        "whether the clocks of the two agree",
        "each record holds its own host's clock, and they were not read at one moment"
        if clock is not None and ctx.facts.clock.value is not None
        else "one of the two records holds no clock",
        subject=subject,
        next_steps=[
            Step(
                host=ctx.host,
                command="date -u +%s.%N",
                why=f"run it here and on {there.host} at the same moment: a difference of more than 300 s keeps a node from joining",
            )
        ],
    )


def _apart(ctx: Context) -> tuple[float, float] | None:
    """How far a host's clock is from that of the machine that collected its record, with the error; None where it is not.

    A host that collected by itself dates its record by its own clock, so that the two always agree.
    """
    clock = ctx.facts.clock.value
    if clock is None:
        return None
    # The clock was read at some moment of the collection, and a script knows whole seconds only.
    error_s = ctx.facts.duration_s / 2 + _SECOND_S
    offset_s = clock.unix_s - (ctx.facts.collected_s + ctx.facts.duration_s / 2)
    return (offset_s, error_s) if abs(offset_s) > error_s else None


def _off(
    ctx: Context, whose: Context, check: str, text: str, least_s: float, data: dict[str, float], subject: Subject
) -> Found:
    seen = Evidence("clock", text, data)
    serious = least_s > _ROOT_BACKDATED_S
    return ctx.problem(
        check,
        text,
        breaks=(Need.JOIN,) if least_s > _NODE_BACKDATED_S else (),
        leaves=(Need.JOIN,) if serious and least_s <= _NODE_BACKDATED_S else (),
        subject=subject,
        evidence=[seen],
        cause=cause(
            "host.clock",
            host=whose.host,
            object={"kind": "clock", **data},
            confidence=Confidence.LIKELY if serious else Confidence.POSSIBLE,
            evidence=(seen,),
        ),
    )


CHECKS = (
    Check(
        id="pair.names",
        title="The two hosts have names and machine ids of their own",
        explains="Cloned machines keep their name and /etc/machine-id; commands by name are ambiguous then.",
        remedy="hostnamectl set-hostname on one of them; systemd-machine-id-setup where the machine id is the same.",
        evaluate=_names,
        needs=("identity",),
    ),
    Check(
        id="pair.address",
        title="No address is on both hosts",
        explains=(
            "An address on both hosts makes each lose what is meant for the other. Addresses of Docker's and of other"
            " bridges that only a host's own guests are on do not count."
        ),
        remedy="Give one of the two another address.",
        evaluate=_addresses,
        needs=("addresses",),
    ),
    Check(
        id="pair.clock",
        title="The clocks of the two hosts agree",
        explains=(
            "A record dates its host's clock only. Two clocks are compared where one machine asked both hosts, or where a"
            " script's answer is older than the script or newer than now: then one clock is off by at least that much."
        ),
        remedy="Start time synchronisation on the host that is off.",
        evaluate=_clock,
    ),
)
