"""What the Docker engine must have written for a container of its bridges, against the rules that run.

Sources: recordings of 20.10.24; moby integration/network/bridge/iptablesdoc/generated (27 and 29).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from netdiag.causes import cause
from netdiag.firewall.save_text import SavedChain, SavedRule, read_save
from netdiag.model.facts import Backend, RuleSet
from netdiag.model.path import Way
from netdiag.model.report import Cause, Confidence, Evidence, Remedy, Risk

_BACKENDS = (Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY)
_CHAIN = "DOCKER"
_FORWARDING = "DOCKER-FORWARD"
"""From 28.0 on the engine's jumps stand here instead of in FORWARD."""


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """What is not there: a chain, or the rule of a chain; ``all_gone``: nothing of the engine's is left at all."""

    backend: Backend
    table: str
    chain: str
    what: str
    all_gone: bool = False


def missing_for(way: Way, rule_sets: Sequence[RuleSet], bridge: str) -> Missing | None:
    """The first rule or chain that the engine needs for a way into a container of its, and that does not run.

    Args:
        way: Into a container through its host's forwarding.
        rule_sets: The rules of that host.
        bridge: The container's bridge.

    None where all is there, or where these rules are not the engine's kind (its nftables backend).
    """
    backend, tables = _tables(rule_sets)
    if backend is None:
        return None
    wanted = _wanted(way, tables, bridge)
    return next((msgspec.structs.replace(each, backend=backend) for each in wanted), None)


def missing_cause(way: Way, host: str, missing: Missing, *, confidence: Confidence) -> Cause:
    """The cause, with the engine's restart as its remedy: it alone knows all that it had written."""
    text = f"{missing.table} {missing.chain}: {missing.what}"
    return cause(
        "firewall.docker-chains-missing",
        host=host,
        object={
            "kind": "chain",
            "backend": missing.backend.value,
            "namespace": "host",
            "family": "ip6" if ":" in way.destination.address else "ip",
            "table": missing.table,
            "chain": missing.chain,
        },
        confidence=confidence,
        explanation=(
            f"The engine of {host} publishes {way.destination.container}, and of its rules {missing.what} is missing"
            f" in {missing.table} {missing.chain}."
        ),
        evidence=(Evidence("rule", text),),
        remedy=(
            Remedy(
                host=host,
                summary="let the engine write its rules again (containers without a restart policy stop)",
                commands=("systemctl restart docker",),
                risk=Risk.DISRUPTIVE,
            ),
        ),
    )


def _tables(rule_sets: Sequence[RuleSet]) -> tuple[Backend | None, Mapping[str, Mapping[str, SavedChain]]]:
    """The tables of the backend in which the engine's chain is; where none has it, of the one that has most chains."""
    read = [
        (rules.backend, read_save(rules.text).tables)
        for rules in rule_sets
        if rules.backend in _BACKENDS and rules.family == 4
    ]
    read.sort(key=lambda each: (-_engine_chains(each[1]), -sum(map(len, each[1].values()))))
    return read[0] if read else (None, {})


def _engine_chains(tables: Mapping[str, Mapping[str, SavedChain]]) -> int:
    return sum(name.startswith(_CHAIN) for chains in tables.values() for name in chains)


def _wanted(way: Way, tables: Mapping[str, Mapping[str, SavedChain]], bridge: str) -> Iterator[Missing]:
    gone = not _engine_chains(tables)
    nat, filtering = tables.get("nat", {}), tables.get("filter", {})

    def lacks(table: str, chain: str, what: str) -> Missing:
        return Missing(backend=_BACKENDS[0], table=table, chain=chain, what=what, all_gone=gone)

    if way.called:
        if _CHAIN not in nat:
            yield lacks("nat", _CHAIN, "the chain")
        elif not _jumps(nat.get("PREROUTING"), _CHAIN):
            yield lacks("nat", "PREROUTING", f"the jump to {_CHAIN}")
        elif not any(_asks(rule, "--dport", str(way.port)) and "DNAT" in rule.words for rule in nat[_CHAIN].rules):
            yield lacks("nat", _CHAIN, f"the rule for port {way.port}")
    if _CHAIN not in filtering:
        yield lacks("filter", _CHAIN, "the chain")
        return
    forward = [filtering[name] for name in ("FORWARD", _FORWARDING, "DOCKER-BRIDGE") if name in filtering]
    if not any(_jumps(chain, _CHAIN) for chain in forward):
        yield lacks("filter", "FORWARD", f"the jump to {_CHAIN} for {bridge}")
    elif _FORWARDING in filtering and not _jumps(filtering.get("FORWARD"), _FORWARDING):
        yield lacks("filter", "FORWARD", f"the jump to {_FORWARDING}")
    elif way.called and not any(_accepts(rule, way) for rule in filtering[_CHAIN].rules):
        yield lacks("filter", _CHAIN, f"the rule that accepts {way.destination.address} port {way.end_port}")


def _jumps(chain: SavedChain | None, target: str) -> bool:
    return chain is not None and any(_asks(rule, "-j", target) for rule in chain.rules)


def _asks(rule: SavedRule, option: str, value: str) -> bool:
    return any(pair == (option, value) for pair in zip(rule.words, rule.words[1:], strict=False))


def _accepts(rule: SavedRule, way: Way) -> bool:
    address = way.destination.address
    to = any(_asks(rule, "-d", text) for text in (address, f"{address}/32"))
    return to and _asks(rule, "--dport", str(way.end_port)) and _asks(rule, "-j", "ACCEPT")
