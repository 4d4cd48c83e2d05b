import re

import pytest

from netdiag.causes import AFFECTS, CATALOGUE, GROUPS, OBJECT_KINDS, cause, note
from netdiag.causes.catalogue import _by_code
from netdiag.model.report import Confidence, Evidence

# Codes are stable once released: a code may join this list, none may leave it.
CODES = """
firewall.rule firewall.policy firewall.backend-split firewall.docker-chains-missing firewall.forward-policy
firewall.calico-source firewall.container firewall.not-persistent firewall.near-miss conntrack.full conntrack.invalid

underlay.no-route underlay.neighbour underlay.link-down underlay.filtered underlay.mtu underlay.mtu-blackhole
underlay.flow-hash underlay.loss underlay.nat underlay.duplicate-address underlay.asymmetric underlay.checksum-offload

kernel.missing-feature sysctl.ip-forward sysctl.rp-filter sysctl.proxy-arp host.clock host.name-duplicate
host.xdp-drop host.tc-drop sysctl.arp-ignore

swarm.not-manager swarm.token swarm.already-member swarm.certificate-clock swarm.engine-version swarm.engine-setting
swarm.advertise-address swarm.address-pool swarm.gossip swarm.quorum swarm.image-missing swarm.image-differs
swarm.join-stage swarm.proxy swarm.port-taken swarm.stale-node swarm.stale-state swarm.quorum-risk swarm.not-rebalanced

overlay.fdb-missing overlay.fdb-stale overlay.neighbour overlay.vtep-source overlay.vni-conflict overlay.port-mismatch
overlay.mtu overlay.encryption overlay.ipvs overlay.duplicate-endpoint overlay.address-is-vip

container.not-running container.not-attached container.no-listener container.loopback-listener container.backlog
container.route container.dns service.slow-answer

calico.datastore calico.not-ready calico.node-missing calico.node-address calico.node-duplicate calico.pool-overlap
calico.pool-disabled calico.pool-exhausted calico.bgp calico.route-missing calico.route-wrong calico.blackhole
calico.borrowed-route calico.affinity calico.endpoint-route calico.tunnel calico.swarm-vxlan calico.masquerade
calico.policy calico.policy-unenforced calico.datastore-idle calico.managed-interface calico.leaked-address
""".split()  # noqa: SIM905 - laid out as the groups are

KINDS = [pytest.param(kind, id=kind.code) for kind in CATALOGUE.values()]


def test_every_code_is_there_and_none_besides():
    assert set(CATALOGUE) == set(CODES)
    assert len(CODES) == len(set(CODES)) == 93


def test_the_two_rows_that_are_only_told():
    assert {kind.code for kind in CATALOGUE.values() if kind.info} == {
        "swarm.not-rebalanced",
        "overlay.address-is-vip",
    }


def test_a_code_twice_is_refused():
    twice = GROUPS["Container"][0]
    with pytest.raises(ValueError, match=twice.code):
        _by_code({"a": (twice,), "b": (twice,)})


@pytest.mark.parametrize("kind", KINDS)
def test_an_entry_is_complete(kind):
    texts = [kind.title, kind.meaning, kind.evidence, kind.remedy, *kind.decoys]
    assert kind.decoys
    for text in texts:
        assert text == text.strip()
        assert text
        # A space lost between two pieces of a long string shows as "wordWord" or "end.Next".
        assert not re.search(r"  |[.,;:][A-Z][a-z]", text), text
    assert not kind.title.endswith(".")
    assert all(text[-1] in '."' for text in (kind.meaning, kind.evidence, kind.remedy))
    assert set(kind.object_kinds) <= set(OBJECT_KINDS)
    assert kind.object_kinds
    assert set(kind.affects) <= AFFECTS
    assert kind.affects
    assert all(re.fullmatch(r"[a-z0-9.-]+#\d+", ref) for ref in kind.refs), kind.refs


@pytest.mark.parametrize("kind", KINDS)
def test_a_parent_is_a_code_and_never_itself(kind):
    seen = [kind.code]
    while kind.parent is not None:
        assert kind.parent in CATALOGUE
        assert kind.parent not in seen, "the parents form a circle"
        kind = CATALOGUE[kind.parent]
        seen.append(kind.code)
        assert not kind.info


def test_every_object_kind_and_every_affect_is_used():
    assert {name for kind in CATALOGUE.values() for name in kind.object_kinds} == set(OBJECT_KINDS)
    assert {name for kind in CATALOGUE.values() for name in kind.affects} == AFFECTS


def test_a_cause_takes_from_the_catalogue_what_is_not_given():
    made = cause(
        "underlay.mtu-blackhole",
        host=None,
        object={"kind": "segment", "from": "a", "to": "b"},
        confidence=Confidence.PROVEN,
        evidence=[Evidence("probe", "1400 passes, 1500 does not")],
        because=["underlay.asymmetric"],
    )
    kind = CATALOGUE["underlay.mtu-blackhole"]
    assert (made.title, made.parent, made.explanation) == (kind.title, "underlay.mtu", kind.meaning)
    assert made.affects == kind.affects
    assert made.because == ("underlay.asymmetric",)
    assert made.evidence[0].text == "1400 passes, 1500 does not"


def test_what_is_given_wins():
    made = cause(
        "host.clock",
        host="a",
        object={"kind": "clock"},
        confidence=Confidence.LIKELY,
        explanation="Two hours.",
        affects=[],
    )
    assert (made.explanation, made.affects) == ("Two hours.", ())


@pytest.mark.parametrize(
    ("code", "thing", "because", "message"),
    [
        ("firewall.rul", "rule", (), "firewall.rul"),
        ("firewall.rule", "route", (), "rule, not 'route'"),
        ("firewall.rule", None, (), "rule, not None"),
        ("firewall.rule", "rule", ("firewall.nearly",), "firewall.nearly"),
        ("overlay.address-is-vip", "address", (), "told"),
    ],
    ids=["unknown code", "other kind", "no kind", "unknown reason", "info"],
)
def test_a_mistake_of_a_check_is_refused(code, thing, because, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        cause(code, host=None, object={"kind": thing}, confidence=Confidence.POSSIBLE, because=because)


def test_a_note_carries_its_code():
    told = note("overlay.address-is-vip", "10.0.1.2 is web's virtual IP", {"tasks": ["10.0.1.3"]})
    assert told == Evidence(
        "note", "10.0.1.2 is web's virtual IP", {"code": "overlay.address-is-vip", "tasks": ["10.0.1.3"]}
    )
    assert note("swarm.not-rebalanced").text == "A new node has no tasks yet."


@pytest.mark.parametrize("code", ["firewall.rule", "no.such"])
def test_a_note_is_only_for_what_is_told(code):
    with pytest.raises(ValueError, match=code):
        note(code)
