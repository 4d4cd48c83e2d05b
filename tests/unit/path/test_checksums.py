"""When the kernel's counter of wrong checksums proves something."""

import pytest

from netdiag.model.facts import Nic
from netdiag.model.path import End
from netdiag.model.report import Confidence
from netdiag.path.checksums import checksum_cause, wrong_sums

NEAR, FAR = End(host="near", container="web", address="10.0.1.2"), End(host="far", container="db", address="10.0.1.4")
TEXT = """Ip: Forwarding DefaultTTL
Ip: 1 64
Tcp: RtoAlgorithm InErrs OutRsts InCsumErrors
Tcp: 1 5 6 4
Udp: InDatagrams InCsumErrors MemErrors
Udp: 100 2 0
"""


def judged(counts, *, echoed=True, **offloads):
    card = Nic(name="eth0", offloads={name.replace("_", "-"): on for name, on in offloads.items()})
    return checksum_cause(NEAR, FAR, "tcp", counts, nic="eth0", card=card, echoed=echoed)


def test_the_counters_are_read_by_name():
    assert wrong_sums(TEXT) == {"tcp": 4, "udp": 2}
    assert wrong_sums("") == wrong_sums("Tcp: InErrs\nTcp: 3\n") == {}


@pytest.mark.parametrize("counts", [(4, 4, 4), (4, 5, 7), (0, 0, 0)], ids=["still", "moves anyway", "none"])
def test_what_proves_nothing(counts):
    assert judged(counts) is None


@pytest.mark.parametrize(("echoed", "sure"), [(True, Confidence.PROVEN), (False, Confidence.LIKELY)])
def test_a_counter_that_moves_with_the_attempt_only(echoed, sure):
    one = judged((4, 4, 5), echoed=echoed, tx_checksum_ip_generic=True)
    assert (one.code, one.host, one.confidence) == ("underlay.checksum-offload", "near", sure)
    assert (one.object["name"], one.object["feature"]) == ("eth0", "tx-checksum-ip-generic")
    assert one.remedy[0].commands == ("ethtool -K eth0 tx-checksum-ip-generic off",)


def test_without_a_feature_that_is_on_there_is_nothing_to_switch_off():
    assert judged((4, 4, 5), tx_checksum_ip_generic=False).remedy == ()
