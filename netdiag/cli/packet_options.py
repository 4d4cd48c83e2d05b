"""The options that describe a packet, the same for every command that asks about one."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any, TypeVar

import click

from netdiag.facts.trace_wanted import NAMED_PROTOCOLS, Wanted, named
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


def _protocol(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else named(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def _mac(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    digits = value.lower().replace(":", "").replace("-", "")
    if len(digits) != 12 or any(digit not in "0123456789abcdef" for digit in digits):
        raise click.BadParameter(f"{value!r} is no link address such as 02:42:ac:11:00:02", ctx, param)
    mac = ":".join(digits[at : at + 2] for at in range(0, 12, 2))
    if int(digits[:2], 16) & 1:
        raise click.BadParameter(f"{value!r} is a group's address: no frame comes from it", ctx, param)
    return mac


_OPTIONS = (
    click.option(
        "--path",
        type=click.Choice([path.value for path in TracePath]),
        default="in",
        show_default=True,
        help="It is for this host, it goes on to another, or this host sends it.",
    ),
    click.option("--in", "in_device", metavar="DEV", help="The interface that it arrives on."),
    click.option("--out", "out_device", metavar="DEV", help="The interface that it leaves by."),
    click.option(
        "--src",
        "source",
        metavar="ADDR",
        callback=_address,
        help="From this address  [default: a neighbour; out: the kernel's choice]",
    ),
    click.option(
        "--dst",
        "destination",
        metavar="ADDR",
        callback=_address,
        help="To this address  [default, in: this host's]",
    ),
    click.option(
        "--proto",
        "protocol",
        metavar="NAME|N",
        callback=_protocol,
        help=f"{', '.join(NAMED_PROTOCOLS)}, or a number  [default: tcp with ports, else icmp]",
    ),
    click.option("--sport", "source_port", type=_PORT, help="From this port  [default: one that is free]"),
    click.option("--dport", "destination_port", type=_PORT, help="To this port."),
    click.option("--icmp-type", type=click.IntRange(0, 255), help="[default: an echo request]"),
    click.option("--tcp-flags", metavar="FLAGS", callback=_tcp_flags, help="Such as syn,ack.  [default: syn]"),
    click.option("--mac", metavar="MAC", callback=_mac, help="The source of its frame, where it arrives."),
    click.option("--ttl", type=click.IntRange(1, 255), help="TTL or hop limit  [default: 64]"),
    click.option("--length", type=click.IntRange(28, 1500), help="Bytes of the whole IP packet."),
    click.option(
        "--netns",
        metavar="NAME|PATH",
        help="In this network namespace: overlay:NETWORK, container:NAME, a mount's name or a path.",
    ),
    click.option("--container", metavar="NAME", help="In the network namespace of this container."),
)


def packet_options(command: F) -> F:
    """Add every option that describes a packet; the command takes them as keyword arguments."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def wanted_of(options: dict[str, Any], namespace: str) -> Wanted:
    """The packet that the options describe, met in a namespace.

    An address with a device behind it (``fe80::1%eth0``) names the device that it arrives on, or leaves by.
    """
    path = TracePath(options["path"])
    devices = {"in": options["in_device"] or "", "out": options["out_device"] or ""}
    addresses = []
    for name, option in (("source", "--src"), ("destination", "--dst")):
        address, _, device = (options[name] or "").partition("%")
        addresses.append(address)
        side = "out" if path is TracePath.OUT or (path is TracePath.FORWARD and name == "destination") else "in"
        if device and devices[side] not in ("", device):
            raise click.UsageError(f"{option} {options[name]} and --{side} {devices[side]} name two devices")
        devices[side] = device or devices[side]
    return Wanted(
        path=path,
        namespace=namespace,
        in_device=devices["in"],
        out_device=devices["out"],
        source=addresses[0],
        destination=addresses[1],
        protocol=options["protocol"] or "",
        source_port=options["source_port"],
        destination_port=options["destination_port"],
        icmp_type=options["icmp_type"],
        tcp_flags=options["tcp_flags"] or "",
        ttl=options["ttl"],
        length=options["length"],
        mac=options["mac"] or "",
    )


def named_namespace(options: dict[str, Any]) -> tuple[str, str]:
    """What was said of the namespace: the container's name and the namespace's; at most one of them is not empty."""
    container, netns = options["container"] or "", options["netns"] or ""
    if container and netns:
        raise click.UsageError("--container and --netns each name a namespace: give one of them")
    return container, netns
