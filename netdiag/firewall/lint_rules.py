"""Checks of the order of rules: those that no packet meets, and those that stand twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from netdiag.firewall.lint_context import SHOWN, Check, Context, Found, Group
from netdiag.firewall.lint_groups import BEHIND, DUPLICATE, REDUNDANT, SHADOWED
from netdiag.model.firewall_lint import RulePlace, Severity


def _places(group: Group) -> tuple[RulePlace, ...]:
    taken = tuple(group.table.place(chain, rule) for chain, rule in group.rules[:SHOWN])
    by = (group.table.place(group.by_chain, group.by),) if group.by is not None else ()
    return (*taken, *by)


def _names(group: Group) -> str:
    """The rules in a few words: "filter INPUT rule 4", "… and 3 more"."""
    chain, rule = group.rules[0]
    more = len(group.rules) - 1
    return f"{group.table.name} {chain} rule {rule.number}" + (f" and {more} more" if more else "")


def _verb(group: Group, one: str, several: str) -> str:
    return one if len(group.rules) == 1 else several


def _of(kind: str, say: Callable[[Group], str], severity: Severity) -> Callable[[Context], Iterator[Found]]:
    def run(context: Context) -> Iterator[Found]:
        for group in context.groups:
            if group.kind == kind:
                yield Found(summary=say(group), places=_places(group), severity=severity)

    return run


def _behind(group: Group) -> str:
    by = f"{group.by_chain} rule {group.by.number}" if group.by is not None else ""
    return f"{_names(group)} {_verb(group, 'is', 'are')} never asked: {by} before takes every packet"


def _shadowed(group: Group) -> str:
    if group.by is None:
        how = f"the rules that lead to {group.rules[0][0]} leave no such packet"
    else:
        how = f"{group.by_chain} rule {group.by.number} before takes all of {_verb(group, 'its', 'their')} packets"
    return f"{_names(group)} {_verb(group, 'matches', 'match')} no packet: {how}"


def _redundant(group: Group) -> str:
    by = f"{group.by_chain} rule {group.by.number}" if group.by is not None else ""
    return f"{_names(group)} {_verb(group, 'does', 'do')} nothing: {by} before does the same with all of the packets"


def _duplicate(group: Group) -> str:
    by = f"rule {group.by.number}" if group.by is not None else ""
    return f"{_names(group)} is the same as {by} before"


CHECKS = (
    Check(
        id=BEHIND,
        title="rules behind one that takes every packet",
        explains=(
            "A chain is read from its first rule on. Behind a rule without conditions that accepts, drops, rejects or"
            " returns, no rule is asked: what was appended with iptables -A behind a final REJECT, or behind the RETURN"
            " that ends DOCKER-USER, does nothing."
        ),
        remedy="Insert the rule before the one that takes everything (iptables -I CHAIN NUMBER …), and delete this one.",
        severities=(Severity.WARNING,),
        run=_of(BEHIND, _behind, Severity.WARNING),
    ),
    Check(
        id=SHADOWED,
        title="rules whose packets an earlier one takes all",
        explains=(
            "Every packet that the rule asks for meets an earlier rule that decides otherwise, of the same chain or"
            " before the jump to it, so that this rule decides about none."
        ),
        remedy="Put the narrower rule before the wider one, or delete it if the wider one is meant.",
        severities=(Severity.WARNING,),
        run=_of(SHADOWED, _shadowed, Severity.WARNING),
    ),
    Check(
        id=REDUNDANT,
        title="rules that repeat what a wider one does",
        explains="An earlier rule does the same with all packets that this one asks for: it changes nothing.",
        remedy="Nothing has to be done; delete it, if it is not there to be counted.",
        severities=(Severity.INFO,),
        run=_of(REDUNDANT, _redundant, Severity.INFO),
    ),
    Check(
        id=DUPLICATE,
        title="rules that stand twice in a chain",
        explains=(
            "The same rule stands in the chain before. It does nothing, and whoever deletes one of them (iptables -D"
            " takes the first) still has the other."
        ),
        remedy="Delete one of the two; where a script wrote them, let it ask with iptables -C before it adds.",
        severities=(Severity.WARNING,),
        run=_of(DUPLICATE, _duplicate, Severity.WARNING),
    ),
)
