"""A rule is tried out in copies of the rules that nobody uses: what it does there it does here, and nothing is left."""

import json
import os
import re
import signal

import pytest

from netdiag.lab.host import end_group
from netdiag.lab.process import until

PEER = "10.71.0.2"
PACKET = ("--src", PEER, "--dport", "2377")
COUNTED = re.compile(r"\[\d+:\d+\]|(?<=counter )packets \d+ bytes \d+")
STATE = (
    *("nft -a list ruleset", "iptables-legacy-save", "ip6tables-legacy-save", "ipset save"),
    *("ip -4 -o address", "ip -4 route show table all", "ip rule", "ip -6 rule", "ip neigh show nud permanent"),
    *("sysctl net.ipv4.conf.all.rp_filter net.ipv4.ip_forward", "cat /proc/modules", "ls /run/netns"),
)


@pytest.fixture
def host(pair_lab):
    """A host without rules, and it is as it was when the test is over."""
    one = pair_lab.host("one")
    yield one
    one.exec(["sh", "-c", "nft flush ruleset; ipset destroy; true"])
    assert namespaces(one) == 1


@pytest.fixture
def legacy_host(pair_lab):
    """Another one: a namespace in which legacy iptables was ever used listens to it for ever after, which takes longer."""
    two = pair_lab.host("two")
    yield two
    two.exec(["sh", "-c", "iptables-legacy -F; iptables-legacy -X"])
    assert namespaces(two) == 1


def add(host, *lines):
    for line in lines:
        host.exec(["sh", "-c", line])


def state(host):
    """Everything that a proof could have changed, without counters."""
    texts = [host.exec(command.split(), check=False).stdout for command in STATE]
    return [[COUNTED.sub("", line) for line in text.splitlines() if not line.startswith("#")] for text in texts]


def namespaces(host):
    """How many network namespaces the processes and threads of the host are in."""
    listed = host.exec(["sh", "-c", "readlink /proc/[0-9]*/task/*/ns/net | sort -u | wc -l"], check=False)
    return int(listed.stdout)


def proof(host, *words, code=1):
    """What a proof says; nothing of the host is another than before."""
    before = state(host)
    done = host.exec(["netdiag", "firewall", "allow", "--prove", "-o", "json", *words], check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert state(host) == before
    found = json.loads(done.stdout)
    return found["proof"], found


def verdicts(found):
    return found["before"]["verdict"], found["after"]["verdict"]


def flows(found, *, meant):
    """The flows that change, as (protocol, source, port)."""
    return {
        (each["packet"]["protocol"], each["packet"]["source"], each["packet"].get("destination_port"))
        for each in found["changed"]
        if each["meant"] is meant
    }


HAND_WRITTEN = (
    "iptables -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "iptables -A INPUT -p tcp -m multiport --dports 22,8080:8090 -j ACCEPT",
    "iptables -A INPUT -s 10.71.0.0/24 -p tcp --dport 2377 -j REJECT",
    "nft add table inet guard",
    "nft 'add chain inet guard late { type filter hook input priority 50 ; }'",
    "nft add rule inet guard late tcp dport 9 drop",
)


def test_a_rule_does_there_what_it_will_do_here(host):
    does_there_what_it_will_do_here(host, PEER, HAND_WRITTEN)


def test_a_rule_of_legacy_iptables(legacy_host):
    rules = [line.replace("iptables", "iptables-legacy") for line in HAND_WRITTEN if line.startswith("iptables")]
    does_there_what_it_will_do_here(legacy_host, "10.71.0.1", rules)


def does_there_what_it_will_do_here(host, peer, rules):
    add(host, *rules)
    packet = ("--src", peer, "--dport", "2377")
    found, answer = proof(host, *packet)
    assert (found["level"], verdicts(found)) == ("kernel", ("reject", "accept"))
    assert (found["no_ops"], found["not_copied"], found["unknown"]) == ([], [], 0)
    assert found["asked"] > 50
    assert flows(found, meant=False) == set()
    assert answer["before"]["verdict"] == "reject"
    # What is said of the copy is what the host's own trace says of the host once the rule is there.
    (command,) = answer["fix"]["commands"]
    add(host, command["text"])
    traced = host.exec(["netdiag", "firewall", "trace", *packet, "-o", "json"], check=False)
    assert json.loads(traced.stdout)["rule"]["text"] == found["after"]["rule"]["text"]


def test_another_rule_drops_it_next(host):
    add(host, *HAND_WRITTEN, "nft add rule inet guard late tcp dport 2377 drop")
    before = state(host)
    apply = ["netdiag", "firewall", "allow", "--prove", *PACKET, "--apply", "--confirm-within", "5", "-o", "json"]
    done = host.exec(apply, check=False)
    found = json.loads(done.stdout)
    assert verdicts(found["proof"]) == ("reject", "drop")
    assert (done.returncode, found["applied"]) == (1, False)
    assert "not let through with the rule" in found["reason"]
    assert state(host) == before
    assert "this packet: reject -> drop" in done.stderr
    assert "by nft-native inet guard late rule 2: tcp dport 2377 drop" in done.stderr


def test_flows_that_the_rule_is_for_and_others(host):
    add(
        host,
        "ip addr add 10.71.0.77/32 dev eth0",
        "iptables -A INPUT -p tcp --dport 2377 -j DROP",
    )
    try:
        found, _ = proof(host, *PACKET)
    finally:
        add(host, "ip addr del 10.71.0.77/32 dev eth0")
    # To the host's other address it is the same peer and port: the rule names no address of the host's.
    assert flows(found, meant=True) == {("tcp", PEER, 2377)}
    assert [each["packet"]["destination"] for each in found["changed"]] == ["10.71.0.77"]
    assert flows(found, meant=False) == set()


def test_sets_and_native_tables_are_there(host):
    add(
        host,
        f"ipset create friends hash:net; ipset add friends 10.71.9.0/24; ipset add friends {PEER}",
        "iptables -A INPUT -m set --match-set friends src -p tcp --dport 2377 -j RETURN",
        "iptables -A INPUT -p tcp --dport 2377 -j DROP",
        "nft add table inet guard",
        "nft 'add set inet guard bad { type ipv4_addr; flags interval; elements = { 10.71.0.0/28 } }'",
        "nft 'add chain inet guard in { type filter hook input priority 50 ; }'",
        "nft 'add rule inet guard in ip saddr @bad tcp dport 2377 counter drop'",
    )
    found, answer = proof(host, *PACKET)
    assert verdicts(found) == ("drop", "accept")
    assert answer["before"]["rule"]["table"] == "guard"
    assert found["before"]["rule"]["text"].startswith("ip saddr @bad tcp dport 2377")
    assert flows(found, meant=False) == set()
    # Who is not in the set is stopped by the other rule, with the change and without.
    stopped, _ = proof(host, "--src", "10.71.0.99", "--dport", "2377")
    assert verdicts(stopped) == ("drop", "accept")
    assert stopped["before"]["rule"]["text"].endswith("--dport 2377 -j DROP")


def test_the_way_out_and_through(pair_lab, host):
    add(
        host,
        "sysctl -qw net.ipv4.ip_forward=1",
        "ip link add side type veth peer name edis; ip link set side up; ip addr add 10.99.0.1/24 dev side; ip link set edis up",
        "ip rule add pref 100 fwmark 7 table 77; ip route add default via 10.99.0.9 dev side table 77 onlink",
        "iptables -t mangle -A PREROUTING -p tcp --dport 8080 -j MARK --set-mark 7",
        "iptables -A FORWARD -o side -p tcp --dport 8080 -j DROP",
        "iptables -A OUTPUT -d 10.99.0.5 -p udp --dport 53 -j DROP",
    )
    try:
        # Only where its mark leads it out by "side" does the rule meet it.
        through = ("--path", "forward", "--src", PEER, "--dst", "203.0.113.9", "--dport", "8080", "--out", "side")
        found, _ = proof(host, *through)
        assert verdicts(found) == ("drop", "accept")
        assert found["not_copied"] == []
        out, _ = proof(host, "--path", "out", "--dst", "10.99.0.5", "--proto", "udp", "--dport", "53")
        assert verdicts(out) == ("drop", "accept")
        assert flows(out, meant=False) == set()
    finally:
        add(host, "ip link del side; ip rule del pref 100; sysctl -qw net.ipv4.ip_forward=0")


def test_a_reverse_path_filter_is_copied(host):
    """A rule does not help where something else loses the packet, and the copy shows it."""
    add(
        host,
        "ip link add side type veth peer name edis; ip link set edis up; ip link set side up",
        "ip addr add 10.99.0.1/24 dev side; sysctl -qw net.ipv4.conf.side.rp_filter=1",
        "iptables -t raw -A PREROUTING -p tcp --dport 2377 -j DROP",
    )
    try:
        words = ("--in", "side", "--src", PEER, "--dst", "10.99.0.1", "--dport", "2377")
        found, _ = proof(host, *words, code=3)
        assert verdicts(found) == ("drop", "unknown")
        assert "reverse path filter of side is strict" in found["after"]["reason"]
        add(host, "sysctl -qw net.ipv4.conf.side.rp_filter=0 net.ipv4.conf.all.rp_filter=0")
        assert verdicts(proof(host, *words)[0]) == ("drop", "accept")
    finally:
        add(host, "ip link del side")


SAVED = """\
# Generated by iptables-save v1.8.9 ({})
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:LAMPS - [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -p udp -j LAMPS
-A INPUT -s 10.71.0.0/24 -p icmp -m set --match-set elsewhere src -j DROP
-A INPUT -i wan7 -p tcp -m tcp --dport 22 -j ACCEPT
-A LAMPS -p udp -m udp --dport 4789 -j LED --led-trigger-id netdiag
-A LAMPS -j DROP
COMMIT
"""


def saved(host, variant):
    host.exec(["sh", "-c", f"cat > /tmp/saved <<'END'\n{SAVED.format(variant)}END"])
    return "--rules", "/tmp/saved", "--in", "eth9", "--src", PEER


def test_a_rule_that_this_kernel_does_not_load(host):
    """In the copy it only counts: who comes to it has no verdict, and nobody else is concerned."""
    words = saved(host, "nf_tables")
    # It is asked about other ports than the rule's.
    found, answer = proof(host, *words, "--proto", "udp", "--dport", "53")
    assert (found["level"], verdicts(found)) == ("kernel", ("drop", "accept"))
    assert (answer["before"]["level"], answer["before"]["rule"]["chain"]) == ("facts", "LAMPS")
    assert no_ops(found) == [("INPUT", 3), ("LAMPS", 1)]
    assert 0 < found["unknown"] < found["asked"] / 2
    reached, answer = proof(host, *words, "--proto", "udp", "--dport", "4789", code=3)
    assert answer["fix"]["place"] == "filter LAMPS, before rule 2"
    assert verdicts(reached) == ("unknown", "unknown")
    assert "does not load, filter LAMPS rule 1" in reached["before"]["reason"]


def test_a_rule_that_legacy_iptables_does_not_name(legacy_host):
    """It says of a whole table that it does not load: which rule it is is found out."""
    reached, _ = proof(legacy_host, *saved(legacy_host, "legacy"), "--proto", "udp", "--dport", "4789", code=3)
    assert no_ops(reached) == [("INPUT", 3), ("LAMPS", 1)]
    assert verdicts(reached) == ("unknown", "unknown")


def no_ops(found):
    return sorted((rule["chain"], rule["number"]) for rule in found["no_ops"])


def test_a_bundle_without_its_host(pair_lab, host):
    """Addresses and routes are the bundle's, on a host that has none of them."""
    two = pair_lab.host("two")
    add(two, "iptables -A INPUT -i eth0 -d 10.71.0.2 -p tcp --dport 2377 -j DROP")
    try:
        two.exec(["netdiag", "collect", "-o", "/tmp/two.bundle"])
    finally:
        two.exec(["nft", "flush", "ruleset"])
    data = two.exec(["base64", "/tmp/two.bundle"]).stdout
    host.exec(["sh", "-c", f"base64 -d > /tmp/two.bundle <<'END'\n{data}END"])
    found, answer = proof(host, "--bundle", "/tmp/two.bundle", "--src", "10.71.0.1", "--dport", "2377")
    assert (found["level"], verdicts(found)) == ("kernel", ("drop", "accept"))
    packet = answer["packet"]
    assert (packet["in_device"], packet["destination"]) == ("eth0", "10.71.0.2")
    assert found["not_copied"] == []


def test_a_block_of_nfts(host):
    block = "tcp dport 2377 jump { ip saddr 10.71.0.0/24 drop; }"
    add(host, f"nft 'table inet g {{ chain i {{ type filter hook input priority 0; {block}; }}; }}'")
    found, _ = proof(host, *PACKET)
    assert (verdicts(found), found["reason"]) == (("drop", "accept"), "")


def test_ipv6(host):
    add(
        host,
        "ip -6 addr add 2001:db8:71::1/64 dev eth0 nodad",
        "ip6tables -A INPUT -s 2001:db8:71::/64 -p tcp --dport 2377 -j DROP",
        "ip6tables -A INPUT -p icmpv6 -j DROP",
    )
    try:
        found, _ = proof(host, "--src", "2001:db8:71::2", "--dport", "2377")
    finally:
        add(host, "ip -6 addr del 2001:db8:71::1/64 dev eth0")
    assert verdicts(found) == ("drop", "accept")
    assert (found["not_copied"], flows(found, meant=False)) == ([], set())
    assert found["unknown"] < found["asked"] / 4


def test_without_root_it_is_computed(host):
    add(host, *HAND_WRITTEN, "iptables-save > /tmp/rules; chmod 644 /tmp/rules")
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "netdiag", "firewall", "allow", "--prove"]
    saved = ("--rules", "/tmp/rules", "--in", "eth0")
    done = host.exec([*nobody, *saved, *PACKET, "-o", "json"], check=False)
    answer = json.loads(done.stdout)
    found = answer["proof"]
    assert (done.returncode, found["level"], verdicts(found)) == (1, "computed", ("reject", "accept"))
    assert (answer["before"]["confidence"], flows(found, meant=False)) == ("likely", set())
    # Root's kernel says the same of the same rules, flow by flow.
    by_kernel, _ = proof(host, *saved, *PACKET)
    assert (by_kernel["level"], verdicts(by_kernel)) == ("kernel", ("reject", "accept"))
    assert flows(by_kernel, meant=True) == flows(found, meant=True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rules", "/nowhere", *PACKET), "/nowhere: No such file"),
        (("--rules", "/etc/hostname", *PACKET), "holds no rules that iptables-save prints"),
        (("--rules", "/tmp/x", "--bundle", "/tmp/x", *PACKET), "give one of them"),
        (("--rules", "/tmp/x", *PACKET, "--apply"), "does not go with --rules and --bundle"),
        (("--bundle", "/etc/hostname", *PACKET), "/etc/hostname"),
    ],
)
def test_usage(host, words, said):
    done = host.exec(["netdiag", "firewall", "allow", *words], check=False)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert said in done.stderr


def test_killed_at_any_moment(host):
    """Two namespaces, a process and devices: a kill -9 leaves none of them, and no rule of the host's is another."""
    add(host, *HAND_WRITTEN)
    before = state(host)
    argv = ["netdiag", "firewall", "allow", "--prove", *PACKET]
    for moment in (2, 2, 3):
        with host.popen(argv) as process:
            # In the first copy; and as far as its rules and the sample.
            until(lambda: namespaces(host) > 1 or process.poll() is not None, 10, "the copy")
            if moment == 3:
                until(lambda: loaded(host) or process.poll() is not None, 10, "its rules")
            os.killpg(process.pid, signal.SIGKILL)
            end_group(process)
        until(lambda: namespaces(host) == 1, 10, "the copy's end")
        assert process.returncode != 0
        assert state(host) == before
        assert "netdiag-" not in host.exec(["ip", "-o", "link"]).stdout


def loaded(host):
    """Whether a copy has the rules by now."""
    script = """for each in /proc/[0-9]*/task/*/ns/net; do
        test "$(readlink $each)" = "$(readlink /proc/1/ns/net)" || nsenter --net=$each nft list ruleset; done"""
    return "guard" in host.exec(["sh", "-c", script], check=False).stdout
