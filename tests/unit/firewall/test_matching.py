import pytest
from hypothesis import given
from hypothesis import strategies as st

from netdiag.firewall.matching import ANSWER, OPENING, UNTRACKED, Match, Stage, match_rule
from netdiag.firewall.save_text import split_words
from netdiag.model.firewall import Direction, Packet
from tests.unit.firewall.build import OWN, PEER, syn, vxlan

YES, NO, MAYBE = Match.YES, Match.NO, Match.MAYBE
UNTRACKED_OPENING = Stage(UNTRACKED, OPENING.flags)
TRANSLATED = Stage(OPENING.states, OPENING.flags, translated=True)


# The rules are as iptables-save 1.8.9 prints what an operator typed.
@pytest.mark.parametrize(
    ("rule", "packet", "expected"),
    [
        pytest.param("-j DROP", vxlan(), YES, id="no condition"),
        pytest.param("-p udp -j DROP", vxlan(), YES, id="protocol"),
        pytest.param("-p tcp -j DROP", vxlan(), NO, id="other protocol"),
        pytest.param("! -p tcp -j DROP", vxlan(), YES, id="not another protocol"),
        pytest.param("! -p udp -j DROP", vxlan(), NO, id="not this protocol"),
        pytest.param("-p 17 -j DROP", vxlan(), YES, id="protocol by number"),
        pytest.param("-p esp -j DROP", vxlan(protocol="50", destination_port=None), YES, id="esp by name"),
        pytest.param("-p vrrp -j DROP", vxlan(), NO, id="vrrp"),
        pytest.param("-p all -j DROP", vxlan(), YES, id="all protocols"),
        pytest.param("-p hmp -j DROP", vxlan(), MAYBE, id="a protocol that is not known by name"),
        pytest.param("-p ipv6-icmp -j ACCEPT", vxlan(family=6), NO, id="icmpv6"),
        pytest.param("-s 192.0.2.10/32 -j DROP", vxlan(), YES, id="source"),
        pytest.param("-s 192.0.2.0/24 -j DROP", vxlan(), YES, id="source network"),
        pytest.param("-s 192.0.0.0/255.255.0.0 -j DROP", vxlan(), YES, id="source with a mask"),
        pytest.param("-s 192.0.0.0/255.0.255.0 -j DROP", vxlan(), MAYBE, id="a mask with a hole"),
        pytest.param("! -s 192.0.2.0/24 -j DROP", vxlan(), NO, id="not from the network"),
        pytest.param("-s 192.0.2.10/32 -j DROP", vxlan(source=""), MAYBE, id="source that is not said"),
        pytest.param("-s 2001:db8::/32 -j DROP", vxlan(family=6, source="2001:db8::1"), YES, id="IPv6 source"),
        pytest.param("-d 192.0.2.20/32 -j DROP", vxlan(), MAYBE, id="destination that is not said"),
        pytest.param("-d 192.0.2.10/32 -j DROP", syn(), YES, id="destination"),
        pytest.param("-i eth0 -j DROP", vxlan(), YES, id="device"),
        pytest.param("-i eth+ -j DROP", vxlan(), YES, id="device wildcard"),
        pytest.param("-i wlan+ -j DROP", vxlan(), NO, id="other device wildcard"),
        pytest.param("! -i eth+ -j DROP", vxlan(), NO, id="not this wildcard"),
        pytest.param("-i eth0 -j DROP", vxlan(device=""), MAYBE, id="device that is not said"),
        pytest.param("-i lo -j DROP", vxlan(device=""), MAYBE, id="loopback when the device is not said"),
        pytest.param("-i eth0 -j DROP", syn(), NO, id="in-device on the way out"),
        pytest.param("-o eth0 -j DROP", syn(), YES, id="out-device"),
        pytest.param("-p udp -m udp --dport 4789 -j DROP", vxlan(), YES, id="port"),
        pytest.param("-p udp -m udp --dport 4000:5000 -j DROP", vxlan(), YES, id="range"),
        pytest.param("-p udp -m udp --dport 0:4789 -j DROP", vxlan(), YES, id="up to"),
        pytest.param("-p udp -m udp --dport 4790:65535 -j DROP", vxlan(), NO, id="from above"),
        pytest.param("-p udp -m udp ! --dport 4789 -j DROP", vxlan(), NO, id="not the port"),
        pytest.param("-p udp -m multiport --dports 53,4780:4790 -j DROP", vxlan(), YES, id="multiport range"),
        pytest.param("-p udp -m multiport ! --dports 53,4780:4790 -j DROP", vxlan(), NO, id="not multiport"),
        pytest.param("-p udp -m multiport --dports 53,123 -j DROP", vxlan(), NO, id="multiport without it"),
        pytest.param("-p udp -m udp --sport 53 -j DROP", vxlan(), MAYBE, id="source port that is not said"),
        pytest.param("-p udp -m multiport --ports 4789 -j DROP", vxlan(), YES, id="either port"),
        pytest.param("-p udp -m multiport --ports 53 -j DROP", vxlan(), MAYBE, id="either port, one not said"),
        pytest.param("-p esp -m udp --dport 4789", vxlan(), NO, id="a port of another protocol"),
        pytest.param("-m state --state NEW -j DROP", vxlan(), YES, id="new"),
        pytest.param("-m state --state RELATED,ESTABLISHED -j ACCEPT", vxlan(), NO, id="established"),
        pytest.param("-m conntrack ! --ctstate INVALID,NEW -j DROP", vxlan(), NO, id="not new"),
        pytest.param("-m conntrack --ctstate DNAT -j ACCEPT", vxlan(), NO, id="no translation"),
        pytest.param("-m conntrack --ctstate NEW,UNTRACKED -j ACCEPT", vxlan(), YES, id="new or untracked"),
        pytest.param("-m conntrack --ctstate UNTRACKED -j ACCEPT", vxlan(), NO, id="untracked"),
        pytest.param("-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP", syn(), YES, id="syn"),
        pytest.param("-p tcp -m tcp --tcp-flags FIN,SYN,RST,PSH,ACK,URG NONE -j DROP", syn(), NO, id="null scan"),
        pytest.param("-p tcp -m tcp --tcp-flags ALL SYN -j DROP", syn(), YES, id="all flags"),
        pytest.param(
            "-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m state --state NEW -j DROP", syn(), NO, id="new, no syn"
        ),
        pytest.param("-p tcp --syn -j DROP", syn(), YES, id="--syn"),
        pytest.param("-p tcp ! --syn -j DROP", syn(), NO, id="not --syn"),
        pytest.param("-m addrtype --dst-type LOCAL -j ACCEPT", vxlan(), YES, id="to this host"),
        pytest.param("-m addrtype --dst-type BROADCAST -j DROP", vxlan(), NO, id="broadcast"),
        pytest.param(
            "-m addrtype --dst-type LOCAL --limit-iface-in -j ACCEPT", vxlan(), MAYBE, id="limited to a device"
        ),
        pytest.param("-m pkttype --pkt-type multicast -j DROP", vxlan(), NO, id="multicast frames"),
        pytest.param("-f -j DROP", vxlan(), NO, id="fragments"),
        pytest.param("-m set --match-set blocked src -j DROP", vxlan(), MAYBE, id="set"),
        pytest.param("-m set ! --match-set allowed src -j DROP", vxlan(), MAYBE, id="not in a set"),
        pytest.param("-m limit --limit 5/min -j DROP", vxlan(), MAYBE, id="limit"),
        pytest.param("-p tcp -m limit --limit 5/min -j DROP", vxlan(), NO, id="limit of another protocol"),
        pytest.param("-m mark --mark 0x1/0xff -j DROP", vxlan(), MAYBE, id="mark"),
        pytest.param("-m iprange --src-range 10.0.0.1-10.0.0.9 -j DROP", vxlan(), MAYBE, id="range of addresses"),
        pytest.param("-m newfangled --some-option x -j DROP", vxlan(), MAYBE, id="a match that is not known"),
        pytest.param('-m comment --comment "-p tcp -j ACCEPT" -j DROP', vxlan(), YES, id="a comment like a rule"),
        pytest.param("-p udp -m udp --dport ² -j DROP", vxlan(), MAYBE, id="a digit that is no number"),
        pytest.param("-p udp --dport", vxlan(), MAYBE, id="a value that is missing"),
    ],
)
def test_match(rule, packet, expected):
    assert match_rule(split_words(rule), packet) is expected


@pytest.mark.parametrize(
    ("rule", "stage", "expected"),
    [
        pytest.param("-m state --state RELATED,ESTABLISHED", ANSWER, YES, id="answer is established"),
        pytest.param("-m state --state NEW", ANSWER, NO, id="answer is not new"),
        pytest.param("-p tcp ! --tcp-flags FIN,SYN,RST,ACK SYN", ANSWER, YES, id="answer is no lone syn"),
        pytest.param("-p tcp --syn", ANSWER, NO, id="answer has an ack"),
        pytest.param("-m state --state NEW", UNTRACKED_OPENING, MAYBE, id="perhaps untracked: new"),
        pytest.param("-m state --state UNTRACKED", UNTRACKED_OPENING, MAYBE, id="perhaps untracked: untracked"),
        pytest.param("-m state --state NEW,UNTRACKED", UNTRACKED_OPENING, YES, id="perhaps untracked: either"),
        pytest.param("-m state --state NEW", OPENING, YES, id="opening"),
        pytest.param("-m conntrack --ctstate RELATED,DNAT", TRANSLATED, MAYBE, id="perhaps translated"),
        pytest.param("-m conntrack --ctstate NEW,DNAT", TRANSLATED, YES, id="new, translated or not"),
    ],
)
def test_match_by_stage_of_the_flow(rule, stage, expected):
    packet = Packet(direction=Direction.IN, protocol="tcp", source=PEER, destination=OWN, source_port=2377)
    assert match_rule(split_words(rule), packet, stage) is expected


@given(
    st.lists(
        st.sampled_from(["!", "-p", "tcp", "--dport", "--sports", "--state", "-s", "x", "-m", "--tcp-flags", "-j"])
        | st.text(max_size=6)
    )
)
def test_match_never_raises(words):
    assert match_rule(tuple(words), vxlan()) in set(Match)
