"""``netdiag firewall explain``: what a rule set does with a packet, computed without a kernel."""
# ruff: noqa: D301 - click wants the backspace itself before a block that it must not wrap

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import click
import msgspec

from netdiag.cli.output import Progress, columns
from netdiag.cli.packet_options import named_namespace, packet_options
from netdiag.cli.rule_sources import read_text
from netdiag.model.explain import Explanation, Hook, PacketLine
from netdiag.model.trace import TracePath, TraceVerdict

_EXIT = {TraceVerdict.ACCEPT: 0, TraceVerdict.DROP: 1, TraceVerdict.REJECT: 1, TraceVerdict.UNKNOWN: 3}
_COLOURS = {
    TraceVerdict.ACCEPT: "green",
    TraceVerdict.DROP: "red",
    TraceVerdict.REJECT: "red",
    TraceVerdict.UNKNOWN: "magenta",
}


@click.command("explain")
@packet_options
@click.option(
    "--hook",
    type=click.Choice([hook.value for hook in Hook], case_sensitive=False),
    help="Ask the rules of this hook only  [default: the whole way]",
)
@click.option("--state", metavar="STATE", help="NEW, ESTABLISHED, RELATED, INVALID or UNTRACKED  [default: a new flow]")
@click.option("--mark", metavar="N", help="Its mark before the first rule  [default: 0]")
@click.option("--bucket", type=click.Choice(["full", "empty"]), help="The buckets of limit and hashlimit.")
@click.option(
    "--rules",
    "files",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Saved rules instead of this host's: iptables-save, ip6tables-save, nft list ruleset (-j or not), ipset save; "
    "- is standard input.",
)
@click.option("--bundle", type=click.Path(path_type=Path), metavar="FILE", help="The rules of a bundle's host.")
@click.option(
    "--packets",
    type=click.File("rb"),
    metavar="FILE",
    help="Packets, a JSON object a line with the options' names (icmp_type); an answer is a line each.",
)
@click.option("--load-modules", is_flag=True, help="Go on where reading this host's rules loads a kernel module.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_context
def explain(
    ctx: click.Context,
    /,
    files: tuple[Path, ...],
    bundle: Path | None,
    packets: IO[bytes] | None,
    load_modules: bool,
    output: str,
    **options: Any,
) -> None:
    """Say what the packet filter does with a packet, from the rules alone: the verdict, the rule, and what is unknown.

    Nothing is sent and no kernel is asked. A rule that is not understood, or that asks for what was not said of the
    packet, leaves the answer unknown at this rule. Exit code: 0 accepted, 1 dropped or rejected, 3 not known; with
    --packets 0.

    \b
    Examples:
      netdiag firewall explain --src 192.0.2.21 --dport 2377
      netdiag firewall explain --rules iptables.save --hook INPUT --dport 22
      netdiag firewall explain --rules ruleset.json --in eth0 --dport 22
      netdiag firewall explain --rules iptables.save --packets packets.jsonl
    """
    from netdiag.report.explain_lines import lines, problem_lines

    if files and bundle is not None:
        raise click.UsageError("--rules and --bundle each name the rules: give one of them")
    with Progress("reading the rules"):
        ask, problems = _of_files(files, options) if files else _of_facts(bundle, options, load_modules=load_modules)
    for line in problem_lines(problems):
        click.echo(line, err=True)
    if packets is not None:
        sys.stdout.buffer.writelines(_answers(packets, ask))
        sys.stdout.buffer.flush()
        return
    packet = _packet(ctx, options)
    try:
        found = ask(packet)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if output == "json":
        sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
        sys.stdout.buffer.flush()
    else:
        first, *rest = lines(found, packet, columns())
        click.secho(first, fg=_COLOURS[found.verdict], bold=True)
        click.echo("\n".join(rest))
    sys.exit(_EXIT[found.verdict])


_Ask = Callable[[PacketLine], Explanation]


def _packet(ctx: click.Context, options: dict[str, Any]) -> PacketLine:
    """The packet that the options describe; an address with a device behind it (``fe80::1%eth0``) names the device."""
    said = ctx.get_parameter_source("path") is not click.core.ParameterSource.DEFAULT
    path = TracePath(options["path"]) if said else None
    devices = {"in": options["in_device"], "out": options["out_device"]}
    addresses = {}
    for name in ("source", "destination"):
        address, _, device = (options[name] or "").partition("%")
        addresses[name] = address or None
        leaves = path is TracePath.OUT or (path is TracePath.FORWARD and name == "destination")
        side = "out" if leaves else "in"
        if device and devices[side] not in (None, device):
            raise click.UsageError(f"{options[name]} and --{side} {devices[side]} name two devices")
        devices[side] = device or devices[side]
    return PacketLine(
        path=path,
        hook=options["hook"],
        in_device=devices["in"],
        out_device=devices["out"],
        source=addresses["source"],
        destination=addresses["destination"],
        proto=options["protocol"],
        sport=options["source_port"],
        dport=options["destination_port"],
        icmp_type=options["icmp_type"],
        tcp_flags=options["tcp_flags"],
        mac=options["mac"],
        ttl=options["ttl"],
        length=options["length"],
        state=options["state"],
        mark=options["mark"],
        bucket=options["bucket"],
    )


def _of_files(files: tuple[Path, ...], options: dict[str, Any]) -> tuple[_Ask, tuple[str, ...]]:
    from netdiag.firewall.explain import Explainer, merged, read_rule_file

    if any(named_namespace(options)):
        raise click.UsageError("--rules says whose rules: --container and --netns name those of this host")
    read = [read_rule_file(read_text(file)) for file in files]
    names = [f"{file}, " if len(files) > 1 else "" for file in files]
    problems = tuple(f"{name}{problem}" for name, one in zip(names, read, strict=True) for problem in one.problems)
    return Explainer(merged(read)).explain, problems


def _of_facts(bundle: Path | None, options: dict[str, Any], *, load_modules: bool) -> tuple[_Ask, tuple[str, ...]]:
    from netdiag.facts.assemble import replay
    from netdiag.facts.explain_host import SECTIONS, explainer_of
    from netdiag.facts.namespace_names import of_container, of_namespace
    from netdiag.host import LocalHost
    from netdiag.host.bundles import read_bundle
    from netdiag.host.collect import collect, local_options
    from netdiag.model.facts import HOST

    container, netns = named_namespace(options)
    if bundle is not None:
        facts = replay(read_bundle(bundle))
    else:
        asked = local_options(load_modules=load_modules)
        sections = (*SECTIONS, "engine") if container else SECTIONS
        facts = collect(LocalHost(), sections, now_s=time.time(), options=asked)
    namespace = of_container(facts, container) if container else of_namespace(facts, netns) if netns else HOST
    explainer, problems = explainer_of(facts, namespace)
    return explainer.explain, problems


def _answers(packets: IO[bytes], ask: _Ask) -> Iterator[bytes]:
    """An answer for each line; a line that is no packet is unknown, and says why."""
    decoder = msgspec.json.Decoder(PacketLine, strict=False)
    encoder = msgspec.json.Encoder()
    for number, line in enumerate(packets, start=1):
        if not line.strip():
            continue
        try:
            found = ask(decoder.decode(line))
        except (ValueError, msgspec.DecodeError, RecursionError) as error:
            possible = (TraceVerdict.ACCEPT, TraceVerdict.DROP, TraceVerdict.REJECT)
            reason = f"line {number} is no packet: {error}"
            found = Explanation(verdict=TraceVerdict.UNKNOWN, rule=None, possible=possible, reason=reason)
            click.echo(reason, err=True)
        yield encoder.encode(found) + b"\n"
