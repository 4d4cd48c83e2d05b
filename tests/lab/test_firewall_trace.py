"""The kernel names the rule: one packet in, one packet out, on a lab host with rules that somebody wrote."""

import contextlib
import json
import random
import re
import subprocess

import pytest

from netdiag.lab.host import end_group
from netdiag.lab.process import until

COUNTERS = re.compile(r"\[\d+:\d+\]")
MS = 5.0
"""The longest that sending to the rule's name may take."""


@pytest.fixture
def host(pair_lab):
    """A host without rules; whatever a test adds is gone afterwards."""
    one = pair_lab.host("one")
    yield one
    one.exec(["nft", "flush", "ruleset"])
    one.exec(["sh", "-c", "iptables-legacy -P INPUT ACCEPT; iptables-legacy -F; iptables-legacy -X"])


def trace(host, *words, expect):
    """The answer of ``netdiag firewall trace``, which must leave the rules as they were."""
    before = rules(host)
    result = host.exec(["netdiag", "firewall", "trace", *words, "--output", "json"], check=False)
    assert "Traceback" not in result.stderr
    assert result.returncode in (0, 1, 3), result.stderr
    found = json.loads(result.stdout)
    assert found["verdict"] == expect, result.stdout
    assert result.returncode == {"accept": 0, "drop": 1, "reject": 1, "unknown": 3}[expect]
    assert rules(host) == before
    assert found["level"] == "owned-trace"
    return found


def rules(host):
    """All rules without counters, and all devices."""
    commands = ("nft -s -a list ruleset", "iptables-nft-save", "iptables-legacy-save", "ip -br link")
    texts = [host.exec(command.split()).stdout for command in commands]
    return [[COUNTERS.sub("", line) for line in text.splitlines() if not line.startswith("#")] for text in texts]


def add(host, *lines):
    for line in lines:
        host.exec(line.split())


def test_input_drop(host):
    add(host, "iptables-nft -A INPUT -p udp -j ACCEPT", "iptables-nft -A INPUT -p tcp --dport 2377 -j DROP")
    found = trace(host, "--dport", "2377", expect="drop")
    rule = found["rule"]
    assert rule["text"] == "-A INPUT -p tcp -m tcp --dport 2377 -j DROP"
    assert (rule["table"], rule["chain"], rule["number"], rule["owner"]) == ("filter", "INPUT", 2, "operator")
    assert (rule["backend"], rule["family"], rule["namespace"]) == ("iptables-nft", "ip", "host")
    assert found["policy"] is None
    assert found["elapsed_ms"] <= MS
    assert found["path"][-1]["packets"] == 0
    assert trace(host, "--dport", "2377", expect="drop")["path"][-1]["packets"] == 1


def test_reject_is_said_and_answers_nobody(host, pair_lab):
    peer = pair_lab.host("two")
    add(
        peer,
        "nft add table ip seen",
        "nft add chain ip seen pre { type filter hook prerouting priority -500 ; }",
        f"nft add rule ip seen pre ip saddr {host.address} counter",
    )
    try:
        add(host, "iptables-nft -A INPUT -p tcp --dport 2377 -j REJECT --reject-with tcp-reset")
        add(host, "iptables-nft -A INPUT -j REJECT")
        assert trace(host, "--dport", "2377", expect="reject")["rule"]["number"] == 1
        assert trace(host, "--dport", "2377", "--tcp-flags", "ack", expect="reject")["rule"]["number"] == 1
        for words in (("--proto", "udp", "--dport", "4789"), ("--proto", "icmp"), ("--dport", "80")):
            rule = trace(host, *words, expect="reject")["rule"]
            assert rule["text"] == "-A INPUT -j REJECT --reject-with icmp-port-unreachable"
            assert rule["number"] == 2
        assert "counter packets 0 bytes 0" in peer.exec(["nft", "list", "table", "ip", "seen"]).stdout
    finally:
        add(peer, "nft delete table ip seen")


def test_called_chain_names_its_call_site_and_owner(host):
    add(
        host,
        "iptables-nft -N ufw-user-input",
        "iptables-nft -A INPUT -i lo -j ACCEPT",
        "iptables-nft -A INPUT -p tcp -j ufw-user-input",
        "iptables-nft -A ufw-user-input -p tcp --dport 7946 -j DROP",
    )
    found = trace(host, "--dport", "7946", expect="drop")
    assert found["rule"]["text"] == "-A ufw-user-input -p tcp -m tcp --dport 7946 -j DROP"
    assert (found["rule"]["number"], found["rule"]["owner"]) == (1, "ufw")
    assert found["rule"]["call_site"] == "filter INPUT rule 2: -A INPUT -p tcp -j ufw-user-input"
    assert [step["verdict"] for step in found["path"]] == ["jump", "drop"]


def test_output_drop(host, pair_lab):
    peer = pair_lab.host("two").address
    add(host, "iptables-nft -A OUTPUT -p udp --dport 4789 -j DROP")
    found = trace(host, "--path", "out", "--dst", peer, "--proto", "udp", "--dport", "4789", expect="drop")
    assert found["rule"]["text"] == "-A OUTPUT -p udp -m udp --dport 4789 -j DROP"
    assert (found["rule"]["chain"], found["rule"]["number"], found["rule"]["owner"]) == ("OUTPUT", 1, "operator")
    assert found["elapsed_ms"] <= MS


def test_what_a_host_sends_to_itself_passes_input_too(host):
    words = ("--path", "out", "--dst", host.address, "--dport", "80")
    assert trace(host, *words, expect="accept")["packet"]["out_device"] == "lo"
    add(host, "iptables-nft -A INPUT -i lo -p tcp --dport 80 -j REJECT")
    found = trace(host, *words, expect="reject")
    assert (found["rule"]["chain"], found["rule"]["number"]) == ("INPUT", 1)


def test_native_chain_with_another_priority(host):
    add(
        host,
        "iptables-nft -A INPUT -p tcp --dport 2377 -j ACCEPT",
        "nft add table inet guard",
        "nft add chain inet guard late { type filter hook input priority 50 ; }",
        "nft add rule inet guard late tcp dport 22 accept",
        "nft add rule inet guard late tcp dport 2377 counter drop",
    )
    found = trace(host, "--dport", "2377", expect="drop")
    rule = found["rule"]
    assert (rule["backend"], rule["family"], rule["table"], rule["chain"]) == ("nft-native", "inet", "guard", "late")
    assert (rule["number"], rule["text"], rule["owner"]) == (2, "tcp dport 2377 counter drop", "operator")
    assert [step["verdict"] for step in found["path"]] == ["accept", "drop"]


def test_netdev_ingress_drop(host):
    add(
        host,
        "nft add table netdev edge",
        "nft add chain netdev edge in { type filter hook ingress device eth0 priority -500 ; }",
        "nft add rule netdev edge in udp dport 4789 drop",
    )
    found = trace(host, "--proto", "udp", "--dport", "4789", expect="drop")
    assert (found["rule"]["family"], found["rule"]["text"], found["rule"]["number"]) == (
        "netdev",
        "udp dport 4789 drop",
        1,
    )
    assert found["path"][-1]["hook"] == "ingress"


def test_policy_drop(host):
    add(host, "iptables-nft -A INPUT -p icmp -j ACCEPT", "iptables-nft -P INPUT DROP")
    found = trace(host, "--dport", "80", expect="drop")
    assert found["rule"] is None
    assert (found["policy"]["policy"], found["policy"]["chain"], found["policy"]["text"]) == (
        "DROP",
        "INPUT",
        ":INPUT DROP",
    )
    accepted = trace(host, "--proto", "icmp", expect="accept")
    assert accepted["rule"]["text"] == "-A INPUT -p icmp -j ACCEPT"


def test_accept_without_any_rule_and_nothing_is_delivered(host, pair_lab):
    peer = pair_lab.host("two").address
    with host.popen(["python3", "-c", LISTEN]) as listener:
        try:
            assert listener.stdout.readline() == "ready\n"
            assert trace(host, "--proto", "udp", "--dport", "5000", expect="accept")["path"] == []
            for words in (("--proto", "icmp"), ("--dport", "80", "--tcp-flags", "syn,ack"), ("--dport", "80")):
                trace(host, "--path", "out", "--dst", peer, *words, expect="accept")
            # What the listener gets first was sent by nobody but us.
            host.exec(["python3", "-c", "import socket; socket.socket(2, 2).sendto(b'control', ('127.0.0.1', 5000))"])
            assert listener.stdout.readline() == "b'control'\n"
        finally:
            end_group(listener)


LISTEN = """
import socket
s = socket.socket(2, 2); s.bind(("0.0.0.0", 5000)); print("ready", flush=True); print(s.recv(100), flush=True)
"""


def test_ipv6(host):
    add(host, "ip -6 addr add fd00:71::1/64 dev eth0 nodad", "ip6tables-nft -A INPUT -p tcp --dport 2377 -j DROP")
    try:
        found = trace(host, "--src", "fd00:71::2", "--dport", "2377", expect="drop")
        assert (found["rule"]["family"], found["rule"]["number"]) == ("ip6", 1)
        assert found["rule"]["text"] == "-A INPUT -p tcp -m tcp --dport 2377 -j DROP"
        add(host, "ip6tables-nft -A OUTPUT -p udp -j REJECT")
        words = ("--path", "out", "--dst", "fd00:71::2", "--proto", "udp", "--dport", "53")
        assert trace(host, *words, expect="reject")["rule"]["chain"] == "OUTPUT"
    finally:
        add(host, "ip -6 addr del fd00:71::1/64 dev eth0")


def test_only_this_packet_is_reported(host):
    """Somebody else traces everything, and there is traffic."""
    add(
        host,
        "iptables-nft -A INPUT -p tcp --dport 2377 -j DROP",
        "nft add table ip noise",
        "nft add chain ip noise pre { type filter hook prerouting priority -350 ; }",
        "nft add rule ip noise pre meta nftrace set 1",
    )
    sender = "import socket\ns = socket.socket(2, 2)\nwhile True: s.sendto(b'x', ('127.0.0.1', 9))"
    with host.popen(["python3", "-c", sender]) as noise:
        try:
            found = trace(host, "--dport", "2377", expect="drop")
        finally:
            end_group(noise)
    assert found["rule"]["text"] == "-A INPUT -p tcp -m tcp --dport 2377 -j DROP"
    assert {step["rule"]["table"] for step in found["path"]} == {"noise", "filter"}
    assert sum(step["rule"]["chain"] == "INPUT" for step in found["path"]) == 1


def test_a_connection_in_use_is_left_alone(host):
    add(host, "nft add table ip state", "nft add chain ip state in { type filter hook input priority 0 ; }")
    add(host, "nft add rule ip state in ct state new counter")
    words = ("--src", "10.71.0.2", "--proto", "udp", "--sport", "7946", "--dport", "7946")
    trace(host, *words, expect="accept")
    # The tuple is only in use once the host itself has spoken to the peer.
    host.exec(
        [
            "python3",
            "-c",
            "import socket; s = socket.socket(2, 2); s.bind(('', 7946)); s.sendto(b'', ('10.71.0.2', 7946))",
        ]
    )
    result = host.exec(["netdiag", "firewall", "trace", *words], check=False)
    assert result.returncode == 2
    assert "in use; give another source port" in result.stderr


def residue(host):
    tables = host.exec(["nft", "list", "tables"]).stdout.split()
    links = host.exec(["ip", "-br", "link"]).stdout.split()
    return [word for word in tables + links if word.startswith("netdiag-")]


@pytest.mark.parametrize("path", [("--path", "in"), ("--path", "out", "--dst", "10.71.0.2")])
def test_nothing_is_left_after_a_kill(host, path):
    # A legacy drop does not end a trace, which waits as long as it may: the longest time to be killed in.
    add(host, "iptables-legacy -A INPUT -p tcp -j DROP", "iptables-legacy -A OUTPUT -p tcp -j DROP")
    seen = 0
    for moment in range(6):
        process = host.popen(["netdiag", "firewall", "trace", *path, "--dport", "2377"])
        if moment % 2:
            until(lambda running=process: residue(host) or running.poll() is not None, 10, "a trace")
            seen += bool(residue(host))
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(random.uniform(0.2, 1.0))
        end_group(process)
        until(lambda: not residue(host), 5, "the kernel's own tidying")
        assert host.exec(["pgrep", "-f", "firewall trace"], check=False).stdout == ""
    assert seen, "no kill hit a running trace"


def test_usage(host):
    for words, said in (
        (("--path", "out", "--dport", "1"), "--dst says where to"),
        (("--proto", "tcp"), "--dport says to which port"),
        (("--src", "10.71.0.2", "--dst", "::1"), "two families"),
        (("--src", "10.71.0.2", "--dst", "10.71.0.9", "--dport", "1"), "no address of this host"),
        (("--in", "nope0", "--dport", "1"), "no such device in this host; it has eth0"),
    ):
        result = host.exec(["netdiag", "firewall", "trace", *words], check=False)
        assert result.returncode == 2, result.stdout
        assert said in result.stderr


def test_another_destination(host):
    """A published port: the rules on the way are named, and so is what its addresses become."""
    add(host, "sysctl -qw net.ipv4.ip_forward=1")
    add(host, "iptables-nft -t nat -A PREROUTING -p tcp --dport 8080 -j DNAT --to-destination 10.71.0.2:80")
    try:
        words = ("--src", "10.71.0.3", "--dst", host.address, "--dport", "8080")
        found = trace(host, *words, expect="accept")
        assert "not for this host itself: a rule sends it on to 10.71.0.2" in found["reason"]
        (rewrite,) = found["nat"]
        assert (rewrite["before"]["destination"], rewrite["before"]["destination_port"]) == (host.address, 8080)
        assert (rewrite["after"]["destination"], rewrite["after"]["destination_port"]) == ("10.71.0.2", 80)
        assert (rewrite["rule"]["table"], rewrite["rule"]["chain"], rewrite["rule"]["number"]) == (
            "nat",
            "PREROUTING",
            1,
        )
        assert found["packet"]["out_device"] == "eth0"
        add(host, "iptables-nft -A FORWARD -d 10.71.0.2 -p tcp --dport 80 -j DROP")
        rule = trace(host, *words, expect="drop")["rule"]
        assert (rule["chain"], rule["text"]) == (
            "FORWARD",
            "-A FORWARD -d 10.71.0.2/32 -p tcp -m tcp --dport 80 -j DROP",
        )
    finally:
        add(host, "sysctl -qw net.ipv4.ip_forward=0")


def test_several_at_once(host):
    add(host, "iptables-nft -A INPUT -p tcp --dport 2377 -j DROP")
    ports = ("2377", "80", "2377", "80")
    running = [host.popen(["netdiag", "firewall", "trace", "--dport", port, "-o", "json"]) for port in ports]
    answers = [json.loads(process.communicate(timeout=20)[0]) for process in running]
    assert [answer["verdict"] for answer in answers] == ["drop", "accept", "drop", "accept"]
    assert residue(host) == []


def test_beside_an_engine(swarm2_lab):
    """Docker's own chains are passed through and stay as they are."""
    manager, worker = swarm2_lab.host("manager"), swarm2_lab.host("worker")
    words = ("--src", manager.address, "--proto", "udp", "--dport", "4789")
    accepted = trace(worker, *words, expect="accept")
    assert accepted["packet"]["destination"] == worker.address
    assert "docker" in [step["rule"]["owner"] for step in accepted["path"]]
    swarm2_lab.break_("drop", host="worker", chain="INPUT", proto="udp", dport=4789)
    found = trace(worker, *words, expect="drop")
    assert found["rule"]["text"] == "-A INPUT -p udp -m udp --dport 4789 -j DROP"
    assert (found["rule"]["number"], found["rule"]["owner"]) == (1, "operator")
    assert found["elapsed_ms"] <= MS


def test_a_host_without_nft(host):
    """Debian's iptables does not bring it: the kernel says which rule, iptables its text."""
    add(
        host,
        "iptables-nft -N CALLED",
        "iptables-nft -A INPUT -i lo -j ACCEPT",
        "iptables-nft -A INPUT -p tcp -j CALLED",
        "iptables-nft -A CALLED -p tcp --dport 22 -j ACCEPT",
        "iptables-nft -A CALLED -p tcp --dport 2377 -j REJECT",
        "nft add table inet guard",
        "nft add chain inet guard in { type filter hook input priority 5 ; }",
        "nft add rule inet guard in tcp dport 80 drop",
    )
    tool = host.exec(["sh", "-c", "command -v nft"]).stdout.strip()
    host.exec(["mv", tool, tool + ".away"])
    try:
        result = host.exec(["netdiag", "firewall", "trace", "--dport", "2377", "-o", "json"], check=False)
        rule = json.loads(result.stdout)["rule"]
        assert (rule["chain"], rule["number"], rule["backend"]) == ("CALLED", 2, "iptables-nft")
        assert rule["text"] == "-A CALLED -p tcp -m tcp --dport 2377 -j REJECT --reject-with icmp-port-unreachable"
        assert rule["call_site"] == "filter INPUT rule 2: -A INPUT -p tcp -j CALLED"
        result = host.exec(["netdiag", "firewall", "trace", "--dport", "80", "-o", "json"], check=False)
        found = json.loads(result.stdout)
        assert (found["rule"]["table"], found["rule"]["number"], found["rule"]["text"]) == ("guard", 1, "")
        assert "nft" in found["reason"]
    finally:
        host.exec(["mv", tool + ".away", tool])


BLOCK = """\
table inet t {
chain c {
type filter hook input priority 0
tcp dport {22,80} counter jump { ip saddr 192.0.2.1 accept; counter drop comment "in"; }
}
}"""


def test_a_rule_in_a_block_is_named_with_its_number(host):
    host.exec(["nft", BLOCK])
    found = trace(host, "--dport", "80", expect="drop")
    rule = found["rule"]
    assert re.fullmatch(r"__chain\d+", rule["chain"])
    assert (rule["number"], rule["text"]) == (2, 'counter drop comment "in"')
    assert rule["call_site"].startswith("t c rule 1: tcp dport { 22, 80 } counter jump { ip saddr 192.0.2.1 accept; ")
    assert (found["reason"], [step["verdict"] for step in found["path"]]) == ("", ["jump", "drop"])
    fix = host.exec(["netdiag", "firewall", "allow", "--src", "10.71.0.2", "--dport", "80"], check=False).stdout
    assert "inet t c, before rule 1" in fix
