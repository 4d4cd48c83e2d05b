"""Whose rule: by the names of chains and tables, by the fixed forms of what programs write, and by who called.

A word in a comment proves nothing: an operator's rule may say "docker".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

import msgspec

from netdiag.firewall import calico_rules, docker_rules
from netdiag.firewall.belongs import PACKAGED_POLICIES, PACKAGED_ZONES, Place, serves
from netdiag.firewall.clues import Clues, clues
from netdiag.firewall.engine_view import EngineView
from netdiag.firewall.save_text import BUILT_IN, nft_family, read_save
from netdiag.model.engine import Engine
from netdiag.model.facts import HOST, Backend, Facts
from netdiag.model.firewall import FirewallRule, Owner

# Sources: moby daemon/libnetwork/iptables, felix rules/rule_defs.go, firewalld src/firewall/core/ipXtables.py,
# ufw src/backend_iptables.py, kubernetes pkg/proxy/iptables/proxier.go, fail2ban action.d/iptables.conf,
# netavark test/100-bridge-iptables.bats, libvirt src/network/network_iptables.c.
_CHAINS: tuple[tuple[re.Pattern[str], Owner], ...] = (
    (re.compile(r"^DOCKER-INGRESS$"), Owner.SWARM),
    (re.compile(r"^DOCKER(-|_OUTPUT$|_POSTROUTING$|$)"), Owner.DOCKER),
    (re.compile(r"^(cali(-|(pi|po|fw|tw|fh|th)-)|felix-)"), Owner.CALICO),
    (
        re.compile(r"^(INPUT|OUTPUT|FORWARD|PREROUTING|POSTROUTING)_(direct$|(IN_|OUT_)?ZONES|POLICIES_(pre|post)$)"),
        Owner.FIREWALLD,
    ),
    (re.compile(r"^ufw6?-"), Owner.UFW),
    (re.compile(r"^KUBE-"), Owner.KUBE),
    (re.compile(r"^(f2b|fail2ban)-"), Owner.FAIL2BAN),
    (re.compile(r"^NETAVARK[-_]"), Owner.PODMAN),
    (re.compile(r"^LIBVIRT_(INP|OUT|FWI|FWO|FWX|PRT)$"), Owner.LIBVIRT),
    (re.compile(r"^netdiag-"), Owner.NETDIAG),
)

# firewalld src/firewall/core/nftables.py, moby daemon/libnetwork/drivers/{bridge/internal/nftabler,overlay}, kube-proxy's
# pkg/proxy/nftables/proxier.go, felix/nftables/table.go, fail2ban action.d/nftables.conf.
_TABLES = {
    "firewalld": Owner.FIREWALLD,
    "docker-bridges": Owner.DOCKER,
    "docker-overlay": Owner.SWARM,
    "kube-proxy": Owner.KUBE,
    "calico": Owner.CALICO,
    "netavark": Owner.PODMAN,
    "libvirt_network": Owner.LIBVIRT,
}

# Docker's chain for the operator's rules: others put theirs there as well, as in a built-in chain.
_FOR_OPERATORS = "DOCKER-USER"

_ZONE_CHAIN = re.compile(r"^(?:IN|FWD|FWDI|FWDO|PRE|POST)_(.+?)(_(?:pre|log|deny|allow|post))?$")
_REFUSED_BY_FIREWALLD = ("icmp-host-prohibited", "icmp6-adm-prohibited")
_FAIL2BAN_SET = re.compile(r"^f2b-")


def owner_of(chain: str, text: str, nft_table: str = "", *, chains: Collection[str] = ()) -> Owner:
    """The owner of a rule as far as its own place and text say, without those who call its chain.

    Args:
        chain: The rule's chain.
        text: The rule as saved.
        nft_table: Its table where no iptables wrote it: programs that write nft have one of their own.
        chains: The chains of its table, where known.
    """
    named = _owner_of_table(nft_table) or _owner_of_chain(chain, clues(text))
    if named is not None:
        return named
    if _is_zone_chain(chain, chains):
        return Owner.FIREWALLD
    return _owner_in_everybodys_chain(chain, clues(text), HOST, chains, EngineView(None)) or Owner.OPERATOR


def attribute(
    rule: FirewallRule,
    called_from: tuple[FirewallRule, ...] = (),
    facts: Facts | None = None,
    *,
    chains: Collection[str] = (),
) -> FirewallRule:
    """The rule with its owner, and what of its owner's it serves. Never raises.

    Args:
        rule: A rule, or a chain's policy.
        called_from: The rules that led to its chain, innermost first.
        facts: What is known of the host; names of networks, containers, services and profiles come from there.
        chains: The chains of the rule's table, where the caller has them at hand; else they are taken from the facts.
    """
    engine = facts.engine.value if facts else None
    calico = facts.calico.value if facts else None
    view = EngineView(engine)
    known = chains or _chains_of(rule, facts)
    if rule.policy is not None:
        owner = _owner_of_policy(rule, known, engine)
        place = Place(rule=rule, clues=Clues(), callers=(), view=view, calico=calico)
        return msgspec.structs.replace(rule, owner=owner, belongs_to=serves(owner, place))
    stack = [(one, clues(one.text)) for one in (rule, *called_from)]
    owner, depth = Owner.OPERATOR, 0
    for position, (one, taken) in enumerate(stack):
        found = _owner_at(one, taken, known, view, is_last=position == len(stack) - 1)
        if found is not None:
            owner, depth = found, position
            break
    # The zone's own chain says more than the rule that called it.
    while owner is Owner.FIREWALLD and depth and _ZONE_CHAIN.match(stack[depth - 1][0].chain):
        depth -= 1
    place = Place(
        rule=stack[depth][0], clues=stack[depth][1], callers=tuple(stack[depth + 1 :]), view=view, calico=calico
    )
    return msgspec.structs.replace(rule, owner=owner, belongs_to=serves(owner, place))


def _owner_of_table(nft_table: str) -> Owner | None:
    by_beginning = {"netdiag-": Owner.NETDIAG, "f2b-": Owner.FAIL2BAN}
    found = next((owner for start, owner in by_beginning.items() if nft_table.startswith(start)), None)
    return found or _TABLES.get(nft_table)


def _owner_at(
    rule: FirewallRule, taken: Clues, chains: Collection[str], view: EngineView, *, is_last: bool
) -> Owner | None:
    """Whose place it is; None for a chain of a neutral name, which belongs to who calls it."""
    native = rule.backend is Backend.NFT_NATIVE
    found = _owner_of_table(rule.table if native else "")
    if found is not None:
        return found
    if native and rule.family not in ("ip", "ip6"):
        return Owner.OPERATOR  # programs that write nft have tables of their own, and iptables has none of these
    found = _owner_of_chain(rule.chain, taken)
    if found is not None:
        return found
    if rule.chain not in BUILT_IN and rule.chain != _FOR_OPERATORS:
        if not is_last:
            return None
        if _is_zone_chain(rule.chain, chains):
            return Owner.FIREWALLD
    return _owner_in_everybodys_chain(rule.chain, taken, rule.namespace, chains, view) or Owner.OPERATOR


def _owner_of_chain(chain: str, rule: Clues) -> Owner | None:
    """Whose chain it is by its name; None for a neutral name and for chains that everybody uses."""
    if chain == _FOR_OPERATORS:
        return None
    owner = next((owner for pattern, owner in _CHAINS if pattern.match(chain)), None)
    if owner in (Owner.DOCKER, Owner.SWARM) and docker_rules.is_foreign_in_own_chain(chain, rule):
        return Owner.OPERATOR
    if owner is Owner.FIREWALLD and any(_FAIL2BAN_SET.match(name) for name in rule.sets):
        return Owner.FAIL2BAN  # its firewalld actions write direct rules
    return owner


def _owner_in_everybodys_chain(
    chain: str, rule: Clues, namespace: str, chains: Collection[str], view: EngineView
) -> Owner | None:
    """Whose rule it is in a chain where many write: by the program's chain that it calls, or by its form."""
    bare = rule.asks() and not rule.comments
    if chain == _FOR_OPERATORS and rule.target == "RETURN" and bare:
        return Owner.DOCKER  # the engine ends the chain with it
    if rule.calls == _FOR_OPERATORS:
        return Owner.DOCKER if chain == "FORWARD" and bare else Owner.OPERATOR
    called = next((owner for pattern, owner in _CHAINS if pattern.match(rule.calls)), None) if rule.calls else None
    if called in (Owner.DOCKER, Owner.SWARM) and (rule.comments or chain == _FOR_OPERATORS):
        return Owner.OPERATOR
    if called is not None:
        return called
    if calico_rules.is_felix(rule):
        return Owner.CALICO
    if any(_FAIL2BAN_SET.match(name) for name in rule.sets):
        return Owner.FAIL2BAN
    if chain in ("INPUT", "FORWARD", "OUTPUT") and f"{chain}_direct" in chains and _is_firewalld_frame(rule):
        return Owner.FIREWALLD
    return docker_rules.owner_by_form(chain, rule, namespace, view)


def _is_firewalld_frame(rule: Clues) -> bool:
    """The rules that firewalld's iptables backend puts around the calls of its chains."""
    if rule.comments:
        return False
    if rule.target == "REJECT":
        return rule.asks() and rule.options.get("--reject-with") in _REFUSED_BY_FIREWALLD
    if rule.target == "DROP":
        return rule.asks("--ctstate") and rule.matches["--ctstate"] == "INVALID"
    if rule.target == "ACCEPT" and rule.asks("--ctstate"):
        return rule.matches["--ctstate"] in ("RELATED,ESTABLISHED", "RELATED,ESTABLISHED,DNAT")
    return (
        rule.target == "ACCEPT" and "lo" in (rule.matches.get("-i"), rule.matches.get("-o")) and len(rule.matches) == 1
    )


def _is_zone_chain(chain: str, chains: Collection[str]) -> bool:
    """Whether a name is that of a zone's or policy's chain of firewalld.

    An operator may name a chain IN_web as well, so it takes one of the names that firewalld comes with, one of its
    endings, or its brothers.
    """
    found = _ZONE_CHAIN.match(chain)
    if found is None:
        return False
    base = chain[: found.start(2)] if found[2] else chain
    return (
        found[1] in PACKAGED_ZONES | PACKAGED_POLICIES
        or bool(found[2])
        or {f"{base}_allow", f"{base}_deny"} <= set(chains)
    )


def _owner_of_policy(rule: FirewallRule, chains: Collection[str], engine: Engine | None) -> Owner:
    """Who set a chain's policy. A policy bears no mark: what is said is who sets such a one on such a host."""
    named = _owner_of_table(rule.table if rule.backend is Backend.NFT_NATIVE else "")
    if named is not None:
        return named
    if str(rule.policy).upper() != "DROP" or rule.namespace != HOST or rule.table != "filter":
        return Owner.OPERATOR
    if rule.family not in ("ip", "ip6"):
        return Owner.OPERATOR
    # ufw sets all three at each of its starts; the engine sets FORWARD's when it switches forwarding on.
    if any(name.startswith(("ufw-before-", "ufw6-before-")) for name in chains):
        return Owner.UFW
    likely = engine is not None and not chains and not engine.firewall_backend.startswith("nftables")
    if rule.chain == "FORWARD" and ("DOCKER" in chains or likely):
        return Owner.DOCKER
    return Owner.OPERATOR


def _chains_of(rule: FirewallRule, facts: Facts | None) -> Collection[str]:
    """The chains of the rule's table, from the facts."""
    by_namespace = facts.firewall.value if facts else None
    found: Iterable[str] = ()
    for rules in (by_namespace or {}).get(rule.namespace, ()):
        if rules.backend is rule.backend and nft_family(rules.family) == rule.family:
            found = read_save(rules.text).tables.get(rule.table, {})
    return frozenset(found)
