"""A trace on a host that cannot make one: one clear line, and nothing is sent."""

import pytest

from netdiag.errors import UsageError
from netdiag.facts.context import Options
from netdiag.facts.trace_wanted import Wanted
from netdiag.host import trace as module
from netdiag.model.facts import Facts, Feature, FeatureState, Identity, Kernel, Section
from netdiag.model.level import Level
from netdiag.model.trace import TracePath
from netdiag.participant import run


class Nobody:
    def ask(self, requests):
        raise AssertionError("it asked the host")


@pytest.mark.parametrize(
    ("root", "release", "nf_tables", "forced", "said"),
    [
        (False, "6.8.0", FeatureState.BUILTIN, Level.COUNTERS, "--level counters: this host allows facts at most .not"),
        (True, "6.8.0", FeatureState.MISSING, Level.SWEPT_TRACE, "this host allows counters at most .nf_tables"),
        (True, "5.4.0", FeatureState.BUILTIN, Level.OWNED_TRACE, "allows swept-trace at most .*older than 5.12"),
        (True, "6.8.0", FeatureState.LOADABLE, None, "would load nf_tables into the kernel: --load-modules"),
        (True, "5.4.0", FeatureState.LOADABLE, None, "would load nf_tables and clsact into the kernel: --load-modules"),
    ],
)
def test_one_line_says_why_not(monkeypatch, root, release, nf_tables, forced, said):
    states = {"nf_tables": nf_tables, "tun": FeatureState.BUILTIN}
    features = {name: Feature(name=name, state=state, evidence="nf_tables: said") for name, state in states.items()}
    found = Facts(
        collected_s=1.0,
        identity=Section(value=Identity(hostname="h", kernel_release=release, is_root=root)),
        kernel=Section(value=Kernel(features=features)),
    )
    monkeypatch.setattr(module, "collect", lambda *_, **__: found)
    with pytest.raises(UsageError, match=said):
        module.trace(Nobody(), Wanted(path=TracePath.IN), now_s=1.0, options=Options(), forced=forced)


def test_the_verb_loads_nothing_unasked():
    assert run({"verb": "firewall-trace", "params": {"path": "in"}})["error"]["kind"] == "withheld"
