"""What ``ipset save`` and ``ipset list`` print, and what it says of a packet."""

import msgspec
import pytest

from netdiag.firewall.netfilter.ipset_text import read_sets
from netdiag.firewall.netfilter.sets import SetMatch
from netdiag.firewall.netfilter.skb import Host, Skb, Unknown

SKB = Skb(
    family=4, protocol=6, source=0xC0000215, destination=0x0A010203, source_port=4000, destination_port=80, mark=7
)


def inside(text, flags, skb=SKB, name="s"):
    sets, problems = read_sets(text)
    assert not problems, problems
    return SetMatch(name, tuple(flags.split(","))).holds(skb, Host(sets=sets))


@pytest.mark.parametrize(
    ("kind", "members", "flags", "expect"),
    [
        ("hash:ip family inet", ["192.0.2.21"], "src", True),
        ("hash:ip family inet", ["192.0.2.16/28"], "src", True),
        ("hash:ip family inet netmask 24", ["192.0.2.0"], "src", True),
        ("hash:ip family inet timeout 600", ["192.0.2.21 timeout 5"], "src", True),
        ("hash:ip family inet6", ["2001:db8::1"], "src", False),
        ("hash:net family inet", ["0.0.0.0/1"], "dst", True),
        ("hash:net family inet", ["192.0.2.0/24", "192.0.2.21 nomatch"], "src", False),
        ("hash:net family inet", ["192.0.0.0/16 nomatch", "192.0.2.0/24"], "src", True),
        ("hash:ip,port family inet", ["192.0.2.21,tcp:4000"], "src,src", True),
        ("hash:ip,port family inet", ["192.0.2.21,tcp:3000-5000"], "src,src", True),
        ("hash:ip,port family inet", ["192.0.2.21,udp:4000"], "src,src", False),
        ("hash:ip,port family inet", ["192.0.2.21,80"], "src", False),
        ("hash:net,port family inet", ["10.0.0.0/8,tcp:80"], "dst,dst", True),
        ("hash:net,net family inet", ["192.0.2.0/24,10.1.0.0/16"], "src,dst", True),
        ("hash:ip,port,net family inet", ["192.0.2.21,tcp:80,10.0.0.0/8"], "src,dst,dst", True),
        ("hash:ip,mark family inet", ["192.0.2.21,0x7"], "src,src", True),
        ("bitmap:port range 0-65535", ["80"], "dst", True),
        ("bitmap:port range 0-65535", ["81-90"], "dst", False),
        ("bitmap:ip range 192.0.2.0-192.0.2.255", ["192.0.2.20-192.0.2.22"], "src", True),
    ],
)
def test_members(kind, members, flags, expect):
    text = f"create s {kind}\n" + "".join(f"add s {member}\n" for member in members)
    assert inside(text, flags) is expect


@pytest.mark.parametrize("written", ["8/0", "echo-request"])
def test_icmp_has_its_type_where_others_have_a_port(written):
    text = f"create s hash:ip,port family inet\nadd s 192.0.2.21,icmp:{written}\n"
    ping = Skb(family=4, protocol=1, source=0xC0000215, destination=1, icmp_type=8, icmp_code=0)
    assert inside(text, "src,src", ping) is True


def test_what_is_not_modelled_is_unknown():
    assert isinstance(inside("create s hash:net,iface family inet\nadd s 10.0.0.0/8,eth0\n", "src,src"), Unknown)
    assert isinstance(inside("create other hash:ip\n", "src"), Unknown)
    pairs = "create s hash:net,net\nadd s 192.0.2.0/24,10.0.0.0/8\nadd s 192.0.0.0/16,10.1.0.0/16 nomatch\n"
    assert isinstance(inside(pairs, "src,dst"), Unknown)


def test_a_list_of_sets():
    text = "create a hash:ip\nadd a 1.2.3.4\ncreate b hash:ip\nadd b 192.0.2.21\ncreate s list:set size 8\nadd s a\nadd s b\n"
    assert inside(text, "src") is True
    assert inside("create s list:set size 8\nadd s s\n", "src").reason


def test_the_form_that_people_read():
    text = """\
Name: s
Type: hash:net
Revision: 7
Header: family inet hashsize 1024 maxelem 65536
Size in memory: 520
References: 1
Number of entries: 2
Members:
192.0.2.0/24
10.0.0.0/8 nomatch

Name: six
Type: hash:ip
Header: family inet6 hashsize 1024
Members:
2001:db8::1
"""
    assert inside(text, "src") is True
    assert inside(text, "dst") is False
    assert read_sets(text)[0]["six"].family == 6


def test_a_bad_member_is_named_and_its_set_is_unknown():
    sets, problems = read_sets("create s hash:ip\r\nadd s 192.0.2.21\r\nadd s nonsense\r\nadd t 1.2.3.4\r\n")
    assert [problem.line_number for problem in problems] == [3, 4]
    assert isinstance(SetMatch("s", ("src",)).holds(SKB, Host(sets=sets)), Unknown)


def test_what_ipset_restore_does_besides_adding():
    text = "create s hash:ip\nadd s 192.0.2.21\ncreate t hash:ip\n"
    assert inside(text + "swap s t\n", "src") is False
    assert inside(text + "swap s t\n", "src", name="t") is True
    assert inside(text + "del s 192.0.2.21\n", "src") is False
    assert inside(text + "flush s\n", "src") is False
    assert inside(text + 'add -exist s 10.1.2.3 comment "a nomatch b"\n', "dst") is True
    assert isinstance(inside(text + "destroy s\n", "src"), Unknown)


def test_a_device_and_a_mac_address_in_a_set():
    arrived = msgspec.structs.replace(SKB, in_device="eth0", mac="02:00:00:00:00:21")
    text = "create s hash:net,iface\nadd s 192.0.2.0/24,eth0\n"
    assert inside(text, "src,src", arrived) is True
    assert inside(text.replace("eth0", "eth1"), "src,src", arrived) is False
    text = "create s hash:ip,mac\nadd s 192.0.2.21,02:00:00:00:00:21\n"
    assert inside(text, "src,src", arrived) is True
    assert isinstance(inside(text, "src,dst", arrived), Unknown)
