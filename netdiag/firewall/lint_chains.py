"""Checks of chains: those that nothing leads to, an operator's, the engine's and Calico's; and two variants at a hook."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from netdiag.firewall.lint_context import Check, Context, Found
from netdiag.firewall.lint_covers import demands
from netdiag.firewall.netfilter.rules import HOOKS_OF, Chain, Decide, Pass, Return, Verdict
from netdiag.firewall.standing import StandingTable
from netdiag.model.engine import Engine
from netdiag.model.facts import HOST
from netdiag.model.firewall import Owner
from netdiag.model.firewall_lint import Severity

_GENERATORS = ("shorewall", "smurfs", "LOCALINPUT", "fw_input", "input_rule")
"""Chains by which programs are known that write a whole rule set under neutral names: shorewall (two),
csf, OpenWrt's fw3."""
_FRAME = (
    # table, chain, the base chain that has to lead to it; moby daemon/libnetwork/iptables, service_linux.go.
    ("filter", "DOCKER-USER", "FORWARD"),
    ("filter", "DOCKER-FORWARD", "FORWARD"),
    ("filter", "DOCKER", "FORWARD"),
    ("filter", "DOCKER-INGRESS", "FORWARD"),
    ("nat", "DOCKER", "PREROUTING"),
    ("nat", "DOCKER-INGRESS", "PREROUTING"),
)
_WITHOUT_RULES = frozenset({("nat", "DOCKER"), ("filter", "DOCKER-USER")})
"""Chains to which the engine jumps whatever they hold; to the others only where a network or a port needs it."""
_FELIX = ("cali-", "felix-")


def _unreachable(context: Context) -> Iterator[Found]:
    for table in context.standing.tables:
        if table.table.missing or any(name in table.chains for name in _GENERATORS):
            continue
        for name, chain in table.chains.items():
            if name in HOOKS_OF.get(table.name, ()) or name in table.reached:
                continue
            if _chooses(chain) and table.owner(name) is Owner.OPERATOR and not table.calls.get(name):
                count = len(chain.rules)
                yield Found(
                    summary=f"{table.name} {name}: no rule jumps to this chain, and its {_rules(count)} never asked",
                    places=(table.place(name),),
                )


def _rules(count: int) -> str:
    return "rule is" if count == 1 else f"{count} rules are"


def _chooses(chain: Chain) -> bool:
    """Whether it decides by what a packet is: a chain that logs and drops whatever comes is kept at hand for others."""
    return any(demands(rule) and not isinstance(rule.target, Pass | Return) for rule in chain.rules)


def _does_something(chain: Chain) -> bool:
    return any(not isinstance(rule.target, Pass | Return) for rule in chain.rules)


def _engine(context: Context) -> Iterator[Found]:
    for table in context.standing.tables:
        if table.table.missing or table.table.cut_off:
            continue
        for name, chain, base in _FRAME:
            if name != table.name or chain not in table.chains or chain in table.reached_from(base):
                continue
            if (name, chain) not in _WITHOUT_RULES and not _does_something(table.chains[chain]):
                continue
            if not _engines(table):
                continue  # written for an engine that adds the jump when it starts
            yield Found(
                summary=f"{name} {base} does not lead to {chain}: {_LOST[chain]}",
                places=(table.place(chain), table.place(base)) if base in table.chains else (table.place(chain),),
            )
    yield from _engine_by_facts(context)


def _engines(table: StandingTable) -> bool:
    """Whether a table has chains that only an engine makes: an operator may write DOCKER-USER before it starts."""
    return any(name.startswith("DOCKER") and name != "DOCKER-USER" for name in table.chains)


_LOST = {
    "DOCKER-USER": "the operator's rules for containers, and the engine's own, are not asked",
    "DOCKER-FORWARD": "the engine's rules for its bridges are not asked",
    "DOCKER": "published ports lead nowhere",
    "DOCKER-INGRESS": "ports that services publish lead nowhere",
}


def _engine_by_facts(context: Context) -> Iterator[Found]:
    """The engine runs, and nothing of it is left: what ``nft flush ruleset`` and the start of firewalld leave behind."""
    standing = context.standing
    engine = standing.facts.engine.value if standing.facts is not None else None
    if engine is None or standing.namespace != HOST or standing.unknown or not _writes_iptables(engine):
        return
    tables = [table for table in standing.tables if table.family == 4]
    if any(_engines(table) for table in tables):
        return
    published = [each.name for each in engine.containers if each.running and each.ports]
    if published:
        yield Found(
            summary=f"the engine runs and publishes ports of {published[0]}, and none of its chains is there",
            remedy="systemctl restart docker (containers without a restart policy stop); with iptables: false in its"
            " daemon.json the engine writes none, and this is as it should be.",
        )


def _writes_iptables(engine: Engine) -> bool:
    return not engine.firewall_backend.startswith("nftables") and not engine.rootless


def _calico(context: Context) -> Iterator[Found]:
    for table in context.standing.tables:
        if table.table.missing or table.table.cut_off:
            continue
        for name, chain in table.chains.items():
            base = next((name.removeprefix(start) for start in _FELIX if name.startswith(start)), "")
            if base in HOOKS_OF.get(table.name, ()) and chain.rules and name not in table.reached_from(base):
                yield Found(
                    summary=f"{table.name} {base} does not lead to {name}: Calico's rules are not asked at {base}",
                    places=(table.place(name), table.place(base)) if base in table.chains else (table.place(name),),
                )


def _split(context: Context) -> Iterator[Found]:
    sure = {text.name for text in context.standing.texts if text.sure_backend}
    by: dict[tuple[int, str, str], dict[str, StandingTable]] = {}
    for table in context.standing.tables:
        if table.name in ("nat", "raw") or table.file not in sure:
            continue
        for base in table.bases:
            if _asks(table, base):
                by.setdefault((table.family, table.name, base), {}).setdefault(table.backend, table)
    for (_, name, base), variants in by.items():
        if len(variants) < 2:
            continue
        stops = [table for table in variants.values() if _may_stop(table, base)]
        if not stops:
            continue
        who = " and ".join(table.backend for table in stops)
        yield Found(
            summary=f"{name} {base} has rules in iptables-legacy and in iptables-nft: a packet has to pass both, and"
            f" what {who} drops is lost whatever the other accepts",
            places=tuple(table.place(base) for table in variants.values()),
        )


def _asks(table: StandingTable, base: str) -> bool:
    chain = table.chains[base]
    return bool(chain.rules) or chain.policy == "DROP"


def _may_stop(table: StandingTable, base: str) -> bool:
    if table.chains[base].policy == "DROP":
        return True
    return any(
        isinstance(rule.target, Decide) and rule.target.verdict in (Verdict.DROP, Verdict.REJECT)
        for name in table.reached_from(base)
        for rule in table.chains[name].rules
    )


def _native(context: Context) -> Iterator[Found]:
    """An operator's table of nft's beside iptables' rules: as it may be meant, and not what one of the tools shows."""
    hooks: Mapping[str, str] = {"input": "INPUT", "forward": "FORWARD", "output": "OUTPUT"}
    for native in context.standing.natives:
        if native.family not in ("ip", "ip6", "inet") or not native.stops() or _is_program(native.name):
            continue
        for hook, base in hooks.items():
            beside = [
                table
                for table in context.standing.of("filter", 6 if native.family == "ip6" else 4)
                if hook in native.hooks and base in table.chains and _asks(table, base)
            ]
            if beside:
                yield Found(
                    summary=f"nft's table {native.family} {native.name} drops at {hook}, where {beside[0].backend} has"
                    " rules too: a packet has to pass both",
                    places=tuple(table.place(base) for table in beside),
                    severity=Severity.INFO,
                )
                break


def _is_program(table: str) -> bool:
    from netdiag.firewall.owner import owner_of

    return owner_of("", "", table) is not Owner.OPERATOR


CHECKS = (
    Check(
        id="lint.unreachable-chain",
        title="an operator's chains that nothing jumps to",
        explains="A chain that is only called is asked where a rule jumps to it; without one its rules do nothing.",
        remedy="Add the jump (iptables -A INPUT -j CHAIN), or delete the chain (iptables -F CHAIN; iptables -X CHAIN).",
        severities=(Severity.WARNING,),
        run=_unreachable,
    ),
    Check(
        id="lint.engine-jumps",
        title="chains of the Docker engine that are not jumped to",
        explains=(
            "The engine writes its chains and the jumps to them at its start, and does not look at them again. Whatever"
            " flushed the rules since (iptables -F, a restored file, the start of firewalld) took the jumps, and with"
            " them published ports, the way out of containers, and what keeps networks apart."
        ),
        remedy="systemctl restart docker: the engine writes all of them again (containers without a restart policy stop).",
        severities=(Severity.WARNING,),
        run=_engine,
    ),
    Check(
        id="lint.calico-jumps",
        title="chains of Calico that are not jumped to",
        explains=(
            "Felix puts a jump to its chain into each base chain and looks at it every 90 s (refresh interval). Where it is"
            " missing Felix does not run, or something takes the jump away again; policies do not hold meanwhile."
        ),
        remedy="See whether calico-node runs on this host, and what else restores rules there; then restart calico-node.",
        severities=(Severity.WARNING,),
        run=_calico,
    ),
    Check(
        id="lint.split-backends",
        title="rules in both variants of iptables at one hook",
        explains=(
            "iptables-legacy and iptables-nft keep separate rules, and each tool shows only its own. The kernel asks both:"
            " an accept in one is no accept in the other."
        ),
        remedy="Keep one: update-alternatives --display iptables says which the name stands for; move the rules of the"
        " other there, and flush it.",
        severities=(Severity.WARNING,),
        run=_split,
    ),
    Check(
        id="lint.native-table",
        title="an operator's table of nft's beside rules of iptables'",
        explains=(
            "iptables does not show the tables that nft wrote. A packet has to be accepted by both; that may be meant."
        ),
        remedy="Nothing has to be done; whoever opens a port has to open it in both.",
        severities=(Severity.INFO,),
        run=_native,
    ),
)
