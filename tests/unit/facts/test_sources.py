"""Every source of saved rules goes the whole way: its files and services are read, it is loaded, compared and explained."""

import fnmatch
from pathlib import Path

import pytest

from netdiag.facts.context import Context, Options
from netdiag.facts.firewall_loads import gather_loads
from netdiag.facts.firewall_saved import _SOURCES, BOOT, ROLES
from netdiag.firewall.saved_changes import compare
from netdiag.firewall.saved_sources import FIREWALLD, IPTABLES, NFTABLES, PERSISTENT, SOURCES, UFW
from netdiag.model.facts import (
    Backend,
    Feature,
    FeatureState,
    FirewallBoot,
    FirewallSaved,
    FirewallService,
    Kernel,
    RuleSet,
    SavedRules,
)
from netdiag.model.firewall_diff import ChangeKind
from netdiag.model.wire import Answer

ROOT = Path(__file__).parents[3]
SAVED = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp -m tcp --dport 9 -j DROP\nCOMMIT\n"
UFW_SAVED = "*filter\n:ufw-user-input - [0:0]\n-A ufw-user-input -p tcp -m tcp --dport 9 -j DROP\nCOMMIT\n"
ZONE = "public\n  target: default\n  ports: {}\n"
FILES = {
    FIREWALLD: ("/etc/firewalld/zones/public.xml", "<zone><port port='9' protocol='tcp'/></zone>"),
    IPTABLES: ("/etc/sysconfig/iptables", SAVED),
    PERSISTENT: ("/etc/iptables/rules.v4", SAVED),
    NFTABLES: ("/etc/nftables.conf", "table inet site {\n\tchain c {\n\t\ttcp dport 9 drop\n\t}\n}\n"),
    UFW: ("/etc/ufw/user.rules", UFW_SAVED),
}
"""For each source a file with one rule that does not run."""


def said(request):
    """What a host answers on which that rule does not run: a load lists what was loaded."""
    if request.verb == "scratch-rules":
        *_, step = [each for each in request.params["steps"] if "--dport 9 " in each.get("text", "")] or [{}]
        text = step.get("text", FILES[NFTABLES][1])
        return {"failed": None, "stdout": text, "stderr": "", "code": 0}
    if request.params["argv"][0] == "firewall-cmd":
        zones = "--list-all-zones" in request.params["argv"]
        text = ZONE.format("9/tcp" if "--permanent" in request.params["argv"] else "") if zones else ""
        return {"stdout": text, "stderr": "", "code": 0}
    return {"stdout": "iptables v1.8.9 (nf_tables)\n", "stderr": "", "code": 0}


def comparison(source):
    path, text = FILES[source]
    unit = SOURCES[source]
    saved = FirewallSaved(
        rules=(SavedRules(source=source, path=path, text=text),),
        services=(FirewallService(name=unit, active=True, evidence=""),),
        boot=(FirewallBoot(name=unit, enabled=True, evidence=""),),
    )
    names = ("nf_tables", "nft_compat", "ip_tables", "ip6_tables", "ip_set")
    kernel = Kernel(features={name: Feature(name=name, state=FeatureState.LOADED, evidence="") for name in names})
    gather = gather_loads(Context(options=Options(load_modules=True), kernel=kernel), saved, "6.1.0")
    first = next(gather)
    answers = [Answer(data=said(each) if each.verb == "command" else {"files": {}, "errors": {}}) for each in first]
    requests = gather.send(answers)
    with pytest.raises(StopIteration) as end:
        gather.send([Answer(data=said(each)) for each in requests])
    running = RuleSet(backend=Backend.IPTABLES_NFT, family=4, text="*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n", sha256="")
    return compare((running,), saved, end.value.value, identity=None, host="one")


@pytest.mark.parametrize("source", SOURCES)
def test_a_saved_rule_that_does_not_run_is_said_to_come_back(source):
    found = comparison(source)
    assert [(each.kind, each.mechanism) for each in found.changes] == [(ChangeKind.RETURNS, source)]
    assert found.changes[0].commands != ()
    assert [each.mechanism for each in found.sources] == [source]


def test_every_source_has_files_that_are_read_and_services_that_are_asked_about():
    patterns = dict(_SOURCES)
    assert set(patterns) == set(SOURCES) == set(FILES)
    for source, (path, _) in FILES.items():
        assert any(fnmatch.fnmatch(path, pattern) for pattern in patterns[source])
    assert set(SOURCES.values()) <= set(BOOT)
    assert set(SOURCES.values()) <= set(ROLES)


def test_every_source_is_in_the_document_for_people():
    text = (ROOT / "docs" / "howto" / "diff.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    for source in SOURCES:
        assert any(source in row.split("|")[1] for row in rows), source
