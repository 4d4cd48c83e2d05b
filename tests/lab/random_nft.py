"""Random rule sets of nft's own, biased to the edges of random packets; for `tests.lab.nft_differential`."""

from hypothesis import strategies as st

from tests.lab.random_rules import MAC, MARKS, ON_TO, OURS, POOL, PORTS, pick

HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
NAT_HOOKS = ("prerouting", "input", "output", "postrouting")
PRIORITIES = (-420, -310, -260, -190, -140, -120, -80, -10, 20, 60, 90, 120, 300)
"""Never one of iptables' or conntrack's: which of two tables at one priority comes first nothing tells."""


def some(values, least=1, most=4):
    return st.lists(pick(list(values)), min_size=least, max_size=most, unique=True)


@st.composite
def listed(draw, values, ranges=()):
    """A value, a range, or a set of both, perhaps with a ``!=`` before."""
    negation = draw(pick(["", "", "", "!= "]))
    kind = draw(st.integers(0, 3))
    if kind == 0 and ranges:
        return negation + draw(pick(list(ranges)))
    if kind == 1:
        # Ranges that overlap are refused: at most one of them.
        more = [draw(pick(list(ranges)))] if ranges and draw(st.booleans()) else []
        inner = [] if more else draw(some(values))
        return f"{negation}{{ {', '.join(map(str, [*more, *inner]))} }}"
    return negation + str(draw(pick(list(values))))


def nets(family):
    pool = POOL[family]
    if family == 4:
        return [f"{pool[0]}-{pool[2]}", "10.99.0.0/24", "10.98.0.0/31", "10.96.0.0/14", "192.0.2.0/24", "0.0.0.0/1"]
    return [f"{pool[0]}-{pool[2]}", "2001:db8:99::/64", "2001:db8:98::/127", "2001:db8::/32", "::/1"]


def port_ranges():
    return ["1-22", "22-80", "80-443", "1024-65535", "0-1023", "79-81"]


def masks(family):
    if family == 4:
        return [
            "ip saddr & 255.0.255.0 == 10.0.0.0",
            "ip daddr & 0.0.0.3 == 0.0.0.1",
            "ip saddr & 0.0.0.255 != 0.0.0.2",
        ]
    return ["ip6 saddr & ::3 == ::2", "ip6 daddr & ::ff != ::1"]


def numbers(low, high):
    return ["== ", "!= ", "< ", "> ", "<= ", ">= "], range(low, high)


@st.composite
def compared(draw, field, values):
    return f"{field} {draw(pick(['', '!= ', '< ', '> ', '<= ', '>= ']))}{draw(pick(list(values)))}"


def icmp_of(family):
    if family == 4:
        return listed(["echo-request", "echo-reply", "destination-unreachable", "time-exceeded", 13]).map(
            lambda each: f"icmp type {each}"
        )
    return listed(["echo-request", "echo-reply", "packet-too-big", 1]).map(lambda each: f"icmpv6 type {each}")


@st.composite
def tcp_flags(draw):
    names = ["fin", "syn", "rst", "psh", "ack", "urg"]
    kind = draw(st.integers(0, 5))
    mask = draw(some(names))
    wanted = draw(st.lists(pick(mask), unique=True, min_size=1))
    joined = "|".join
    return {
        0: f"tcp flags & ({joined(mask)}) == {joined(wanted)}",
        1: f"tcp flags & ({joined(mask)}) != 0",
        2: f"tcp flags {','.join(mask)}",
        3: f"tcp flags ! {','.join(mask)}",
        4: f"tcp flags != {mask[0]}",
        5: f"tcp flags {{ syn, syn|ack, ack, {joined(mask)} }}" if len(mask) > 2 else "tcp flags { syn, syn|ack }",
    }[kind]


def matches(family, hooks, protocol):
    """Matches by name: strategies of their text."""
    ip = "ip" if family == 4 else "ip6"
    states = ["new", "established", "related", "invalid", "untracked"]
    found = {
        "saddr": listed(POOL[family], nets(family)).map(lambda each: f"{ip} saddr {each}"),
        "daddr": listed(POOL[family], nets(family)).map(lambda each: f"{ip} daddr {each}"),
        "mask": pick(masks(family)),
        "l4proto": listed(["tcp", "udp", "icmp" if family == 4 else "icmpv6", "esp", 4]).map(
            lambda each: f"meta l4proto {each}"
        ),
        "header": listed(["tcp", "udp", "esp"]).map(
            lambda each: f"ip protocol {each}" if family == 4 else f"ip6 nexthdr {each}"
        ),
        "state": some(states).map(lambda each: f"ct state {','.join(each)}"),
        "state set": listed(states).map(lambda each: f"ct state {each}"),
        "status": pick(["dnat", "snat", "seen-reply", "confirmed", "expected"]).map(lambda each: f"ct status {each}"),
        "direction": pick(["original", "reply"]).map(lambda each: f"ct direction {each}"),
        "original": pick(POOL[family]).map(lambda each: f"ct original {ip} daddr {each}"),
        "mark": st.one_of(
            listed(MARKS).map(lambda each: f"meta mark {each}"),
            # Of a value outside of the mask, which nothing meets, nft lists a prefix that says something else.
            pick([(1, 0), (1, 1), (0xF, 1), (0xF, 2), (0xF0, 0x10), (0xF0, 0), (1 << 31, 0), (1 << 31, 1 << 31)]).map(
                lambda each: f"meta mark & {each[0]:#x} == {each[1]:#x}"
            ),
            compared("meta mark", [1, 2, 16]),
        ),
        "connmark": st.one_of(listed([0, 1, 3]).map(lambda each: f"ct mark {each}"), st.just("ct mark & 0xf != 0x1")),
        "fib": (
            pick(["local", "unicast", "broadcast", "multicast", "{ local, broadcast }", "!= local"])
            if family == 4
            else pick(["local", "!= local"])
        ).map(lambda each: f"fib daddr type {each}"),
        "fib source": pick(["local", "!= local"]).map(lambda each: f"fib saddr type {each}"),
        "ttl": compared("ip ttl" if family == 4 else "ip6 hoplimit", [1, 2, 62, 63, 64, 65, 254]),
        "dscp": listed([0, 10, "cs1", "ef"]).map(lambda each: f"{ip} dscp {each}"),
        "length": st.one_of(compared("meta length", [60, 61, 80, 100]), st.just("meta length 60-80")),
        "ip length": compared(f"{ip} length", [20, 40, 41, 60, 61, 100]),
        # Of two that exclude each other nft lists one alone: such a rule cannot be told from its listing.
        "nfproto": pick([f"meta nfproto ipv{family}", f"meta protocol {ip}", f"meta protocol != {ip}"]),
        "fragment": st.just("ip frag-off & 0x1fff != 0") if family == 4 else st.just("exthdr frag missing"),
        "limit": st.just("limit rate 1000/second burst 900 packets"),
        "set ip": pick(["", "!= "]).map(lambda each: f"{ip} saddr {each}@s_ip{family}"),
        "set net": pick(["", "!= "]).map(lambda each: f"{ip} daddr {each}@s_net{family}"),
        "set both": pick(["", "!= "]).map(lambda each: f"{ip} saddr . {ip} daddr {each}@s_both{family}"),
        "set mark": pick(["", "!= "]).map(lambda each: f"meta mark {each}@s_mark"),
        "concat": st.tuples(pick(POOL[family]), pick(nets(family)[1:]), pick(["tcp", "udp"])).map(
            lambda each: f"{ip} saddr . {ip} daddr . meta l4proto {{ {each[0]} . {each[1]} . {each[2]} }}"
        ),
        "marked": st.tuples(pick(["new", "invalid"]), pick([0, 1])).map(
            lambda each: f"ct state . meta mark {{ {each[0]} . {each[1]} }}"
        ),
    }
    if not hooks & {"output", "postrouting"}:
        names = ['"d0"', '"d1"', '"d*"', '"lo"', '"e*"', '"d00"']
        found["iifname"] = listed(names[:4:3], ['"d*"']).map(lambda each: f"iifname {each}")
        found["iif"] = pick(["d0", "d1", "lo", "!= lo"]).map(lambda each: f"iif {each}")
        if family == 4:
            found["fib of device"] = pick(["local", "broadcast", "!= multicast"]).map(
                lambda each: f"fib daddr . iif type {each}"
            )
        found["set names"] = st.just("iifname @s_name")
        found["pkttype"] = listed(["host", "broadcast", "multicast"]).map(lambda each: f"meta pkttype {each}")
        found["ether"] = listed([MAC, "02:00:00:00:99:03"]).map(lambda each: f"ether saddr {each}")
    if hooks <= {"output", "postrouting", "forward"} and hooks != {"postrouting"}:
        found["oifname"] = listed(['"d0"', '"d1"', '"lo"'], ['"d*"']).map(lambda each: f"oifname {each}")
    if hooks == {"output"}:
        found["iifname none"] = pick(['iifname "d0"', 'iifname != "d0"', 'iifname "lo"'])
    if protocol in ("tcp", "udp"):
        for field in ("dport", "sport"):
            found[field] = listed(PORTS, port_ranges()).map(lambda each, field=field: f"{protocol} {field} {each}")
            found[f"th {field}"] = listed(PORTS, port_ranges()).map(
                lambda each, field=field: f"meta l4proto {{ tcp, udp }} th {field} {each}"
            )
        found["set port"] = pick(["", "!= "]).map(lambda each: f"{protocol} dport {each}@s_port")
        found["set ipport"] = pick(["", "!= "]).map(
            lambda each: f"{ip} saddr . {protocol} dport {each}@s_ipport{family}"
        )
        found["ports"] = st.tuples(pick(PORTS), pick(port_ranges())).map(
            lambda each: f"{protocol} sport . {protocol} dport {{ {each[0]} . {each[1]} }}"
        )
    if protocol == "tcp":
        found["flags"] = tcp_flags()
    if protocol == "icmp":
        found["icmp"] = icmp_of(family)
    return found


def sure(protocol, family):
    """What makes a rule one of a protocol, where its statement wants one."""
    return "" if protocol in ("", "icmp") else f"meta l4proto {protocol}"


@st.composite
def rule(draw, family, kind, hooks, jumps):
    protocol = draw(pick(["", "", "tcp", "udp", "icmp"]))
    available = matches(family, hooks, protocol)
    favoured = [
        name for name in available if name in ("dport", "sport", "set port", "set ipport", "ports", "flags", "icmp")
    ]
    names = draw(st.lists(pick(sorted(available)), max_size=2, unique=True))
    if favoured and draw(st.integers(0, 3)):
        names.append(draw(pick(favoured)))
    words = [draw(available[name]) for name in dict.fromkeys(names)]
    action, counted = draw(action_of(family, kind, hooks, jumps, protocol))
    if draw(st.integers(0, 9)) == 0:
        words.append('log prefix "drop accept"')
    return " ".join(filter(None, [*words, "counter" if counted else "", action]))


@st.composite
def verdict_map(draw, family, jumps, protocol, *, nat):
    verdicts = [
        "accept",
        "return",
        "continue",
        *([] if nat else ["drop", "drop"]),
        *(f"jump {name}" for name in jumps),
        *(f"goto {name}" for name in jumps),
    ]
    ip = "ip" if family == 4 else "ip6"
    keys = {
        "ct state": ["new", "established", "invalid", "untracked"],
        "meta mark": MARKS[:5],
        f"{ip} saddr": [*POOL[family][:3]],
        "meta l4proto": ["tcp", "udp", "esp"],
    }
    if protocol in ("tcp", "udp"):
        keys[f"{protocol} dport"] = ["0-21", 22, 23, 80, "400-500", "1024-65535"]
        if draw(st.integers(0, 3)) == 0:
            return f"{protocol} dport vmap @v_port", False
    key = draw(pick(sorted(keys)))
    chosen = draw(some(keys[key]))
    rows = [f"{each} : {draw(pick(verdicts))}" for each in chosen]
    if draw(st.integers(0, 4)) == 0:
        rows.append(f"* : {draw(pick(verdicts))}")
    return f"{key} vmap {{ {', '.join(rows)} }}", False


@st.composite
def action_of(draw, family, kind, hooks, jumps, protocol):
    """What a rule does, and whether its counter counts just what comes to it."""
    nat = kind == "nat"
    if draw(st.integers(0, 5)) == 0:
        return draw(verdict_map(family, jumps, protocol, nat=nat))
    choices = ["accept", "return", "", *([] if nat else ["drop"])]
    if not nat:
        if hooks <= {"input", "forward", "output"}:
            choices += ["reject", "reject with icmpx admin-prohibited"]
            if protocol == "tcp":
                choices.append("reject with tcp reset")
        choices += [f"meta mark set {mark}" for mark in MARKS[1:4]]
        choices += ["meta mark set meta mark | 0x10", "meta mark set meta mark & 0xf0", "meta mark set meta mark ^ 0x3"]
        choices += ["ct mark set meta mark", "ct mark set 3", "ct mark set ct mark | 0x5"]
        choices += ["ip ttl set 65", "ip dscp set 10"] if family == 4 else ["ip6 hoplimit set 65", "ip6 dscp set 10"]
        choices += ["meta mark set ct mark", f"meta mark set ip{'' if family == 4 else '6'} saddr map @m_mark{family}"]
        choices += [f"add @s_dyn{family} {{ ip{'' if family == 4 else '6'} saddr }}"]
    if not nat and hooks <= {"prerouting", "output"}:
        choices.append("notrack")
    if nat:
        ip = "ip" if family == 4 else "ip6"
        to = draw(pick([*ON_TO[family], OURS[family][1]]))
        bracket = f"[{to}]" if family == 6 else to
        ported = protocol in ("tcp", "udp")
        if hooks <= {"prerouting", "output"}:
            choices += [f"dnat {ip} to {to}", "redirect"] * 2
            if ported:
                choices += [f"dnat {ip} to {bracket}:80", "redirect to :443", "dnat to :81"]
            choices.append(f"dnat {ip} to {ip} daddr map @m_addr{family}")
        if hooks == {"postrouting"}:
            choices += ["masquerade", f"snat {ip} to {OURS[family][1]}"]
    choices += [f"{draw(pick(['jump', 'jump', 'goto']))} {name}" for name in jumps for _ in range(2)]
    action = draw(pick(choices))
    # A map that has nothing for a packet ends its rule behind the counter; the others are sure of theirs.
    maps = " map @" in action or action.startswith(("ip ", "ip6 ", "meta mark set ct", "ct mark set ct", "add @"))
    if action.startswith(("dnat to :", "redirect to", "reject with tcp")) or ":80" in action:
        action = f"{sure(protocol, family)} counter {action}"
        return action, False
    return action, not maps


@st.composite
def sets(draw, family, jumps):
    """The table's sets and maps."""
    kind = "ipv4_addr" if family == 4 else "ipv6_addr"
    pool, wide = POOL[family], nets(family)[1:4]
    names = [
        f"{each} : {draw(pick(['accept', 'drop', 'return', *(f'jump {name}' for name in jumps)]))}"
        for each in draw(some([22, 23, 80, 443, 65535], 0))
    ]

    def one(name, type_, elements, flags="", is_map=""):
        rows = f"elements = {{ {', '.join(map(str, elements))} }}" if elements else ""
        return f"{'map' if is_map else 'set'} {name} {{ type {type_}{is_map}; {f'flags {flags};' if flags else ''} {rows}\n}}"

    timeout = draw(pick(["", " timeout 1h"]))
    return [
        one(f"s_ip{family}", kind, [f"{each}{timeout}" for each in draw(some(pool, 0))], "timeout"),
        one(f"s_net{family}", kind, draw(some(wide, 0, 1)), "interval"),
        one(f"s_both{family}", f"{kind} . {kind}", [f"{one} . {two}" for one, two in zip(draw(some(pool)), draw(some(wide)), strict=False)], "interval"),
        one(f"s_ipport{family}", f"{kind} . inet_service", [f"{one} . {two}" for one, two in zip(draw(some(wide)), draw(some([22, "80-90", "1024-65535"])), strict=False)], "interval"),
        one(f"s_dyn{family}", kind, draw(some(pool, 0, 1)), "dynamic"),
        one("s_mark", "mark", draw(some(MARKS, 0))),
        one("s_port", "inet_service", draw(some(["1-22", 80, "443-500", "1024-65535"], 0)), "interval"),
        one("s_name", "ifname", draw(some(['"d0"', '"d1"', '"lo"'], 0))),
        one(f"m_mark{family}", kind, [f"{each} : {draw(pick(MARKS))}" for each in draw(some(pool))], "", " : mark"),
        one(f"m_addr{family}", kind, [f"{each} : {draw(pick(ON_TO[family]))}" for each in draw(some(pool))], "", f" : {kind}"),
        ("v_port", names),
    ]  # fmt: skip


@st.composite
def ruleset(draw, family, most):
    """A text of ``nft -f``, a rule a line."""
    lines = []
    count = draw(st.integers(1, 3))
    priorities = draw(st.permutations(PRIORITIES))
    for number in range(count):
        table_family = draw(pick(["inet", "ip" if family == 4 else "ip6"]))
        mine = priorities[number::count]
        bases = [
            (hook, "filter", draw(pick(mine)))
            for hook in HOOKS
            for _ in range(draw(pick([0, 1, 1, 2] if hook != "postrouting" else [0, 1])))
        ]
        if draw(st.booleans()):
            # The kernel refuses NAT before conntrack (nf_tables_api.c, nft_chain_parse_hook).
            bases += [
                (hook, "nat", draw(pick([each for each in mine if each > -200])))
                for hook in NAT_HOOKS
                if draw(st.booleans())
            ]
        users = {f"u{at}": draw(pick(bases))[:2] for at in range(draw(st.integers(0, 3)))} if bases else {}
        chains = []
        for at, (hook, kind, priority) in enumerate(bases):
            policy = "accept" if kind == "nat" else draw(pick(["accept"] * 5 + ["drop"]))
            head = f"type {kind} hook {hook} priority {priority}; policy {policy};"
            chains.append((f"b{at}_{hook}", head, hook, kind))
        chains += [(name, "", hook, kind) for name, (hook, kind) in users.items()]
        v_jumps = []
        *plain, (v_name, v_rows) = draw(sets(family, v_jumps))
        lines += [f"table {table_family} t{number} {{", *plain]
        rows = f"elements = {{ {', '.join(v_rows)} }}" if v_rows else ""
        lines.append(f"map {v_name} {{ type inet_service : verdict; {rows}\n}}")
        # A chain is there before a rule jumps to it.
        for name, head, _, _ in reversed(chains):
            lines.append(f"chain {name} {{ {head}\n}}")
        lines.append("}")
        for name, _, hook, kind in chains:
            reach = [other for other, of in users.items() if of == (hook, kind) and (name not in users or other > name)]
            for _ in range(draw(st.integers(1, most))):
                lines.append(f"add rule {table_family} t{number} {name} {draw(rule(family, kind, {hook}, reach))}")
            if name not in users:
                lines.append(f"add rule {table_family} t{number} {name} counter")
    return "\n".join(lines) + "\n"
