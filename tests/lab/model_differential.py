"""Random rule sets loaded into this network namespace, random packets sent, and the kernel's counters against the model.

A program of its own, run as root inside a lab host: ``python -m tests.lab.model_differential --seconds 40``. Every rule
of a save counts, so that one packet's increments are the rules that it met; they must be those of the model's path.
"""

import argparse
import contextlib
import fcntl
import ipaddress
import json
import os
import random
import re
import socket
import struct
import subprocess
import sys
import time
from collections import Counter

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from netdiag.firewall.explain import Explainer, read_rule_file
from netdiag.firewall.netfilter.skb import Host
from netdiag.firewall.save_text import parse_save
from netdiag.model.explain import PacketLine
from netdiag.model.trace import TracePath

SHRINK_S = 20.0
"""How long a failure is made smaller."""
MAC = "02:00:00:00:99:02"
DEVICES = ("d0", "d1")
POOL = {
    4: ["10.99.0.1", "10.99.0.2", "10.99.0.3", "10.99.0.255", "10.98.0.1", "10.98.0.2", "10.98.0.9", "192.0.2.7"],
    6: ["2001:db8:99::1", "2001:db8:99::2", "2001:db8:99::3", "2001:db8:98::1", "2001:db8:98::2", "2001:db8:98::9"],
}
OURS = {4: ["10.99.0.1", "10.98.0.1", "127.0.0.1"], 6: ["2001:db8:99::1", "2001:db8:98::1", "::1"]}
BROADCASTS = ["10.99.0.255", "10.99.0.0", "10.98.0.255", "10.98.0.0"]
FROM = {4: ["10.99.0.2", "10.99.0.3", "192.0.2.7"], 6: ["2001:db8:99::2", "2001:db8:99::3"]}
IN_TO = {4: ["10.99.0.1", "10.98.0.1", "10.99.0.255", "224.0.0.1"], 6: ["2001:db8:99::1", "2001:db8:98::1"]}
ON_TO = {4: ["10.98.0.2", "10.98.0.9"], 6: ["2001:db8:98::2", "2001:db8:98::9"]}
PORTS = [1, 21, 22, 23, 79, 80, 81, 443, 1023, 1024, 2377, 4789, 65534, 65535]
FLAGS = [
    "syn",
    "ack",
    "syn,ack",
    "fin,ack",
    "rst",
    "rst,ack",
    "psh,ack",
    "none",
    "fin",
    "syn,fin",
    "syn,ece,cwr",
    "fin,psh,urg",
]
MARKS = [0, 1, 2, 3, 0x10, 0xFF, 0x80000000]
PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "gre": 47, "esp": 50}
BASES = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
}
SETS = {
    "s_ip": "hash:ip",
    "s_net": "hash:net",
    "s_ipport": "hash:ip,port",
    "s_netport": "hash:net,port",
    "s_port": "bitmap:port range 0-65535",
    "s_netnet": "hash:net,net",
    "s_ipportip": "hash:ip,port,ip",
    "s_mac": "hash:mac",
    "s_mark": "hash:ip,mark",
}


def pick(values):
    return st.sampled_from(values)


@st.composite
def network(draw, family):
    address = draw(pick(POOL[family]))
    bits = 128 if family == 6 else 32
    if family == 4 and draw(st.integers(0, 15)) == 0:
        return f"{address}/{draw(pick(['255.0.255.0', '255.255.0.255', '0.0.0.3', '255.255.255.0']))}"
    width = draw(pick([bits, bits, bits - 1, bits - 2, bits - 8, bits // 2, 8, 0]))
    return f"{address}/{width}"


@st.composite
def ports(draw):
    low = draw(pick(PORTS))
    if draw(st.booleans()):
        return str(low)
    high = draw(pick([each for each in PORTS if each >= low]))
    return draw(pick([f"{low}:{high}", f":{high}", f"{low}:"]))


def negated(draw):
    return "! " if draw(st.integers(0, 3)) == 0 else ""


ICMP_TYPES = {4: ["8", "0", "3", "3/4", "11", "13", "any", "255"], 6: ["128", "129", "1", "1/4", "135", "136", "2"]}


@st.composite
def protocol_match(draw, family):
    icmp = "icmp" if family == 4 else "ipv6-icmp"
    name = draw(pick(["tcp", "tcp", "udp", "udp", icmp, "gre", "all"]))
    if name == "all":
        return "", name
    if name == "gre" or draw(st.integers(0, 5)) == 0:
        return f"{negated(draw)}-p {name}", "other"
    said = f"-p {name}"
    if name == icmp:
        option = "--icmp-type" if family == 4 else "--icmpv6-type"
        if draw(st.booleans()):
            said += f" -m {'icmp' if family == 4 else 'icmp6'} {negated(draw)}{option} {draw(pick(ICMP_TYPES[family]))}"
        return said, name
    kind = draw(st.integers(0, 5))
    if kind == 0 and name == "tcp":
        names = st.lists(pick(["SYN", "ACK", "FIN", "RST", "PSH", "URG"]), min_size=1, unique=True)
        mask = draw(names)
        wanted = draw(st.lists(pick(mask), unique=True))
        said += f" -m tcp {negated(draw)}--tcp-flags {','.join(mask)} {','.join(wanted) or 'NONE'}"
    elif kind == 1 and name == "tcp":
        said += f" -m tcp {negated(draw)}--syn"
    elif kind == 2:
        several = draw(st.lists(pick(PORTS), min_size=1, max_size=4, unique=True))
        spec = ",".join(map(str, several))
        if draw(st.booleans()):
            spec += f",{draw(pick(['1000:3000', '5:79', '81:443']))}"
        said += f" -m multiport {negated(draw)}{draw(pick(['--dports', '--sports', '--ports']))} {spec}"
    else:
        for option in draw(st.lists(pick(["--dport", "--sport"]), max_size=2, unique=True)):
            said += f" -m {name} {negated(draw)}{option} {draw(ports())}"
    return said, name


def other_matches(family):
    """Matches that any protocol takes, by name: strategies of their text."""
    low, high = POOL[family][0], POOL[family][2]
    kinds = ["LOCAL", "UNICAST", "BROADCAST", "MULTICAST"]
    types = st.lists(pick(kinds), min_size=1, max_size=2, unique=True).map(",".join)
    states = st.lists(pick(["NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED"]), min_size=1, unique=True)
    more = st.lists(pick(["NEW", "ESTABLISHED", "INVALID", "UNTRACKED", "DNAT", "SNAT"]), min_size=1, unique=True)
    mark = st.tuples(pick(MARKS), pick([0xFFFFFFFF, 1, 0xF, 0xF0])).map(lambda each: f"{each[0]:#x}/{each[1]:#x}")
    found = {
        "state": states.map(lambda each: f"-m state N--state {','.join(each)}"),
        "conntrack": more.map(lambda each: f"-m conntrack N--ctstate {','.join(each)}"),
        "ctdir": pick(["ORIGINAL", "REPLY"]).map(lambda each: f"-m conntrack --ctdir {each}"),
        "ctorig": network(family).map(lambda each: f"-m conntrack N--ctorigdst {each}"),
        "ctport": pick(PORTS).map(lambda each: f"-m conntrack N--ctorigdstport {each}"),
        "both": st.tuples(pick(PORTS), more).map(
            lambda each: f"-m conntrack --ctorigdstport {each[0]} --ctstate {','.join(each[1])}"
        ),
        "mark": mark.map(lambda each: f"-m mark N--mark {each}"),
        "connmark": mark.map(lambda each: f"-m connmark N--mark {each}"),
        "addrtype-dst": types.map(lambda each: f"-m addrtype N--dst-type {each}"),
        "addrtype-src": types.map(lambda each: f"-m addrtype N--src-type {each}"),
        "iprange-src": st.just(f"-m iprange N--src-range {low}-{high}"),
        "iprange-dst": st.just(f"-m iprange N--dst-range {low}-{high}"),
        "length": pick(["60", ":59", "60:", "61:1500", "0:100"]).map(lambda each: f"-m length N--length {each}"),
        "dscp": pick(["0x00", "0x0a", "0x2e"]).map(lambda each: f"-m dscp N--dscp {each}"),
        "tos": pick(["0x00/0xff", "0x10/0x3f", "0x28/0xfc"]).map(lambda each: f"-m tos N--tos {each}"),
        "pkttype": pick(["unicast", "broadcast", "multicast"]).map(lambda each: f"-m pkttype N--pkt-type {each}"),
        "mac": pick([MAC, "02:00:00:00:99:03"]).map(lambda each: f"-m mac N--mac-source {each}"),
        "policy": pick(["none", "ipsec"]).map(lambda each: f"-m policy --dir in --pol {each}"),
        "physdev": pick(["N--physdev-in d0", "N--physdev-is-bridged", "N--physdev-out d1"]).map(
            lambda each: f"-m physdev {each}"
        ),
        "helper": st.just("-m helper N--helper ftp"),
        "limit": st.just("-m limit --limit 1000/sec --limit-burst 9999"),
        "hashlimit": pick(["upto", "above"]).map(
            lambda each: f"-m hashlimit --hashlimit-{each} 1000/sec --hashlimit-burst 9000 --hashlimit-name hl{each}"
        ),
        "recent": st.just("-m recent N--set --name r1"),
        "comment": st.just('-m comment --comment "a -j \\"DROP\\" in words"'),
    }  # fmt: skip
    if family == 4:
        found["ttl"] = st.tuples(pick(["--ttl-eq", "--ttl-lt", "--ttl-gt"]), pick([1, 63, 64, 65, 255])).map(
            lambda each: f"-m ttl {each[0]} {each[1]}"
        )
        found["fragment"] = st.just("N-f")
        found["ecn"] = pick(["--ecn-ip-ect 0", "--ecn-ip-ect 2"]).map(lambda each: f"-m ecn N{each}")
    else:
        found["hl"] = st.tuples(pick(["--hl-eq", "--hl-lt", "--hl-gt"]), pick([1, 63, 64, 65, 255])).map(
            lambda each: f"-m hl {each[0]} {each[1]}"
        )
    if family == 4:
        for name in SETS:
            flags = {"s_port": ["dst", "src"], "s_ip": ["src", "dst"], "s_net": ["src", "dst"], "s_mac": ["src"]}.get(
                name, ["src,dst", "dst,dst", "src", "dst,dst,src", "src,dst,dst"]
            )
            found[f"set {name}"] = pick(flags).map(lambda each, name=name: f"-m set N--match-set {name} {each}")
        found["set s_list"] = pick(["src", "dst", "src,dst"]).map(lambda each: f"-m set N--match-set s_list {each}")
    return found


def unavailable(family, tool):
    """Kinds of matches that this kernel or tool does not load."""
    missing = []
    for name, strategy in other_matches(family).items():
        text = strategy.example().replace("N-", "-")
        rules = f"*mangle\n-A PREROUTING {text} -j ACCEPT\nCOMMIT\n"
        if restore(tool, family, rules):
            missing.append(name)
    return missing


@st.composite
def rule(draw, family, table, hooks, jumps, missing):
    said, protocol = draw(protocol_match(family))
    words = [said] if said else []
    if draw(st.integers(0, 2)) == 0:
        words.append(f"{negated(draw)}-s {draw(network(family))}")
    if draw(st.integers(0, 2)) == 0:
        words.append(f"{negated(draw)}-d {draw(network(family))}")
    may_in = not hooks & {"OUTPUT", "POSTROUTING"}
    if may_in and draw(st.integers(0, 4)) == 0:
        words.append(f"{negated(draw)}-i {draw(pick(['d0', 'd1', 'd+', 'lo', 'e+', 'd00']))}")
    if not hooks & {"PREROUTING", "INPUT"} and draw(st.integers(0, 4)) == 0:
        words.append(f"{negated(draw)}-o {draw(pick(['d0', 'd1', 'd+', 'lo', 'd']))}")
    others = {name: each for name, each in other_matches(family).items() if name not in missing}
    if hooks & {"OUTPUT", "POSTROUTING"}:
        others.pop("mac", None)
        others.pop("policy", None)
        others.pop("pkttype", None)
    if hooks & {"PREROUTING", "OUTPUT", "INPUT"}:
        others.pop("physdev", None)
    for name in draw(st.lists(pick(sorted(others)), max_size=2, unique=True)):
        text = draw(others[name])
        words.append(text.replace("N-", f"{negated(draw)}-"))
    target = draw(target_of(family, table, hooks, jumps, protocol))
    return " ".join([*words, target]).strip()


@st.composite
def target_of(draw, family, table, hooks, jumps, protocol):
    choices = ["-j RETURN", "-j ACCEPT", ""]
    if table != "nat":
        choices += ["-j DROP", "-j DROP"]
    if table == "filter":
        choices.append("-j REJECT")
        if protocol == "tcp":
            choices.append("-j REJECT --reject-with tcp-reset")
    if table == "mangle":
        choices += [f"-j MARK --set-xmark {mark:#x}/0xffffffff" for mark in MARKS[1:4]]
        choices += ["-j MARK --or-mark 0x10", "-j MARK --and-mark 0xf0", "-j MARK --xor-mark 0x3"]
        choices += ["-j CONNMARK --save-mark", "-j CONNMARK --restore-mark --nfmask 0xf --ctmask 0xff"]
        choices += ["-j CONNMARK --set-xmark 0x3/0xffffffff", "-j DSCP --set-dscp 0x0a", "-j TOS --set-tos 0x10/0x3f"]
        choices += ["-j TTL --ttl-set 65" if family == 4 else "-j HL --hl-set 65"]
    if table == "raw":
        choices += ["-j CT --notrack", "-j NOTRACK"]
    if table == "nat":
        ported = protocol in ("tcp", "udp")
        to = draw(pick([*ON_TO[family], OURS[family][1]]))
        bracket = f"[{to}]" if family == 6 else to
        if hooks <= {"PREROUTING", "OUTPUT"}:
            choices += [f"-j DNAT --to-destination {to}", "-j REDIRECT"]
            if ported:
                choices += [f"-j DNAT --to-destination {bracket}:80", "-j REDIRECT --to-ports 443"]
        if hooks == {"POSTROUTING"}:
            choices += ["-j MASQUERADE", f"-j SNAT --to-source {OURS[family][1]}"]
    choices += [f"-{draw(pick('jjjg'))} {name}" for name in jumps for _ in range(2)]
    return draw(pick(choices))


@st.composite
def save(draw, family, missing, most):
    text = []
    for table, bases in BASES.items():
        if draw(st.integers(0, 1)) and table != "filter":
            continue
        users = {f"U{number}": {draw(pick(bases))} for number in range(draw(st.integers(0, 3)))}
        chains = [
            f":{base} {draw(pick(['ACCEPT', 'ACCEPT', 'DROP'])) if table != 'nat' else 'ACCEPT'} [0:0]"
            for base in bases
        ]
        chains += [f":{name} - [0:0]" for name in users]
        rules = []
        for chain, hooks in [*((base, {base}) for base in bases), *users.items()]:
            reach = [name for name, of in users.items() if of == hooks and (chain not in users or name > chain)]
            for _ in range(draw(st.integers(1 if chain in bases else 0, most))):
                rules.append(f"-A {chain} {draw(rule(family, table, hooks, reach, missing))}".strip())
        text += [f"*{table}", *chains, *rules, "COMMIT"]
    return "\n".join(text) + "\n"


@st.composite
def members(draw):
    lines = []
    for name in SETS:
        size = draw(st.integers(0, 3))
        for _ in range(size):
            address, other = draw(pick(POOL[4])), draw(pick(POOL[4]))
            port = f"{draw(pick(['', 'udp:', 'tcp:']))}{draw(pick(PORTS))}"
            width = draw(pick([32, 31, 24, 16]))
            net = str(ipaddress.ip_network(f"{address}/{width}", strict=False))
            member = {
                "s_ip": address,
                "s_net": net,
                "s_ipport": f"{address},{draw(pick([port, 'icmp:8/0']))}",
                "s_netport": f"{net},{port}",
                "s_port": str(draw(pick(PORTS))),
                "s_netnet": f"{net},{other}/24",
                "s_ipportip": f"{address},{port},{other}",
                "s_mac": draw(pick([MAC, "02:00:00:00:99:03"])),
                "s_mark": f"{address},{draw(pick(MARKS))}",
            }[name]
            nomatch = " nomatch" if name == "s_net" and draw(st.integers(0, 3)) == 0 else ""
            lines.append(f"add {name} {member}{nomatch}")
    return lines


def packet(chosen, family):
    """A packet at the edges of what rules name, by a seeded generator: as many draws of hypothesis' would be too much."""
    path = chosen.choice(list(TracePath))
    icmp = "icmp" if family == 4 else "icmpv6"
    proto = chosen.choice(["tcp", "tcp", "udp", "udp", icmp, "gre", "esp"])
    said = {"path": path, "proto": proto, "ttl": chosen.choice([64, 64, 64, 2, 63, 65, 255])}
    if path is TracePath.OUT:
        said |= {"source": OURS[family][0], "destination": chosen.choice([*FROM[family][:2], *ON_TO[family]])}
        said["out_device"] = "d0" if said["destination"] in FROM[family] else "d1"
    else:
        to = IN_TO if path is TracePath.IN else ON_TO
        said |= {
            "in_device": "d0",
            "source": chosen.choice(FROM[family]),
            "destination": chosen.choice(to[family]),
            "mac": MAC,
        }
        if path is TracePath.FORWARD:
            said["out_device"] = "d1"
    if proto in ("tcp", "udp"):
        said |= {"sport": chosen.choice(PORTS), "dport": chosen.choice(PORTS)}
    if proto == "tcp":
        said["tcp_flags"] = chosen.choice(["syn", "syn", *FLAGS])
    if proto == icmp:
        said["icmp_type"] = chosen.choice([8, 8, 0, 3, 13, 11] if family == 4 else [128, 128, 129, 1, 2])
    said["length"] = chosen.choice([60, 61, 100] if family == 4 else [80, 81, 100])
    return PacketLine(**said, bucket="full")


# --- the kernel ------------------------------------------------------------------------------------------------------


def say(*words):
    sys.stderr.write(" ".join(map(str, words)) + "\n")
    sys.stderr.flush()


def run(*argv, text=None):
    return subprocess.run(argv, input=text, capture_output=True, text=True, check=False)


def restore(tool, family, rules):
    said = run(f"ip{'6' if family == 6 else ''}tables-{tool}-restore", text=rules)
    return said.stderr if said.returncode else ""


def counters(tool, family):
    text = run(f"ip{'6' if family == 6 else ''}tables-{tool}-save", "-c").stdout
    return {
        (table, chain.name, rule.number): rule
        for table, chains in parse_save(text).tables.items()
        for chain in chains.values()
        for rule in chain.rules
    }, text


def tap(name):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1002))
    return fd


def prepare():
    fds = [tap(name) for name in DEVICES]
    commands = [
        "ip link set lo up",
        "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0",
        "sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0",
    ]
    for number, name in ((99, "d0"), (98, "d1")):
        commands += [
            f"sysctl -qw net.ipv4.conf.{name}.rp_filter=0 net.ipv4.conf.{name}.bc_forwarding=0",
            f"ip link set {name} addrgenmode none",
            f"ip link set {name} address 02:00:00:00:{number}:01 up",
            f"ip addr add 10.{number}.0.1/24 brd + dev {name}",
            f"ip addr add 2001:db8:{number}::1/64 nodad dev {name}",
        ]
        for network in (f"10.{number}.0.", f"2001:db8:{number}::"):
            commands += [f"ip neigh replace {network}{last} lladdr {MAC} dev {name}" for last in (2, 3, 9)]
    commands.append("ip route add 192.0.2.0/24 via 10.99.0.2 dev d0")
    for command in commands:
        said = run(*command.split())
        if said.returncode:
            say(command, said.stderr)
    # Answers of this host would count as well.
    guard = "table inet guard { chain out { type filter hook output priority -450; meta priority != 0:7 drop; }; }"
    said = run("nft", guard)
    assert not said.returncode, said.stderr
    return fds


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def built(packet, family):
    source, destination = (ipaddress.ip_address(each).packed for each in (packet.source, packet.destination))
    number = PROTOCOLS[packet.proto]
    size = packet.length - (20 if family == 4 else 40)
    if packet.proto == "tcp":
        names = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"]
        flags = sum(1 << names.index(name) for name in packet.tcp_flags.split(",") if name != "none")
        head = struct.pack("!HHIIBBHHH", packet.sport, packet.dport, 1000, 0, 0x50, flags, 1000, 0, 0)
    elif packet.proto == "udp":
        head = struct.pack("!HHHH", packet.sport, packet.dport, size, 0)
    elif packet.proto in ("icmp", "icmpv6"):
        head = struct.pack("!BBHHH", packet.icmp_type, 0, 0, random.randrange(65536), 1)
    elif packet.proto == "gre":
        head = struct.pack("!HH", 0, 0x6558)
    else:
        head = struct.pack("!II", 0x100, 1)
    body = bytearray(head.ljust(size, b"\0"))
    place = {"tcp": 16, "udp": 6, "icmp": 2, "icmpv6": 2}.get(packet.proto)
    if place is not None:
        pseudo = b"" if packet.proto == "icmp" else source + destination + struct.pack("!II", size, number)
        body[place : place + 2] = struct.pack("!H", checksum(pseudo + bytes(body)) or 0xFFFF)
    if family == 6:
        return struct.pack("!IHBB", 6 << 28, size, number, packet.ttl) + source + destination + bytes(body)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, packet.length, 7, 0x4000, packet.ttl, number, 0) + source + destination
    return ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + bytes(body)


def send(packet, family, fds):
    data = built(packet, family)
    if packet.path is TracePath.OUT:
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        with socket.socket(kind, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, 7)
            try:
                raw.sendto(data, (packet.destination, 0))
            except PermissionError:
                return  # a rule dropped it
            except OSError as error:
                say(packet, error)
        return
    group = packet.destination == "224.0.0.1"
    to = bytes.fromhex("01005e000001" if group else "020000009901")
    if packet.destination.endswith(".255"):
        to = b"\xff" * 6
    os.write(fds[0], to + bytes.fromhex(MAC.replace(":", "")) + (b"\x08\x00" if family == 4 else b"\x86\xdd") + data)


def flush_conntrack():
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as netlink:
        netlink.send(struct.pack("=IHHIIBBH", 20, 1 << 8 | 2, 5, 1, 0, 0, 0, 0))
        netlink.recv(4096)


# --- the comparison --------------------------------------------------------------------------------------------------


class Differ:
    def __init__(self, tool, family, fds):
        self.tool, self.family, self.fds = tool, family, fds
        self.counts = Counter()
        self.reasons = Counter()
        self.failure, self.failed_s = "", 0.0
        addresses = {(int(ipaddress.ip_address(each)), family) for each in OURS[family]}
        broadcasts = frozenset(int(ipaddress.ip_address(each)) for each in BROADCASTS) if family == 4 else frozenset()
        self.host = Host(addresses=frozenset(addresses), broadcasts=broadcasts, bridges=frozenset())

    def load(self, text, lines):
        # A restore leaves tables alone that it does not name.
        policies = "".join(
            f"*{table}\n{''.join(f':{base} ACCEPT [0:0]{chr(10)}' for base in bases)}COMMIT\n"
            for table, bases in BASES.items()
            if f"*{table}\n" not in text
        )
        restore(self.tool, self.family, policies)
        if self.family == 4:
            run("ipset", "restore", "-!", text="\n".join([*(f"flush {name}" for name in SETS), *lines, ""]))
        said = restore(self.tool, self.family, text)
        for _ in range(8):
            # What the kernel takes is left; which rules it refuses its answer says by line.
            refused = {int(number) for number in re.findall(r"\bline (\d+)", said)}
            if not refused:
                break
            self.counts["refused rules"] += len(refused)
            rows = text.split("\n")
            self.reasons.update("refused: " + rows[each - 1] for each in refused if "-A" in rows[each - 1])
            text = "\n".join(row for at, row in enumerate(rows, 1) if at not in refused or not row.startswith("-A"))
            said = restore(self.tool, self.family, text)
        if said:
            self.counts["refused"] += 1
            self.reasons["refused: " + " ".join(said.split())[-160:]] += 1
        return not said

    def compare(self, text, lines, packets):
        start = time.monotonic()
        if self.failure and start - self.failed_s > SHRINK_S:
            raise KeyboardInterrupt
        loaded = self.load(text, lines)
        self.counts["ms loading"] += round((time.monotonic() - start) * 1000)
        if not loaded:
            return
        before, listed = counters(self.tool, self.family)
        sets = run("ipset", "save").stdout if self.family == 4 else ""
        read = read_rule_file(listed + sets)
        assert not read.problems, read.problems
        explainer = Explainer(read, self.host)
        self.sent = []
        for packet in packets:
            flush_conntrack()
            send(packet, self.family, self.fds)
            after, _ = counters(self.tool, self.family)
            met = {place: rule for place, rule in after.items() if rule.packets != before[place].packets}
            before = after
            self.sent.append(packet)
            self.judge(explainer.explain(packet), met, packet, listed, lines)
        for fd in self.fds:
            drain(fd)

    def judge(self, found, met, packet, text, lines):
        self.counts["packets"] += 1
        if found.verdict.value == "unknown":
            self.counts["unknown"] += 1
            self.reasons["unknown: " + found.reason[:90]] += 1
            return
        if not found.policy and not found.rule:
            self.counts["neither"] += 1
        mine = {(step.rule.table, step.rule.chain, step.rule.number) for step in found.path if step.rule.policy is None}
        if mine != set(met):
            self.counts["wrong"] += 1
            failure = (
                f"\n{text}\n{chr(10).join(lines)}\n{packet}\nmodel: {found.verdict.value} {sorted(mine)}\n"
                f"kernel: {sorted(met)}\nonly model: {sorted(mine - set(met))} only kernel: {sorted(set(met) - mine)}"
            )
            if not self.failure:
                self.failed_s = time.monotonic()
                say(failure)
            self.failure = min(filter(None, (self.failure, failure)), key=len)
            raise AssertionError(failure)
        self.counts[found.verdict.value] += 1


def drain(fd):
    try:
        while os.read(fd, 65536):
            pass
    except BlockingIOError:
        return


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tool", choices=["nft", "legacy"], default="nft")
    parser.add_argument("--family", type=int, choices=[4, 6], default=4)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rules", type=int, default=5, help="most rules of a chain")
    parser.add_argument("--sets", type=int, default=6, help="rule sets of a seed")
    parser.add_argument("--packets", type=int, default=60)
    options = parser.parse_args()
    family = options.family
    fds = prepare()
    if family == 4:
        for name, kind in {**SETS, "s_list": "list:set"}.items():
            run("ipset", "create", "-!", name, *kind.split())
        for name in ("s_ip", "s_netport"):
            run("ipset", "add", "-!", "s_list", name)
        there = {line.split()[1] for line in run("ipset", "save").stdout.splitlines() if line.startswith("create")}
        for name in set(SETS) - there:
            del SETS[name]
    differ = Differ(options.tool, family, fds)
    missing = unavailable(family, options.tool)
    begun, number = time.monotonic(), options.seed
    while time.monotonic() - begun < options.seconds and not differ.failure:

        @seed(number)
        @settings(
            max_examples=options.sets,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        )
        @given(
            save(family, missing, options.rules),
            members() if family == 4 else st.just([]),
            st.integers(0, 1 << 32),
        )
        def check(text, lines, chance):
            chosen = random.Random(chance)
            differ.compare(text, lines, [packet(chosen, family) for _ in range(options.packets)])

        with contextlib.suppress(AssertionError, KeyboardInterrupt):
            check()
        number += 1
        say(number, dict(differ.counts), round(time.monotonic() - begun), "s")
        if differ.failure:
            say(differ.failure)
    sys.stdout.write(
        json.dumps(
            {
                "counts": differ.counts,
                "reasons": dict(differ.reasons.most_common(12)),
                "not loadable here": missing,
                "seeds": number - options.seed,
                "failure": differ.failure,
            },
            indent=2,
        )
    )
    return 1 if differ.failure else 0


if __name__ == "__main__":
    sys.exit(main())
