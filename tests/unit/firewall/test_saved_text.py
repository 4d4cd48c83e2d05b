"""One spelling: what means the same compares equal, and what does not stays apart."""

import pytest

from netdiag.firewall.save_text import split_words
from netdiag.firewall.saved_text import canonical


def spelt(text: str, family: int = 4) -> str:
    return canonical(split_words(text), family)


@pytest.mark.parametrize(
    ("by_hand", "by_tool"),
    [
        ("-p tcp --dport ssh -j ACCEPT", "-p tcp -m tcp --dport 22 -j ACCEPT"),
        ("-p tcp --dport 22:22 -j ACCEPT", "-p tcp -m tcp --dport 22 -j ACCEPT"),
        ("-j ACCEPT -p TCP --destination-port 22", "-p tcp -m tcp --dport 22 -j ACCEPT"),
        ("-s 10.0.0.1 -j DROP", "-s 10.0.0.1/32 -j DROP"),
        ("-s 10.0.0.0/255.0.0.0 -j DROP", "-s 10.0.0.0/8 -j DROP"),
        ("-d 0.0.0.0/0 -p all -j DROP", "-j DROP"),
        ("-s ! 10.0.0.0/8 -j DROP", "! -s 10.0.0.0/8 -j DROP"),
        ("-p ! tcp -j DROP", "! -p tcp -j DROP"),
        ("-m state --state NEW,ESTABLISHED -j ACCEPT", "-m conntrack --ctstate ESTABLISHED,NEW -j ACCEPT"),
        ("-p tcp --syn -j DROP", "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP"),
        ("-m comment --comment x -p udp --dport 53 -j DROP", "-p udp -m udp --dport 53 -m comment --comment x -j DROP"),
        ("-m limit --limit 3/minute --limit-burst 5 -j LOG", "-m limit --limit 3/min -j LOG --log-level warning"),
        ("-j LOG --log-prefix x -m limit --limit 3/min", "-m limit --limit 3/min -j LOG --log-prefix x"),
        ("-j REJECT", "-j REJECT --reject-with icmp-port-unreachable"),
        ("-p icmp --icmp-type echo-request -j ACCEPT", "-p icmp -m icmp --icmp-type 8 -j ACCEPT"),
        ("-j MARK --set-mark 1", "-j MARK --set-xmark 0x1/0xffffffff"),
        ("-p 17 -m multiport --dports 53,22 -j ACCEPT", "-p udp -m multiport --dports 22,53 -j ACCEPT"),
    ],
)
def test_the_same(by_hand: str, by_tool: str) -> None:
    assert spelt(by_hand) == spelt(by_tool)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("-p tcp --dport 22 -j ACCEPT", "-p tcp --sport 22 -j ACCEPT"),
        ("-p tcp --dport 22 -j ACCEPT", "-p tcp ! --dport 22 -j ACCEPT"),
        ("-s 10.0.0.0/8 -j DROP", "! -s 10.0.0.0/8 -j DROP"),
        ("-j REJECT", "-j REJECT --reject-with tcp-reset"),
        ("-m comment --comment '--dport 22' -j DROP", "-m comment --comment x -j DROP"),
        ("-m comment --comment a -j DROP", "-m comment --comment b -j DROP"),
        ("-i eth0 -j DROP", "-o eth0 -j DROP"),
        ("-j chain", "-g chain"),
        ("-m limit --limit 3/min -j ACCEPT", "-m limit --limit 3/sec -j ACCEPT"),
        ("-m conntrack --ctstate NEW -j DROP", "-m conntrack ! --ctstate NEW -j DROP"),
    ],
)
def test_not_the_same(one: str, other: str) -> None:
    assert spelt(one) != spelt(other)


def test_ipv6() -> None:
    assert spelt("-s fd00::1/128 -j REJECT", 6) == spelt("-s FD00::1 -j REJECT --reject-with icmp6-port-unreachable", 6)
    assert spelt("-p icmpv6 --icmpv6-type 128 -j ACCEPT", 6) == spelt(
        "-p ipv6-icmp -m icmp6 --icmpv6-type 128 -j ACCEPT", 6
    )


@pytest.mark.parametrize("text", ["", "!", "-p", "-m", "-j", "--comment", "-s not/an/address -j X", "x y z"])
def test_nonsense_does_not_raise(text: str) -> None:
    spelt(text)
