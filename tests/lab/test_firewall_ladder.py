"""The levels below an owned trace: tables that are swept, legacy chains, counters, facts; and nothing left of any."""

import contextlib
import json
import random
import subprocess
import time

import pytest
from jsonschema import Draft202012Validator

from netdiag.lab.host import end_group
from netdiag.lab.process import until
from netdiag.report.schema import schema
from tests.lab.ladder import LEGACY, LOGGER, SWEEP, TABLE, add, clear, logger, python, said, tables, trace


@pytest.fixture
def host(pair_lab):
    """A host without rules; whatever a test adds is gone afterwards."""
    one = pair_lab.host("one")
    yield one
    clear(one)


def test_a_swept_table_goes_with_its_owner(host):
    said(host, TABLE)
    assert tables(host) == ""
    with python(host, TABLE, "stay") as process:
        guard = process.stdout.readline().strip()
        assert "netdiag-0badcafe" in tables(host)
        # A terminal that closes, and who ends what he sees, does not reach the guard.
        for name in ("HUP", "INT", "TERM", "QUIT"):
            host.exec(["kill", f"-{name}", guard])
        assert "netdiag-0badcafe" in tables(host)
        end_group(process)
    until(lambda: tables(host) == "", 5, "the guard's work")
    until(lambda: host.exec(["kill", "-0", guard], check=False).returncode != 0, 5, "the guard's end")


def test_the_next_start_sweeps_what_a_killed_guard_left_and_no_living_one(host):
    with python(host, TABLE, "stay") as process:
        guard = process.stdout.readline().strip()
        assert said(host, SWEEP) == '{"removed": [], "living": ["netdiag-0badcafe"]}\n'
        host.exec(["kill", "-KILL", guard])
        assert said(host, SWEEP) == '{"removed": [], "living": ["netdiag-0badcafe"]}\n'
        end_group(process)
    # Somebody's own table, whatever it is called, is not ours.
    host.exec(["nft", "add", "table", "inet", "netdiag-mine"])
    assert "netdiag-0badcafe" in tables(host)
    expected = '{"removed": ["nft table inet netdiag-0badcafe"], "living": []}\n'
    assert said(host, SWEEP, "say") == expected
    assert "netdiag-0badcafe" in tables(host)
    assert said(host, SWEEP) == expected
    assert tables(host) == "table inet netdiag-mine\n"


def test_the_logger_is_put_back(host):
    before = logger(host)
    assert before != "nfnetlink_log"
    said(host, LEGACY.replace("STAY_S", "0"))
    assert logger(host) == before
    for _ in range(8):
        with python(host, LEGACY.replace("STAY_S", "60")) as process:
            process.stdout.readline()
            time.sleep(random.uniform(0, 0.06))  # the moment of the kill is what is tried
            end_group(process)
        until(lambda: logger(host) == before and tables(host) == "", 5, "the guard's work")
    with python(host, LEGACY.replace("STAY_S", "60")) as process:
        assert [process.stdout.readline(), process.stdout.readline()] == ["starting\n", "ready\n"]
        assert logger(host) == "nfnetlink_log"
        end_group(process)
    until(lambda: logger(host) == before and tables(host) == "", 5, "the guard's work")


def test_the_next_start_puts_the_logger_back_when_nobody_else_could(host):
    before = logger(host)
    with python(host, LEGACY.replace("STAY_S", "60")) as process:
        assert [process.stdout.readline(), process.stdout.readline()] == ["starting\n", "ready\n"]
        host.exec(["kill", "-KILL", process.stdout.readline().strip()])
        end_group(process)
    assert logger(host) == "nfnetlink_log"
    assert f"net.netfilter.nf_log.2 is {before} again" in said(host, SWEEP)
    assert logger(host) == before
    assert tables(host) == ""


def test_two_traces_of_legacy_chains_do_not_disturb_each_other(host):
    before = logger(host)
    running = [python(host, LEGACY.replace("STAY_S", "0.2")) for _ in range(3)]
    for process in running:
        out, err = process.communicate(timeout=20)
        assert out.startswith("starting\nready\n"), err
    assert logger(host) == before


@pytest.mark.parametrize("level", ["owned-trace", "swept-trace"])
def test_a_legacy_drop_is_named_while_nft_accepts(host, level):
    add(
        host,
        "iptables-nft -A INPUT -p tcp -j ACCEPT",
        "iptables-legacy -N f2b-sshd",
        "iptables-legacy -A INPUT -i lo -j ACCEPT",
        "iptables-legacy -A INPUT -p tcp -j f2b-sshd",
        "iptables-legacy -A f2b-sshd -j LOG",
        "iptables-legacy -A f2b-sshd -p tcp --dport 2377 -j DROP",
    )
    before = logger(host)
    found = trace(host, "--dport", "2377", expect="drop", level=level)
    rule = found["rule"]
    assert (rule["backend"], rule["family"], rule["table"]) == ("iptables-legacy", "ip", "filter")
    assert (rule["chain"], rule["number"], rule["owner"]) == ("f2b-sshd", 2, "fail2ban")
    assert rule["text"] == "-A f2b-sshd -p tcp -m tcp --dport 2377 -j DROP"
    assert rule["call_site"] == "filter INPUT rule 2: -A INPUT -p tcp -j f2b-sshd"
    assert found["confidence"] == "proven"
    assert [(step["rule"]["backend"], step["verdict"]) for step in found["path"]] == [
        ("iptables-nft", "accept"),
        ("iptables-legacy", "jump"),
        ("iptables-legacy", "continue"),
        ("iptables-legacy", "drop"),
    ]
    assert found["elapsed_ms"] <= 5.0
    # The other port passes both variants, the LOG rule too, which takes nothing.
    assert trace(host, "--dport", "80", expect="accept", level=level)["rule"]["text"] == "-A INPUT -p tcp -j ACCEPT"
    assert logger(host) == before
    assert "netdiag" not in tables(host)


def test_an_nft_drop_is_named_while_legacy_accepts(host):
    add(host, "iptables-legacy -A INPUT -p tcp --dport 2377 -j ACCEPT", "iptables-nft -A INPUT -p tcp -j DROP")
    found = trace(host, "--dport", "2377", expect="drop")
    assert (found["rule"]["backend"], found["rule"]["number"]) == ("iptables-nft", 1)
    assert found["path"][-1]["rule"]["backend"] == "iptables-nft"


def test_a_legacy_policy_reject_and_unconditional_rule(host):
    add(host, "iptables-legacy -A INPUT -p udp -j REJECT", "iptables-legacy -P INPUT DROP")
    found = trace(host, "--dport", "80", expect="drop")
    assert found["rule"] is None
    policy = found["policy"]
    assert (policy["backend"], policy["chain"], policy["policy"]) == ("iptables-legacy", "INPUT", "DROP")
    rejected = trace(host, "--proto", "udp", "--dport", "4789", expect="reject")["rule"]
    assert (rejected["number"], rejected["text"]) == (
        1,
        "-A INPUT -p udp -j REJECT --reject-with icmp-port-unreachable",
    )
    # The kernel reports a rule without a match as the chain's policy.
    add(host, "iptables-legacy -A INPUT -j DROP")
    assert trace(host, "--dport", "80", expect="drop")["rule"]["number"] == 2


def test_a_legacy_drop_of_ipv6_and_of_what_leaves(host, pair_lab):
    add(host, "ip -6 addr add fd00:71::1/64 dev eth0 nodad", "ip6tables-legacy -A INPUT -p tcp --dport 2377 -j DROP")
    try:
        rule = trace(host, "--src", "fd00:71::2", "--dport", "2377", expect="drop")["rule"]
        assert (rule["backend"], rule["family"], rule["number"]) == ("iptables-legacy", "ip6", 1)
    finally:
        add(host, "ip -6 addr del fd00:71::1/64 dev eth0")
    add(host, "iptables-legacy -A OUTPUT -p udp --dport 4789 -j DROP")
    words = ("--path", "out", "--dst", pair_lab.host("two").address, "--proto", "udp", "--dport", "4789")
    rule = trace(host, *words, expect="drop")["rule"]
    assert (rule["backend"], rule["chain"], rule["number"]) == ("iptables-legacy", "OUTPUT", 1)


ULOGD = """
import socket, struct, time
from netdiag.participant.netlink import open_netlink, request, attribute
from netdiag.participant.deadline import Deadline
sock = open_netlink(12, "test", 1 << 16, False)
print(request(sock, 4 << 8 | 1, 5, bytes(4) + attribute(1, b"\\1"), Deadline(5), "test")["errno"], flush=True)
time.sleep(60)
"""


def test_another_program_has_the_logger(host):
    add(host, "iptables-legacy -A INPUT -p tcp --dport 2377 -j DROP", "iptables-nft -A INPUT -p udp -j DROP")
    before = logger(host)
    with python(host, ULOGD) as process:
        try:
            assert process.stdout.readline() == "0\n"
            reason = trace(host, "--dport", "2377", expect="unknown")["reason"]
            assert "legacy iptables, whose chains do not report (ip filter" in reason
            assert "another program (ulogd?) has NFLOG group 0" in reason
            # What nft does is proven all the same.
            trace(host, "--proto", "udp", "--dport", "4789", expect="drop")
        finally:
            end_group(process)
    assert logger(host) == before


@pytest.mark.parametrize("level", ["owned-trace", "swept-trace"])
def test_nothing_is_left_after_a_kill(host, level):
    # A legacy rule that says nothing for as long as a trace may take: a queue that nobody reads.
    add(host, "iptables-legacy -A INPUT -p tcp -j DROP")
    before, hit = logger(host), 0

    def clean():
        links = host.exec(["ip", "-br", "link"]).stdout
        return "netdiag-" not in tables(host) + links and logger(host) == before

    for moment in range(8):
        process = host.popen(["netdiag", "firewall", "trace", "--dport", "2377", "--level", level])
        if moment % 2:
            until(lambda running=process: not clean() or running.poll() is not None, 10, "a trace", every_s=0.005)
            hit += not clean()
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(random.uniform(0.2, 1.0))
        end_group(process)
        until(clean, 5, "the guard's work")
    assert hit, "no kill hit a running trace"


def test_a_start_sweeps_first(host):
    add(host, "iptables-nft -A INPUT -p tcp --dport 2377 -j DROP")
    with python(host, TABLE, "stay") as process:
        host.exec(["kill", "-KILL", process.stdout.readline().strip()])
        end_group(process)
    assert "netdiag-0badcafe" in tables(host)
    trace(host, "--dport", "2377", expect="drop")
    assert "netdiag" not in tables(host)


BUSY = """
import socket
s = socket.socket(2, 2)
while True:
    for port in (9, 2377):
        s.sendto(b"x", ("10.71.0.1", port))
"""


def test_counters_name_the_rule_beside_busy_traffic(host, pair_lab):
    add(
        host,
        "iptables-legacy -N GUARD",
        "iptables-legacy -A INPUT -p udp -j ACCEPT",
        "iptables-legacy -A INPUT -j GUARD",
        "iptables-legacy -A GUARD -p tcp -m tcp --dport 22 -j ACCEPT",
        "iptables-legacy -A GUARD -p tcp -m tcp --dport 2377 -j REJECT",
    )
    with python(pair_lab.host("two"), BUSY) as noise:
        try:
            found = trace(host, "--dport", "2377", expect="reject", level="counters")
            accepted = trace(host, "--dport", "22", expect="accept", level="counters")
        finally:
            end_group(noise)
    rule = found["rule"]
    assert (rule["backend"], rule["chain"], rule["number"]) == ("iptables-legacy", "GUARD", 2)
    assert rule["text"] == "-A GUARD -p tcp -m tcp --dport 2377 -j REJECT --reject-with icmp-port-unreachable"
    assert rule["call_site"] == "filter INPUT rule 2: -A INPUT -j GUARD"
    assert found["confidence"] == "proven"
    assert [step["verdict"] for step in found["path"]] == ["jump", "drop"]
    assert (accepted["rule"]["text"], accepted["confidence"]) == (
        "-A GUARD -p tcp -m tcp --dport 22 -j ACCEPT",
        "likely",
    )


def test_counters_of_a_busy_rule_are_likely_at_most(host, pair_lab):
    add(host, "iptables-legacy -A INPUT -j DROP")
    with python(pair_lab.host("two"), BUSY) as noise:
        try:
            found = trace(host, "--dport", "2377", expect="drop", level="counters")
        finally:
            end_group(noise)
    assert (found["rule"]["number"], found["confidence"]) == (1, "likely")
    assert "other traffic" in found["reason"]


def test_counters_of_what_leaves_of_policies_and_of_ipv6(host, pair_lab):
    two = pair_lab.host("two").address
    add(host, "iptables-legacy -A OUTPUT -p udp --dport 4789 -j DROP", "iptables-legacy -P INPUT DROP")
    words = ("--path", "out", "--dst", two, "--proto", "udp", "--dport", "4789")
    found = trace(host, *words, expect="drop", level="counters")
    assert (found["rule"]["chain"], found["confidence"]) == ("OUTPUT", "proven")
    found = trace(host, "--proto", "icmp", expect="drop", level="counters")
    assert (found["policy"]["text"], found["confidence"]) == (":INPUT DROP", "proven")
    add(host, "ip -6 addr add fd00:71::1/64 dev eth0 nodad", "ip6tables-legacy -A INPUT -p tcp --dport 2377 -j DROP")
    try:
        found = trace(host, "--src", "fd00:71::2", "--dport", "2377", expect="drop", level="counters")
        assert (found["rule"]["family"], found["rule"]["number"]) == ("ip6", 1)
    finally:
        add(host, "ip -6 addr del fd00:71::1/64 dev eth0")


def test_counters_of_nft_rules(host):
    add(
        host,
        "nft add table inet guard",
        "nft add chain inet guard called",
        "nft add rule inet guard called tcp dport 2377 counter drop",
        "nft add chain inet guard in { type filter hook input priority 5 ; }",
        "nft add rule inet guard in meta l4proto tcp jump called",
    )
    found = trace(host, "--dport", "2377", expect="drop", level="counters")
    assert (found["rule"]["backend"], found["rule"]["chain"]) == ("nft-native", "called")
    assert found["rule"]["text"] == "tcp dport 2377 counter drop"


LISTENERS = """
import socket, time
tcp = socket.socket(); tcp.setsockopt(1, 2, 1); tcp.bind(("", 2377)); tcp.listen(5)
udp = socket.socket(2, 2); udp.bind(("", 7946))
print("ready", flush=True)
time.sleep(60)
"""
SEEN = """
import socket
seen = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
seen.bind(("eth0", 0))
seen.settimeout(20)
print("ready", flush=True)
while True:
    frame, origin = seen.recvfrom(2000)
    if origin[2] == 0 and frame[26:30] == socket.inet_aton("10.71.0.1"):
        print("control" if b"control" in frame else frame.hex(), flush=True)
"""


def test_a_burst_neither_leaves_nor_is_answered_nor_delivered(host, pair_lab):
    two = pair_lab.host("two")
    add(host, "iptables-legacy -A INPUT -p tcp --dport 1 -j DROP", f"ping -c 1 -W 2 {two.address}")
    with python(two, SEEN) as seen, python(host, LISTENERS) as listeners:
        try:
            assert [seen.stdout.readline(), listeners.stdout.readline()] == ["ready\n", "ready\n"]
            for words in (
                ("--dport", "2377"),
                ("--dport", "2377", "--tcp-flags", "ack"),
                ("--dport", "81"),
                ("--proto", "udp", "--dport", "82"),
                ("--proto", "icmp"),
                ("--path", "out", "--dst", two.address, "--dport", "83"),
                ("--path", "out", "--dst", two.address, "--proto", "udp", "--dport", "84"),
                ("--path", "out", "--dst", two.address, "--proto", "icmp"),
            ):
                # Even an answer that is not known must not have let anything out.
                argv = ["netdiag", "firewall", "trace", *words, "--level", "counters", "-o", "json"]
                assert host.exec(argv, check=False).returncode in (0, 3)
            reason = trace(host, "--proto", "udp", "--dport", "7946", expect="unknown", level="counters")["reason"]
            assert reason == "send a burst to udp port 7946: a program here listens on it and would get the packets"
            assert "SYN-RECV" not in host.exec(["ss", "-tan"]).stdout
            send = f"import socket; socket.socket(2, 2).sendto(b'control', ('{two.address}', 9))"
            host.exec(["python3", "-c", send])
            assert seen.stdout.readline() == "control\n"
        finally:
            end_group(seen)
            end_group(listeners)


def test_facts_are_likely_at_most(host):
    add(host, "iptables-legacy -A INPUT -p tcp --dport 2377 -j DROP")
    before = host.exec(["iptables-legacy-save", "-c"]).stdout
    found = trace(host, "--dport", "2377", expect="drop", level="facts")
    assert (found["rule"]["number"], found["confidence"], found["elapsed_ms"]) == (1, "likely", None)
    counters = [line for line in before.splitlines() if not line.startswith("#")]
    after = host.exec(["iptables-legacy-save", "-c"]).stdout
    assert [line for line in after.splitlines() if not line.startswith("#")] == counters


def test_rules_that_are_only_read_for_what_goes_on(host):
    """The model follows a packet where the plain reading did not: through address translation, and onward."""
    forward = ("--path", "forward", "--src", "10.71.0.2", "--dst", "198.51.100.7")
    add(
        host,
        "ip route add 198.51.100.0/24 dev eth0",
        "iptables -t nat -A PREROUTING -p tcp --dport 8080 -j DNAT --to-destination 198.51.100.7:80",
        "iptables -A FORWARD -d 198.51.100.7 -p tcp --dport 80 -j DROP",
    )
    try:
        for port, expect in (("8080", "drop"), ("80", "drop"), ("81", "accept")):
            found = trace(host, *forward, "--dport", port, expect=expect, level="facts")
            assert found["confidence"] == "likely"
            if expect == "drop":
                assert (found["rule"]["chain"], found["rule"]["number"]) == ("FORWARD", 1)
        add(host, "iptables -I FORWARD -m statistic --mode random --probability 0.5 -j ACCEPT")
        reason = trace(host, *forward, "--dport", "80", expect="unknown", level="facts")["reason"]
        assert "FORWARD rule 1" in reason
        # By which of two rules is not known, but both do the same.
        add(host, "iptables -I FORWARD -m statistic --mode random --probability 0.5 -j DROP", "iptables -D FORWARD 2")
        found = trace(host, *forward, "--dport", "80", expect="drop", level="facts")
        assert (found["rule"], found["confidence"]) == (None, "likely")
        assert "by which rule is not known" in found["reason"]
    finally:
        add(host, "ip route del 198.51.100.0/24 dev eth0")


LEVELS = ("owned-trace", "swept-trace", "counters", "facts")


@pytest.mark.parametrize("level", LEVELS)
def test_what_a_host_sends_to_itself_is_decided_at_its_input(host, level):
    add(
        host,
        "iptables-legacy -A OUTPUT -p tcp --dport 82 -j REJECT",
        "iptables-legacy -A OUTPUT -j ACCEPT",
        "iptables-legacy -t mangle -A PREROUTING -p udp --dport 83 -j DROP",
        "iptables-legacy -A INPUT -p tcp --dport 2377 -j DROP",
        "iptables-legacy -A INPUT -p tcp --dport 81 -j ACCEPT",
        "iptables-legacy -A INPUT -p icmp -j DROP",
        "iptables-legacy -A INPUT -p udp -j ACCEPT",
    )
    own = ("--path", "out", "--dst", host.address)
    try:
        with python(host, LISTENERS) as listeners:
            try:
                assert listeners.stdout.readline() == "ready\n"
                rule = trace(host, *own, "--dport", "2377", expect="drop", level=level)["rule"]
                assert (rule["chain"], rule["number"]) == ("INPUT", 1)
                assert "SYN-RECV" not in host.exec(["ss", "-tan"]).stdout
            finally:
                end_group(listeners)
        accepted = trace(host, *own, "--dport", "81", expect="accept", level=level)["rule"]
        assert (accepted["chain"], accepted["number"]) == ("INPUT", 2)
        rejected = trace(host, *own, "--dport", "82", expect="reject", level=level)["rule"]
        assert (rejected["chain"], rejected["number"]) == ("OUTPUT", 1)
        dropped = trace(host, *own, "--proto", "udp", "--dport", "83", expect="drop", level=level)["rule"]
        assert (dropped["table"], dropped["chain"]) == ("mangle", "PREROUTING")
        dropped = trace(host, *own, "--proto", "icmp", expect="drop", level=level)["rule"]
        assert (dropped["chain"], dropped["number"]) == ("INPUT", 3)
        # What answers is no packet of ours: the port is closed, so the kernel says so by ICMP, which INPUT drops.
        accepted = trace(host, *own, "--proto", "udp", "--dport", "84", expect="accept", level=level)["rule"]
        assert (accepted["chain"], accepted["number"]) == ("INPUT", 4)
    finally:
        add(host, "iptables-legacy -t mangle -F")


def test_without_root_nothing_is_known(host):
    argv = ["netdiag", "firewall", "trace", "--src", "10.71.0.2", "--dport", "2377", "-o", "json"]
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    result = host.exec([*nobody, *argv], check=False)
    assert result.returncode == 3, result.stderr
    found = json.loads(result.stdout)
    assert (found["verdict"], found["level"]) == ("unknown", "facts")
    assert "cannot be read without root" in found["reason"]
    result = host.exec([*nobody, *argv, "--level", "owned-trace"], check=False)
    assert result.returncode == 2
    assert "--level owned-trace: this host allows facts at most (not root)" in result.stderr


def test_wait_needs_a_trace(host):
    argv = ["netdiag", "firewall", "trace", "--wait", "1", "--proto", "tcp", "--dport", "1", "--level", "counters"]
    result = host.exec(argv, check=False)
    assert result.returncode == 2
    assert "--wait needs a trace" in result.stderr


def test_clean(host):
    argv = ["netdiag", "clean"]
    assert host.exec(argv).stdout == "nothing to clean\n"
    before = logger(host)
    with python(host, LEGACY.replace("STAY_S", "60")) as process:
        assert [process.stdout.readline(), process.stdout.readline()] == ["starting\n", "ready\n"]
        living = host.exec(argv)
        assert living.stdout == "nothing to clean\n"
        assert "belongs to a running trace" in living.stderr
        host.exec(["kill", "-KILL", process.stdout.readline().strip()])
        end_group(process)
    plan = host.exec([*argv, "--plan"]).stdout
    document = json.loads(host.exec([*argv, "--plan", "-o", "json"]).stdout)
    Draft202012Validator(json.loads(schema("clean"))).validate(document)
    assert document["plan"] is True
    listed = [line.split(": ", 1)[1] for line in plan.splitlines()[1:]]
    assert document["namespaces"][0]["removed"] == listed
    assert f"net.netfilter.nf_log.2 is {before} again" in plan
    assert "nft table inet netdiag-" in plan
    assert logger(host) == "nfnetlink_log"
    assert host.exec(argv).stdout == plan.replace("would be removed", "removed")
    assert logger(host) == before
    assert tables(host) == ""


def test_every_level_in_another_namespace(host):
    add(
        host,
        "ip netns add inside",
        "ip link add v0 type veth peer name v1 netns inside",
        "ip addr add 10.9.0.1/24 dev v0",
        "ip link set v0 up",
        "ip -n inside addr add 10.9.0.2/24 dev v1",
        "ip -n inside link set v1 up",
        "ip netns exec inside iptables-legacy -A INPUT -p tcp --dport 5432 -j DROP",
    )
    inside = ["ip", "netns", "exec", "inside"]
    try:
        before = host.exec([*inside, "cat", LOGGER]).stdout
        for level, confidence in zip(LEVELS, ("proven", "proven", "proven", "likely"), strict=True):
            words = ("--netns", "inside", "--src", "10.9.0.1", "--dst", "10.9.0.2", "--dport", "5432")
            found = trace(host, *words, expect="drop", level=level)
            assert (found["rule"]["namespace"], found["rule"]["number"]) == ("netns:inside", 1)
            assert found["confidence"] == confidence
            assert host.exec([*inside, "cat", LOGGER]).stdout == before
            assert host.exec([*inside, "nft", "list", "tables"]).stdout == ""
    finally:
        host.exec(["ip", "netns", "del", "inside"])


@pytest.mark.parametrize("level", ["owned-trace", "swept-trace", "counters"])
def test_a_packet_that_is_forwarded(host, level):
    add(host, "sysctl -qw net.ipv4.ip_forward=1", "iptables-legacy -A FORWARD -p tcp --dport 8080 -j DROP")
    words = ("--path", "forward", "--in", "eth0", "--src", "10.71.0.2", "--dst", "10.71.0.77", "--dport", "8080")
    try:
        rule = trace(host, *words, expect="drop", level=level)["rule"]
    finally:
        add(host, "sysctl -qw net.ipv4.ip_forward=0", "iptables-legacy -F FORWARD")
    assert (rule["chain"], rule["number"], rule["backend"]) == ("FORWARD", 1, "iptables-legacy")


def test_waiting_with_a_swept_table(host, pair_lab):
    add(host, "nft add table ip guard", "nft add chain ip guard in { type filter hook input priority 0 ; }")
    add(host, "nft add rule ip guard in udp dport 4000 drop")
    argv = ["--wait", "20", "--src", pair_lab.host("two").address, "--proto", "udp", "--dport", "4000"]
    with host.popen(["netdiag", "firewall", "trace", *argv, "--level", "swept-trace", "-o", "json"]) as process:
        until(lambda: "netdiag-" in tables(host) or process.poll() is not None, 10, "the trace's table")
        send = f"import socket; socket.socket(2, 2).sendto(b'x', ('{host.address}', 4000))"
        pair_lab.host("two").exec(["python3", "-c", send])
        found = json.loads(process.communicate(timeout=30)[0])
    assert (found["verdict"], found["level"], found["rule"]["table"]) == ("drop", "swept-trace", "guard")
    assert "netdiag-" not in tables(host)
