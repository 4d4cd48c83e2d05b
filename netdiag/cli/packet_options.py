"""The packet of ``netdiag firewall``: its options, the same for every sub-command, and what they mean together."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any, TypeVar

import click

from netdiag.facts.trace_plan import Wanted
from netdiag.model.facts import HOST
from netdiag.model.trace import TracePath

F = TypeVar("F", bound=Callable[..., Any])

_FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr")
_PORT = click.IntRange(1, 65535)


def _address(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else str(ipaddress.ip_address(value))
    except ValueError:
        raise click.BadParameter(f"{value!r} is no IPv4 or IPv6 address", ctx, param) from None


def _tcp_flags(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    flags = value.lower().split(",") if value is not None else []
    if any(flag not in _FLAGS for flag in flags):
        raise click.BadParameter(f"{value!r}: names of {', '.join(_FLAGS)}, with commas", ctx, param)
    return ",".join(flags) or None


_OPTIONS = (
    click.option("--path", type=click.Choice([path.value for path in TracePath]), default="in", show_default=True),
    click.option("--in", "in_device", metavar="DEV", help="The interface that it arrives on."),
    click.option("--out", "out_device", metavar="DEV", help="The interface that it leaves by."),
    click.option("--src", metavar="ADDR", callback=_address, help="From this address."),
    click.option("--dst", metavar="ADDR", callback=_address, help="To this address  [default, in: this host's]"),
    click.option(
        "--proto", type=click.Choice(["tcp", "udp", "icmp", "icmpv6"]), help="[default: tcp with ports, else icmp]"
    ),
    click.option("--sport", type=_PORT, help="From this port  [default: one that is free]"),
    click.option("--dport", type=_PORT, help="To this port."),
    click.option("--icmp-type", type=click.IntRange(0, 255), help="[default: an echo request]"),
    click.option("--tcp-flags", metavar="FLAGS", callback=_tcp_flags, help="Such as syn,ack.  [default: syn]"),
    click.option("--ttl", type=click.IntRange(1, 255), help="TTL or hop limit  [default: 64]"),
    click.option("--length", type=click.IntRange(36, 1500), help="Bytes of the whole IP packet."),
    click.option("--load-modules", is_flag=True, help="Go on where this loads a kernel module."),
    click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True),
)


def packet_options(command: F) -> F:
    """Give a command the options that describe a packet; `wanted_of` makes the packet of their values."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def wanted_of(options: dict[str, Any]) -> Wanted:
    """The packet that the options describe. Raises click.UsageError where they do not go together."""
    way = TracePath(options["path"])
    if (way is TracePath.IN and options["out_device"]) or (way is TracePath.OUT and options["in_device"]):
        raise click.UsageError(f"--path {way.value} goes with {'--in' if way is TracePath.IN else '--out'}")
    return Wanted(
        path=way,
        in_device=options["in_device"] or "",
        out_device=options["out_device"] or "",
        source=options["src"] or "",
        destination=options["dst"] or "",
        protocol=options["proto"] or "",
        source_port=options["sport"],
        destination_port=options["dport"],
        icmp_type=options["icmp_type"],
        tcp_flags=options["tcp_flags"] or "",
        ttl=options["ttl"],
        length=options["length"],
    )
