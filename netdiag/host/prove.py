"""A fix tried out before it is made: the packet and a sample of flows, in two copies of the namespace's rules."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import msgspec

from netdiag.errors import UsageError
from netdiag.facts.context import Context, Options, files_request, texts, within
from netdiag.facts.copied_host import SYSCTLS, copy_of, devices_named
from netdiag.facts.level import features_needed, judge
from netdiag.facts.saved_modules import Modules, modules_of, modules_request
from netdiag.facts.tables import gather_addresses, gather_fdb, gather_links, gather_neighbours, gather_routes
from netdiag.facts.tables import gather_rules as gather_policies
from netdiag.facts.trace_here import Here, bare, namespace_of
from netdiag.firewall.changed_rules import change
from netdiag.firewall.copied_rules import Load, loads_of
from netdiag.firewall.flow import Flow
from netdiag.firewall.flow_sample import sample
from netdiag.firewall.proof import Asked, held_to, of_trace, prove
from netdiag.host.collect import collect
from netdiag.host.drive import Carrier, drive
from netdiag.host.rules_copy import CannotCopy, RulesCopy
from netdiag.model.facts import Backend, Facts, Namespace, RuleSet
from netdiag.model.firewall import FirewallRule
from netdiag.model.fix import Fix
from netdiag.model.level import Level
from netdiag.model.proof import Fate, Proof, ProofLevel
from netdiag.model.trace import TracedPacket, TracePath, TraceVerdict

_WAIT_MS = 500
_SAMPLE_WAIT_MS = 50
_KINDS = ("dummy", "veth", "bridge")


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What is tried out: a fix for a packet, and the rules that it is for.

    Attributes:
        rule_sets: Of the packet's namespace.
        decided: The rule or policy that stops the packet now.
        flow: What the fix lets through.
        sign: What the rule bears that no other has; empty where it bears nothing.
        plain: Which variant the name ``iptables`` is here.
    """

    packet: TracedPacket
    fix: Fix
    rule_sets: tuple[RuleSet, ...]
    decided: FirewallRule
    flow: Flow
    sign: str = ""
    plain: Backend | None = None


def gathered(carrier: Carrier, namespace: str, *, now_s: float, options: Options) -> Facts:
    """What a copy of a namespace is made from: its devices, addresses, routes, policy rules and neighbours."""
    facts = collect(carrier, ("identity", "kernel", "namespaces"), now_s=now_s, options=options)
    here = {namespace: namespace_of(facts, namespace)}
    everywhere = {**(facts.namespaces.value or {}), **here}
    context = Context(options=options, namespaces=everywhere, kernel=facts.kernel.value)
    links = drive(gather_links(context), carrier)
    context = msgspec.structs.replace(context, links=links.value or {})
    addresses = drive(gather_addresses(context), carrier)
    context = msgspec.structs.replace(context, namespaces=here)
    return msgspec.structs.replace(
        facts,
        links=links,
        addresses=addresses,
        routes=drive(gather_routes(context), carrier),
        rules=drive(gather_policies(context), carrier),
        neighbours=drive(gather_neighbours(context), carrier),
        fdb=drive(gather_fdb(context), carrier),
    )


def settings(carrier: Carrier, namespace: Namespace) -> dict[str, str]:
    """The settings that decide about packets, by their paths below /proc/sys."""
    # As patterns: a setting that this kernel does not have is then no error.
    globs = [f"/proc/sys/{path if '*' in path else f'{path[:-1]}[{path[-1]}]'}" for path in SYSCTLS]
    request = files_request(globs)
    (answer,) = carrier.ask([msgspec.structs.replace(request, params=within(namespace, request.params))])
    return {path.removeprefix("/proc/sys/"): text.strip() for path, text in texts(answer).items()}


def prove_here(carrier: Carrier, trial: Trial, *, now_s: float, options: Options) -> Proof:
    """Try a fix for this machine's own rules out. What stands against it is the proof's ``reason``."""
    namespace = trial.packet.namespace
    facts = gathered(carrier, namespace, now_s=now_s, options=options)
    sysctls = settings(carrier, namespace_of(facts, namespace))
    return tried(carrier, trial, facts, facts, sysctls, options, run_here=True)


def tried(
    carrier: Carrier,
    trial: Trial,
    host: Facts,
    network: Facts,
    sysctls: Mapping[str, str],
    options: Options,
    *,
    run_here: bool = False,
) -> Proof:
    """Trace the packet and a sample of flows in two copies, one without the fix and one with it.

    Args:
        carrier: This machine.
        trial: What is tried out.
        host: Identity and kernel of this machine.
        network: Devices, addresses, routes, policy rules and neighbours of the namespace that is copied.
        sysctls: Its settings, by their paths below /proc/sys.
        options: What the operator chose.
        run_here: The rules run on this machine, so that what they need is loaded.
    """
    changed = change(trial.rule_sets, trial.fix, trial.flow, trial.decided)
    if changed.reason:
        return _failed(changed.reason)
    packet = trial.packet
    here = Here(network, packet.namespace)
    flows = sample(
        packet,
        trial.rule_sets,
        own=[bare(row) for row in here.addresses if row.device != "lo"],
        devices=[link.name for link in here.links if link.up and not link.loopback],
    )
    try:
        there = trial.rule_sets if run_here else ()
        level = _level(carrier, host, changed.rule_sets, there, packet, options)
        kind = next((each for each in _KINDS if Context(kernel=host.kernel.value).present(each)), "")
        if not kind and not options.load_modules:
            raise CannotCopy("making devices would load dummy into the kernel: --load-modules allows it")
        told: list[list[tuple[TracedPacket, Asked]]] = []
        no_ops: dict[FirewallRule, None] = {}
        not_copied: dict[str, None] = {}
        met = (packet, *flows)
        for rule_sets in (changed.rule_sets, trial.rule_sets):
            plan = copy_of(
                network,
                packet.namespace,
                kind=kind or _KINDS[0],
                named=devices_named(rule_sets),
                packet=packet,
                sysctls=sysctls,
            )
            loads = loads_of(rule_sets, plain=trial.plain)
            with contextlib.closing(RulesCopy(carrier, plan, loads, host, level, options)) as copy:
                no_ops.update(dict.fromkeys(copy.no_ops))
                not_copied.update(dict.fromkeys(copy.not_copied))
                told.append(_told(copy, met, trial.sign))
            # Who does not come to the rule that is new goes the same way without it.
            met = (packet, *(flow for flow, asked in told[0][1:] if asked.signed))
    except UsageError as error:
        return _failed(str(error))
    after, before = told
    without = dict(before[1:])
    found = prove(
        ProofLevel.KERNEL,
        (before[0][1], after[0][1]),
        [(flow, without.get(flow, asked), asked) for flow, asked in after[1:] if flow in without or not asked.signed],
        changed.meant,
        no_ops=tuple(no_ops),
        not_copied=tuple(not_copied),
    )
    return held_to(found, trial.decided)


def _told(copy: RulesCopy, met: tuple[TracedPacket, ...], sign: str) -> list[tuple[TracedPacket, Asked]]:
    packet, *flows = met
    found = [copy.trace(packet, wait_ms=_WAIT_MS), *copy.trace_all(flows, wait_ms=_SAMPLE_WAIT_MS)]
    return [(flow, of_trace(each, copy.no_ops, sign)) for flow, each in zip(met, found, strict=False)]


def _level(
    carrier: Carrier,
    host: Facts,
    rule_sets: Sequence[RuleSet],
    there: Sequence[RuleSet],
    packet: TracedPacket,
    options: Options,
) -> Level:
    """How packets are traced in the copies.

    Args:
        carrier: This machine.
        host: Its identity and kernel.
        rule_sets: What is to be loaded.
        there: Rules that this kernel has loaded.
        packet: What is traced.
        options: What the operator chose.

    Raises CannotCopy where none can be traced, or a module would have to be loaded.
    """
    identity, kernel = host.identity.value, Context(kernel=host.kernel.value)
    if identity is None or not identity.is_root:
        raise CannotCopy("a copy of the rules needs root: sudo netdiag firewall allow --prove makes it")
    report = judge(host)
    if not report.level.traces:
        raise CannotCopy(f"this kernel traces no packets ({report.why}), so nothing can be proven in a copy")
    needed = features_needed(host, report.level, arrives=packet.path is not TracePath.OUT)
    (answer,) = carrier.ask([modules_request(identity.kernel_release)])
    modules = modules_of(answer)
    loaded = {name for load in loads_of(there, plain=None) for name in _would_load(load, kernel, modules)}
    missing = [name for name in needed if not kernel.present(name)]
    for load in loads_of(rule_sets, plain=None):
        missing += [name for name in _would_load(load, kernel, modules) if name not in loaded]
    if missing and not options.load_modules:
        words = ", ".join(dict.fromkeys(missing))
        raise CannotCopy(f"the copy would load {words} into the kernel: --load-modules allows it")
    return report.level


def _would_load(load: Load, kernel: Context, modules: Modules) -> tuple[str, ...]:
    features = {
        Backend.IPTABLES_NFT: ("nf_tables", "nft_compat"),
        Backend.IPTABLES_LEGACY: ("ip6_tables" if load.family == 6 else "ip_tables",),
        Backend.NFT_NATIVE: ("nf_tables",),
        Backend.IPSET: ("ip_set",),
    }[load.backend]
    absent = tuple(name for name in features if not kernel.present(name))
    return () if modules.locked else (*absent, *modules.missing(load.backend, load.family, load.text))


def _failed(reason: str) -> Proof:
    nothing = Fate(verdict=TraceVerdict.UNKNOWN, reason=reason)
    return Proof(level=ProofLevel.KERNEL, before=nothing, after=nothing, reason=reason)
