"""Random rule sets, sets and packets, biased to the edges of each other; for `tests.lab.model_differential`."""

import ipaddress

from hypothesis import strategies as st

from netdiag.model.explain import PacketLine
from netdiag.model.trace import TracePath

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
PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "ipip": 4, "esp": 50}
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
    # iptables-save says nothing of "! --dport 0:65535", which no packet meets.
    return draw(pick([f"{low}:{high}", f":{min(high, 65534)}", f"{low}:"]))


def negated(draw):
    return "! " if draw(st.integers(0, 3)) == 0 else ""


ICMP_TYPES = {4: ["8", "0", "3", "3/4", "11", "13", "any", "255"], 6: ["128", "129", "1", "1/4", "135", "136", "2"]}


@st.composite
def protocol_match(draw, family):
    icmp = "icmp" if family == 4 else "ipv6-icmp"
    name = draw(pick(["tcp", "tcp", "udp", "udp", icmp, "esp", "all"]))
    if name == "all":
        return "", name
    if name == "esp" or draw(st.integers(0, 5)) == 0:
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
            size = draw(st.integers(1 if chain in bases else 0, most))
            rules += [f"-A {chain} {draw(rule(family, table, hooks, reach, missing))}".strip() for _ in range(size)]
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
    proto = chosen.choice(["tcp", "tcp", "udp", "udp", icmp, "esp", "ipip"])
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
        said["icmp_code"] = 0
    said["length"] = chosen.choice([60, 61, 100] if family == 4 else [80, 81, 100])
    return PacketLine(**said, bucket="full")
