"""Saved rules against running ones on this machine."""

from __future__ import annotations

from netdiag.errors import UsageError
from netdiag.facts.context import Context, Options
from netdiag.facts.firewall import gather_firewall
from netdiag.facts.firewall_loads import gather_loads
from netdiag.firewall.saved_changes import compare
from netdiag.host.collect import collect
from netdiag.host.drive import Carrier, drive
from netdiag.model.facts import HOST, FirewallSaved, Namespace
from netdiag.model.firewall_diff import FirewallDiff

_SECTIONS = ("identity", "kernel", "firewall_saved")


def diff(carrier: Carrier, *, now_s: float, options: Options) -> FirewallDiff:
    """What the next reload or boot changes in this host's own namespace.

    Raises UsageError without root: neither the rules nor the saved files can be read then.
    """
    facts = collect(carrier, _SECTIONS, now_s=now_s, options=options)
    identity = facts.identity.value
    if identity is None or not identity.is_root:
        raise UsageError("comparing saved and running rules needs root: it reads both, and loads the saved ones aside")
    saved = facts.firewall_saved.value
    reasons = [facts.firewall_saved.absent.text] if facts.firewall_saved.absent is not None else []
    here = Namespace(id=HOST, path="", inode=0)
    context = Context(options=options, namespaces={HOST: here}, kernel=facts.kernel.value)
    section = drive(gather_firewall(context), carrier)
    hidden = section.partial.get(HOST) or section.absent
    reasons += [hidden.text] if hidden is not None else []
    loads = drive(gather_loads(context, saved or FirewallSaved(), identity.kernel_release), carrier)
    return compare(
        (section.value or {}).get(HOST, ()),
        saved or FirewallSaved(),
        loads,
        identity=identity,
        host=identity.hostname,
        hidden="; ".join(reasons),
    )
