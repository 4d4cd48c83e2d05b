"""Somebody answers who is not the destination: a program of the host that stands where translation should be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from netdiag.causes import cause
from netdiag.model.facts import Facts, FeatureState, RuleSet
from netdiag.model.found import Found
from netdiag.model.path import Sight, Way
from netdiag.model.report import Answer, Cause, Confidence, Evidence, Need, State, Subject
from netdiag.path.docker_chains import missing_cause, missing_for
from netdiag.path.ingress import SANDBOX
from netdiag.path.verdict import sight_evidence


def untranslated_cause(way: Way, facts: Facts, rule_sets: Sequence[RuleSet], *, host: str) -> Cause | None:
    """Why a call to a published port stays on the host; None where nothing tells.

    Args:
        way: To the published port. The kernel was asked, and leads the call nowhere.
        facts: Of the host that publishes it.
        rule_sets: That host's rules.
        host: Its name.
    """
    kernel = facts.kernel.value
    feature = kernel.features.get("ip_vs") if kernel is not None else None
    if way.destination.namespace == SANDBOX and feature is not None and feature.state is FeatureState.MISSING:
        release = facts.identity.value.kernel_release if facts.identity.value is not None else ""
        return cause(
            "overlay.ipvs",
            host=host,
            object={"kind": "feature", "feature": "ip_vs", "kernel": release},
            confidence=Confidence.PROVEN,
            explanation=(
                f"The kernel of {host} has no ip_vs, so that the engine could not set up the routing mesh:"
                f" {way.protocol}/{way.port} leads to no task."
            ),
            evidence=(Evidence("feature", f"ip_vs: {feature.evidence}"),),
            affects=("published ports", "virtual IPs"),
        )
    missing = missing_for(way, rule_sets, "its bridge") if way.destination.namespace != SANDBOX else None
    if missing is None:
        return None
    return missing_cause(way, host, missing, confidence=Confidence.LIKELY if missing.all_gone else Confidence.PROVEN)


def another_found(way: Way, sights: Sequence[Sight], causes: Sequence[Cause]) -> Iterator[Found]:
    """The findings: one for each cause, or one that says what is not known."""
    subject = Subject(host=way.source.host, peer=way.destination.host)
    last = way.places[-1].where
    summary = f"somebody answers on {way.target} {way.protocol}/{way.port}, and nothing of it comes to {last}"
    evidence = sight_evidence(way, sights)
    for one in causes:
        yield Found(
            check="path.another", state=State.FAIL, subject=subject, summary=summary, evidence=evidence, cause=one
        )
    if not causes:
        yield Found(
            check="path.another",
            state=State.UNKNOWN,
            subject=subject,
            summary=summary,
            evidence=evidence,
            answers={Need.TRAFFIC: Answer.UNKNOWN},
            reason="no filter and no engine's rule tells who answers in its place: ss -lntp on that host does",
        )
