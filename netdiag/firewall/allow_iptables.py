"""An accept in iptables' chains: right before the rule that decides, or where the operator's rules belong."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from netdiag.firewall.around import Around, call_sites, is_programs_chain, left_by, passed_untracked
from netdiag.firewall.by_connection import asks_for_invalid
from netdiag.firewall.flow import Flow, answers_of
from netdiag.firewall.persist import keep_by_hand
from netdiag.firewall.save_text import BUILT_IN
from netdiag.model.facts import Backend
from netdiag.model.firewall import FirewallRule, Owner
from netdiag.model.fix import Fix, Proposal
from netdiag.model.trace import Trace

DOCKER_USER = "DOCKER-USER"
_DOCKERS = (Owner.DOCKER, Owner.SWARM)


UNTRACKED = (
    "a rule takes this flow from connection tracking, so that its answers come as packets of their own: there are two"
    " rules, one for each direction"
)


class Spot(msgspec.Struct, frozen=True, kw_only=True):
    """Where a rule goes: before number ``number`` of a chain, or behind its last rule."""

    chain: str
    number: int | None
    notes: tuple[str, ...] = ()

    def place(self, table: str) -> str:
        """In words."""
        if self.number is None:
            return f"{table} {self.chain}, behind its last rule"
        return f"{table} {self.chain}, before rule {self.number}"


def tool_of(rule: FirewallRule, *, both: bool, plain: Backend | None = None) -> str:
    """Which iptables writes where this rule is. The plain name is used only where it surely means that variant.

    Args:
        both: Both variants hold rules here.
        plain: What the plain name is, where that is known.
    """
    tool = "ip6tables" if rule.family == "ip6" else "iptables"
    if plain is rule.backend and not both:
        return tool
    if rule.backend is Backend.IPTABLES_LEGACY:
        return f"{tool}-legacy"
    return f"{tool}-nft" if both or plain is not None else tool


def match_words(flow: Flow) -> list[str]:
    """The flow in iptables' words."""
    words = ["-s", flow.source] if flow.source else []
    words += ["-d", flow.destination] if flow.destination else []
    words += ["-p", flow.protocol]
    if flow.icmp_type is not None:
        words += [f"--{'icmpv6' if flow.protocol == 'icmpv6' else 'icmp'}-type", str(flow.icmp_type)]
    words += ["--sport", str(flow.source_port)] if flow.source_port is not None else []
    words += ["--dport", str(flow.destination_port)] if flow.destination_port is not None else []
    return words


def tracked_words(flow: Flow) -> list[str]:
    """Both directions of a flow in iptables' words, by the addresses that opened it."""
    opened = flow.opened_by
    if opened is None:
        return match_words(flow)
    words = ["-p", flow.protocol, "-m", "conntrack", "--ctorigsrc", opened.source, "--ctorigdst", opened.destination]
    ported = flow.destination_port is not None or flow.source_port is not None
    if ported and opened.destination_port is not None:
        words += ["--ctorigdstport", str(opened.destination_port)]
    return words


def accept_words(
    tool: str, table: str, spot: Spot, flow: Flow, *, mark: str, tracked: bool = False
) -> tuple[list[str], list[str]]:
    """The command that adds an accept, and the one that deletes it again.

    ``mark`` is its comment: no other rule has it, so that nothing else is deleted. ``tracked``: for both directions. What stops a packet that passes through often stops its answers too.
    """
    head = [tool, *(() if table == "filter" else ("-t", table))]
    match = tracked_words(flow) if tracked else match_words(flow)
    rule = [*match, "-m", "comment", "--comment", mark, "-j", "ACCEPT"]
    place = ["-A", spot.chain] if spot.number is None else ["-I", spot.chain, str(spot.number)]
    return [*head, *place, *rule], [*head, "-D", spot.chain, *rule]


def plan_iptables(trace: Trace, rule: FirewallRule, flow: Flow, around: Around) -> Proposal:
    """The accept for a rule or policy that iptables wrote."""
    spot = _spot(trace, rule, around)
    if spot is None:
        owner = rule.owner.value
        return Proposal(
            reason=f"{rule.chain} belongs to {owner}, which writes it again, and the trace does not show which rule of"
            " a built-in chain leads there"
        )
    fix = fix_at(spot, rule, flow, around, trace)
    rules = [as_rule(command.argv, rule) for command in fix.commands]
    kept = keep_by_hand(around, rules, [command.text for command in fix.commands])
    return Proposal(fix=msgspec.structs.replace(fix, persist=kept))


def as_rule(argv: Sequence[str], beside: FirewallRule) -> FirewallRule:
    """What a command of ours adds, as a rules file has it."""
    start = next(index for index, word in enumerate(argv) if word in ("-A", "-I"))
    chain, rest = argv[start + 1], argv[start + 2 :]
    number = int(rest[0]) if argv[start] == "-I" else None
    words = rest if number is None else rest[1:]
    return FirewallRule(
        backend=beside.backend,
        family=beside.family,
        table=beside.table,
        chain=chain,
        number=number,
        text=" ".join(["-A", chain, *words]),
    )


def fix_at(spot: Spot, rule: FirewallRule, flow: Flow, around: Around, trace: Trace) -> Fix:
    """An accept at a place of the rule's own table; how it is kept is the caller's to say."""
    tool = tool_of(rule, both=around.both_variants(), plain=around.plain)
    # The table raw comes before connection tracking; where nothing tracks, a rule of ours must not begin it.
    untracked = flow.forwarded and rule.table != "raw" and passed_untracked(trace)
    followed = flow.forwarded and rule.table != "raw" and not untracked and around.tracks(rule)
    # What is invalid belongs to no connection: nothing that asks for who opened one matches it.
    tracked = followed and not (around.half or asks_for_invalid(rule))
    pairs = [accept_words(tool, rule.table, spot, flow, mark=around.mark, tracked=tracked)]
    answers = answers_of(flow) if untracked else None
    if answers is not None:
        there = _for_answers(spot, trace, rule)
        pairs.append(accept_words(tool, rule.table, there, answers, mark=around.mark))
    notes = list(spot.notes)
    if answers is not None:
        notes.append(UNTRACKED)
    elif tracked:
        notes.append("it lets the answers through as well: it goes by who opened the connection")
    elif flow.forwarded:
        notes.append("the answers come back as packets of their own, and may need a rule of their own")
    if rule.chain != "PREROUTING" and flow.forwarded and not _is_rewritten(flow, tracked=tracked):
        notes.append("a container's address changes when it is created anew; the rule does not follow it")
    return Fix(
        host=around.host,
        summary=f"accept this flow in {spot.place(rule.table)}",
        place=spot.place(rule.table),
        covers=flow.covers() if answers is None else f"{flow.covers()}, and its answers",
        commands=tuple(around.command(accept) for accept, _ in pairs),
        undo=tuple(around.command(undo) for _, undo in pairs),
        notes=tuple(notes),
    )


def _for_answers(spot: Spot, trace: Trace, rule: FirewallRule) -> Spot:
    """The same place, or before the call of a chain that is perhaps for one direction only."""
    if spot.chain in BUILT_IN or spot.chain == DOCKER_USER:
        return spot
    outer = [site.rule for site in call_sites(trace, rule)]
    return Spot(chain=outer[-1].chain, number=outer[-1].number) if outer else spot


def _is_rewritten(flow: Flow, *, tracked: bool) -> bool:
    """Whether the accept names a published address rather than the container's own."""
    return tracked and flow.opened_by is not None and flow.opened_by.destination != flow.destination


def _spot(trace: Trace, rule: FirewallRule, around: Around) -> Spot | None:
    """Where the accept goes; None where that cannot be told."""
    left = left_by(trace, rule) if rule.policy is not None else None
    # What leaves a chain before its end never comes to what is added there.
    outer = [left] if left is not None else [rule, *(site.rule for site in call_sites(trace, rule))]
    if rule.owner in _DOCKERS or is_dockers(rule.chain) or rule.policy is not None:
        spot = _docker_user(outer, around)
        if spot is not None:
            return spot
    for at in outer:
        if is_programs_chain(at.chain):
            continue
        notes: tuple[str, ...] = ()
        if at is not rule and at is not left:
            notes = (f"{rule.chain} is not touched: its owner, {rule.owner.value}, writes it again",)
        return Spot(chain=at.chain, number=at.number, notes=notes)
    return None


def is_dockers(chain: str) -> bool:
    """Whether a chain is one of the engine's own."""
    return chain != DOCKER_USER and (chain == "DOCKER" or chain.startswith("DOCKER-"))


def _docker_user(outer: list[FirewallRule], around: Around) -> Spot | None:
    """The engine's chain for the operator's rules, if FORWARD goes through it before it comes to what decides."""
    entry = outer[-1]
    if entry.table != "filter" or entry.chain != "FORWARD":
        return None
    forward, user = around.saved_chain(entry, "FORWARD"), around.saved_chain(entry, DOCKER_USER)
    if forward is None or user is None:
        return None
    before = any(
        each.words == ("-j", DOCKER_USER) and (entry.number is None or each.number < entry.number)
        for each in forward.rules
    )
    if not before:
        return None
    # Behind whatever the operator drops there himself, and before the engine's RETURN at the end.
    number = next((each.number for each in user.rules if {"RETURN", "-g", "--goto"} & set(each.words)), None)
    notes = ["the engine's own chains are not touched"]
    if any("ISOLATION" in each.chain for each in outer):
        notes.append(
            "the engine keeps these two networks apart on purpose; connecting both containers to one network is simpler"
        )
    return Spot(chain=DOCKER_USER, number=number, notes=tuple(notes))
