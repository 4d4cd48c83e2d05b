"""Removing what a killed trace left, in every network namespace that this host knows."""

from __future__ import annotations

from netdiag.errors import UsageError
from netdiag.facts.context import Context, Options, within
from netdiag.host.collect import collect
from netdiag.host.drive import Carrier
from netdiag.model.clean import Clean, Cleaned
from netdiag.model.wire import Request

_SWEEP_S = 5.0


def clean(carrier: Carrier, *, now_s: float, options: Options, only_say: bool) -> Clean:
    """Look into every namespace, and remove what is left there unless ``only_say``.

    Raises UsageError without root, or where the namespaces cannot be told.
    """
    facts = collect(carrier, ("identity", "kernel", "namespaces"), now_s=now_s, options=options)
    if facts.identity.value is None or not facts.identity.value.is_root:
        raise UsageError("clean needs root: it looks into every network namespace")
    if facts.namespaces.value is None:
        text = facts.namespaces.absent.text if facts.namespaces.absent is not None else "not known"
        raise UsageError(f"clean: network namespaces: {text}")
    if not Context(kernel=facts.kernel.value).present("nf_tables"):
        return Clean(
            plan=only_say, namespaces=()
        )  # what could be left is kept by nf_tables alone, which is not even loaded
    namespaces = list(facts.namespaces.value.values())
    params = {"only_say": only_say, "may_load": True}
    answers = carrier.ask([Request("firewall-sweep", within(each, params), _SWEEP_S) for each in namespaces])
    found = [
        Cleaned(namespace=each.id, error=answer.error.text if answer.error is not None else "no answer")
        if answer.data is None
        else Cleaned(namespace=each.id, removed=tuple(answer.data["removed"]), living=tuple(answer.data["living"]))
        for each, answer in zip(namespaces, answers, strict=True)
    ]
    return Clean(plan=only_say, namespaces=tuple(found))
