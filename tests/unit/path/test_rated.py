"""Rules that may decide otherwise about the next packet of the same kind."""

import pytest

from netdiag.path.rated import looks_at_more


@pytest.mark.parametrize(
    "text",
    [
        "-A INPUT -p tcp -m tcp --dport 22 -m hashlimit --hashlimit-above 1/min --hashlimit-name x -j DROP",
        "-A ufw-user-input -p tcp --dport 22 -m conntrack --ctstate NEW -m recent --update --seconds 30 -j ufw-user-limit",
        "-A INPUT -m statistic --mode random --probability 0.1 -j DROP",
        "-A INPUT -p tcp -m connlimit --connlimit-above 8 -j REJECT",
        "tcp dport 22 limit rate over 3/minute drop",
        "tcp dport 22 add @seen { ip saddr limit rate over 3/minute } drop",
        "numgen random mod 10 < 1 drop",
        "ct count over 8 reject",
    ],
)
def test_rules_that_count(text):
    assert looks_at_more(text)


@pytest.mark.parametrize(
    "text",
    [
        "-A INPUT -p tcp -m tcp --dport 22 -j DROP",
        "-A INPUT -m comment --comment limit -j DROP",
        "-A INPUT -p tcp -m set --match-set limits src -j DROP",
        "tcp dport 22 ip saddr @limits drop",
        "ct state new drop",
    ],
)
def test_rules_that_look_at_the_packet_alone(text):
    assert not looks_at_more(text)
