"""``netdiag firewall``: which rule decides about a packet."""

from __future__ import annotations

import ipaddress
import sys
import time

import click
import msgspec

from netdiag.cli.firewall_diff import diff
from netdiag.cli.output import Progress
from netdiag.facts.trace_plan import Wanted
from netdiag.model.trace import Trace, TracePath, TraceVerdict

_EXIT = {TraceVerdict.ACCEPT: 0, TraceVerdict.DROP: 1, TraceVerdict.REJECT: 1, TraceVerdict.UNKNOWN: 3}
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


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def firewall() -> None:
    """Say which rule of this host's packet filters decides about a packet."""


firewall.add_command(diff)


@firewall.command("trace")
@click.option("--path", type=click.Choice([path.value for path in TracePath]), default="in", show_default=True)
@click.option("--in", "in_device", metavar="DEV", help="The interface that it arrives on, with --path in.")
@click.option("--out", "out_device", metavar="DEV", help="The interface that it leaves by, with --path out.")
@click.option(
    "--src",
    metavar="ADDR",
    callback=_address,
    help="From this address  [default: in: a neighbour; out: the kernel's choice]",
)
@click.option("--dst", metavar="ADDR", callback=_address, help="To this address  [default, in: this host's]")
@click.option(
    "--proto", type=click.Choice(["tcp", "udp", "icmp", "icmpv6"]), help="[default: tcp with ports, else icmp]"
)
@click.option("--sport", type=_PORT, help="From this port  [default: one that is free]")
@click.option("--dport", type=_PORT, help="To this port.")
@click.option("--icmp-type", type=click.IntRange(0, 255), help="[default: an echo request]")
@click.option("--tcp-flags", metavar="FLAGS", callback=_tcp_flags, help="Such as syn,ack.  [default: syn]")
@click.option("--ttl", type=click.IntRange(1, 255), help="TTL or hop limit  [default: 64]")
@click.option("--length", type=click.IntRange(36, 1500), help="Bytes of the whole IP packet.")
@click.option("--load-modules", is_flag=True, help="Go on where this loads a kernel module.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def trace(
    path: str,
    in_device: str | None,
    out_device: str | None,
    src: str | None,
    dst: str | None,
    proto: str | None,
    sport: int | None,
    dport: int | None,
    icmp_type: int | None,
    tcp_flags: str | None,
    ttl: int | None,
    length: int | None,
    load_modules: bool,
    output: str,
) -> None:
    r"""Send one packet through this host's rules and say which of them decides, as the kernel tells it.

    The packet reaches nobody: it is taken away behind the last rule, and nothing is answered to it. No rule is changed.
    Exit code: 0 accepted, 1 dropped or rejected, 3 not known.

    \b
    Examples:
      netdiag firewall trace --src 192.0.2.21 --dport 2377
      netdiag firewall trace --path out --dst 192.0.2.10 --proto udp --dport 4789
    """
    from netdiag.host import LocalHost
    from netdiag.host.collect import local_options
    from netdiag.host.trace import trace as run

    way = TracePath(path)
    if (way is TracePath.IN and out_device) or (way is TracePath.OUT and in_device):
        raise click.UsageError(f"--path {path} goes with {'--in' if way is TracePath.IN else '--out'}")
    wanted = Wanted(
        path=way,
        in_device=in_device or "",
        out_device=out_device or "",
        source=src or "",
        destination=dst or "",
        protocol=proto or "",
        source_port=sport,
        destination_port=dport,
        icmp_type=icmp_type,
        tcp_flags=tcp_flags or "",
        ttl=ttl,
        length=length,
    )
    with Progress("following a packet"):
        found = run(LocalHost(), wanted, now_s=time.time(), options=local_options(load_modules=load_modules))
    if output == "json":
        sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
        sys.stdout.buffer.flush()
    else:
        click.echo("\n".join(lines(found)))
    sys.exit(_EXIT[found.verdict])


def lines(found: Trace) -> list[str]:
    """The answer for people: the deciding rule first, then the way to it."""
    said = [f"{found.verdict.value.upper()}: {_packet(found)}"]
    decided = found.rule or found.policy
    if decided is not None:
        said += ["", f"  {decided.backend.value} {decided.family} {decided.place()}, owner {decided.owner.value}"]
        said += [f"    {decided.text}"] if decided.text else []
        said += [f"    called from {decided.call_site}"] if decided.call_site else []
    if found.reason:
        said += ["", f"  {found.reason}"]
    if found.path:
        said += ["", "The way it took:"]
        said += [
            f"  {step.hook or '-':<12}{step.rule.family:<7}{step.rule.place():<28}{step.verdict:<10}{step.rule.text}"
            for step in found.path
        ]
    if found.elapsed_ms is not None:
        said += ["", f"{found.elapsed_ms} ms from the packet to the rule ({found.level})"]
    return said


def _packet(found: Trace) -> str:
    packet = found.packet
    source = packet.source if packet.source_port is None else f"{packet.source} port {packet.source_port}"
    target = (
        packet.destination
        if packet.destination_port is None
        else f"{packet.destination} port {packet.destination_port}"
    )
    way = "arriving on" if packet.path is TracePath.IN else "leaving by"
    return f"{packet.protocol} from {source} to {target}, {way} {packet.in_device or packet.out_device}"
