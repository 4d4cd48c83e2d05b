"""One rule lets the packet through, a real connection says so, and without a confirmation the rules are as before."""

import contextlib
import difflib
import json
import os
import pty
import random
import re
import select
import signal
import subprocess
import sys

import pytest

from netdiag.lab.host import end_group
from netdiag.lab.process import until

COUNTERS = re.compile(r"\[\d+:\d+\]")
PEER = "10.71.0.2"
MARK = re.compile(r"netdiag-\d{8}-[0-9a-f]{8}")
"""What a rule is signed with: the day, and the change."""
SIGNED = "-m comment --comment MARK -j ACCEPT"
ACCEPT = f"-s 10.71.0.2 -p tcp --dport 2377 {SIGNED}"
PACKET = ("--src", PEER, "--dport", "2377")
DROP = "iptables -A INPUT -p tcp --dport 2377 -j DROP"
LISTEN = """
import socket
s = socket.create_server(("::", 2377), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True: s.accept()[0].close()
"""


@pytest.fixture
def host(pair_lab):
    """A host without rules; whatever a test adds is gone afterwards, and no guard is left."""
    one = pair_lab.host("one")
    yield one
    one.exec(["nft", "flush", "ruleset"])
    assert guards(one) == []


@pytest.fixture
def service(host):
    """Something that answers on the port."""
    with host.popen(["python3", "-c", LISTEN]) as listener:
        try:
            assert listener.stdout.readline() == "ready\n"
            yield
        finally:
            end_group(listener)


def add(host, *lines):
    for line in lines:
        host.exec(["sh", "-c", line])


def rules(host):
    """All rules without counters and handles."""
    commands = ("nft -s list ruleset", "iptables-nft-save", "ip6tables-nft-save")
    texts = [host.exec(command.split()).stdout for command in commands]
    return [[COUNTERS.sub("", line) for line in text.splitlines() if not line.startswith("#")] for text in texts]


def guards(host):
    return host.exec(["pgrep", "-f", "change_guard"], check=False).stdout.split()


def connects(lab, address="10.71.0.1"):
    program = f"import socket; socket.create_connection(({address!r}, 2377), 1).close()"
    return lab.host("two").exec(["python3", "-c", program], check=False).returncode == 0


def propose(host, *words, code=1):
    """The answer without ``--apply``, which changes nothing."""
    before = rules(host)
    result = host.exec(["netdiag", "firewall", "allow", *words, "-o", "json"], check=False)
    assert result.returncode == code, result.stdout + result.stderr
    assert rules(host) == before
    return json.loads(result.stdout)


def start(host, *words, within=20, **streams):
    return host.popen(["netdiag", "firewall", "allow", *words, "--apply", "--confirm-within", str(within)], **streams)


def confirm(host):
    """From another terminal, as soon as there is something to confirm."""
    said = []

    def done():
        said.append(host.exec(["netdiag", "firewall", "confirm"], check=False))
        return said[-1].returncode == 0

    until(done, 20, "something to confirm")
    assert said[-1].stdout.startswith("kept: ")


def heal(host, *words):
    """Apply with a confirmation: the answer."""
    process = start(host, *words, "-o", "json")
    confirm(host)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, out + err
    found = json.loads(out)
    assert (found["schema"], found["applied"], found["kept"]) == ("netdiag/allow/1", True, True)
    assert found["after"]["verdict"] == "accept"
    return found


def command_of(found):
    """The one command, with its signature as MARK."""
    (command,) = found["fix"]["commands"]
    assert len(MARK.findall(command["text"])) == (0 if command["text"].startswith("firewall-cmd") else 1)
    return MARK.sub("MARK", command["text"])


def undo(host, found):
    """The undo as it is pasted into a shell."""
    for command in reversed(found["fix"]["undo"]):
        host.exec(["sh", "-c", command["text"]])


INET = ("nft add table inet guard", "nft 'add chain inet guard late { type filter hook input priority 50 ; }'")


@pytest.mark.parametrize(
    ("lines", "command"),
    [
        pytest.param(
            ("iptables -A INPUT -p udp -j ACCEPT", DROP), f"iptables -I INPUT 2 {ACCEPT}", id="before the rule"
        ),
        pytest.param(("iptables -P INPUT DROP",), f"iptables -A INPUT {ACCEPT}", id="policy"),
        pytest.param(
            ("iptables -N GUARD", "iptables -A INPUT -p tcp -g GUARD", "iptables -P INPUT DROP"),
            f"iptables -I INPUT 1 {ACCEPT}",
            id="policy behind a goto",
        ),
        pytest.param(
            ("iptables -A INPUT -p udp -j ACCEPT", "iptables -A INPUT -p tcp -j RETURN", "iptables -P INPUT DROP"),
            f"iptables -I INPUT 2 {ACCEPT}",
            id="policy behind a RETURN",
        ),
        pytest.param(
            ("iptables -N CLOSED", "iptables -A INPUT -p tcp -j CLOSED", "iptables -A CLOSED -j REJECT"),
            f"iptables -I CLOSED 1 {ACCEPT}",
            id="called chain",
        ),
        pytest.param(
            ("iptables -t raw -A PREROUTING -p tcp --dport 2377 -j DROP",),
            f"iptables -t raw -I PREROUTING 1 {ACCEPT}",
            id="raw",
        ),
        pytest.param(
            ("iptables -t mangle -A INPUT -s 10.71.0.0/24 -j DROP",),
            f"iptables -t mangle -I INPUT 1 {ACCEPT}",
            id="mangle",
        ),
        pytest.param(
            (
                *INET,
                "nft add rule inet guard late tcp dport 22 accept",
                "nft add rule inet guard late tcp dport 2377 drop",
            ),
            "nft insert rule inet guard late handle HANDLE ip saddr 10.71.0.2 tcp dport 2377 accept comment",
            id="nft",
        ),
        pytest.param(
            (*INET, "nft 'chain inet guard late { policy drop ; }'"),
            "nft add rule inet guard late ip saddr 10.71.0.2 tcp dport 2377 accept comment",
            id="policy of nft",
        ),
        pytest.param(
            (
                *INET,
                "nft add rule inet guard late tcp dport 2377 return",
                "nft 'chain inet guard late { policy drop ; }'",
            ),
            "nft insert rule inet guard late handle HANDLE ip saddr 10.71.0.2 tcp dport 2377 accept comment",
            id="policy of nft behind a return",
        ),
        pytest.param(
            (
                *INET,
                "nft add chain inet guard sub",
                "nft add rule inet guard late meta l4proto tcp goto sub",
                "nft 'chain inet guard late { policy drop ; }'",
            ),
            "nft insert rule inet guard late handle HANDLE ip saddr 10.71.0.2 tcp dport 2377 accept comment",
            id="policy of nft behind a goto",
        ),
        pytest.param(
            (
                *(
                    "nft add table inet guard",
                    "nft add chain inet guard sub",
                    "nft add rule inet guard sub tcp dport 2377 drop",
                ),
                "nft 'add chain inet guard in { type filter hook input priority 0 ; }'",
                "nft add rule inet guard in ip saddr 10.71.0.0/24 jump sub",
            ),
            "nft insert rule inet guard sub handle HANDLE ip saddr 10.71.0.2 tcp dport 2377 accept comment",
            id="called chain of nft",
        ),
        pytest.param(
            (
                "nft add table netdev edge",
                "nft 'add chain netdev edge in { type filter hook ingress device eth0 priority 0 ; }'",
                "nft add rule netdev edge in tcp dport 2377 drop",
            ),
            "nft insert rule netdev edge in handle HANDLE ip saddr 10.71.0.2 tcp dport 2377 accept comment",
            id="netdev",
        ),
    ],
)
def test_one_rule_lets_the_connection_through(pair_lab, host, service, lines, command):
    add(host, *lines)
    before = rules(host)
    assert not connects(pair_lab)
    found = heal(host, *PACKET)
    assert re.sub(r"handle \d+", "handle HANDLE", command_of(found)).startswith(command)
    assert found["before"]["verdict"] in ("drop", "reject")
    assert connects(pair_lab)
    undo(host, found)
    assert rules(host) == before
    assert not connects(pair_lab)


def test_other_packets(host):
    """ICMP, packets that leave, and IPv6: what the rule matches is what was asked for."""
    add(host, "iptables -A INPUT -p icmp -j DROP", "iptables -A OUTPUT -p udp -j REJECT")
    before = rules(host)
    echo = heal(host, "--src", PEER)
    assert command_of(echo) == f"iptables -I INPUT 1 -s {PEER} -p icmp --icmp-type 8 {SIGNED}"
    out = heal(host, "--path", "out", "--dst", PEER, "--proto", "udp", "--dport", "4789")
    assert command_of(out) == f"iptables -I OUTPUT 1 -d {PEER} -p udp --dport 4789 {SIGNED}"
    undo(host, out)
    undo(host, echo)
    assert rules(host) == before


def test_ipv6(pair_lab, host, service):
    two = pair_lab.host("two")
    add(host, "ip -6 addr add fd00:71::1/64 dev eth0 nodad", "ip6tables -A INPUT -p tcp -j DROP")
    add(two, "ip -6 addr add fd00:71::2/64 dev eth0 nodad")
    try:
        assert not connects(pair_lab, "fd00:71::1")
        found = heal(host, "--src", "fd00:71::2", "--dport", "2377")
        assert command_of(found) == f"ip6tables -I INPUT 1 -s fd00:71::2 -p tcp --dport 2377 {SIGNED}"
        assert connects(pair_lab, "fd00:71::1")
    finally:
        add(host, "ip -6 addr del fd00:71::1/64 dev eth0")
        add(two, "ip -6 addr del fd00:71::2/64 dev eth0")


def test_nothing_to_do_and_nothing_changed(host):
    found = propose(host, *PACKET, code=0)
    assert (found["fix"], found["applied"], found["after"]) == (None, False, None)
    add(host, DROP)
    found = propose(host, *PACKET)
    assert (found["applied"], found["kept"], found["fix"]["risk"]) == (False, False, "low")
    assert found["fix"]["covers"] == "tcp from 10.71.0.2 to port 2377"
    assert found["fix"]["persist"] == ["apt-get install iptables-persistent", "netfilter-persistent save"]
    table = host.exec(["netdiag", "firewall", "allow", *PACKET, "--plan"], check=False)
    assert table.returncode == 1
    assert f"  iptables -D INPUT {ACCEPT}" in MARK.sub("MARK", table.stdout).splitlines()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--dport", "2377"), "--src says from whom"),
        ((*PACKET, "--unproven"), "--unproven is for --apply"),
        ((*PACKET, "--plan", "--apply"), "give one of them"),
        ((*PACKET, "--apply", "--confirm-within", "4"), "5<=x<=600"),
    ],
)
def test_usage(host, words, said):
    result = host.exec(["netdiag", "firewall", "allow", *words], check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert said in result.stderr


def test_nobody_confirms(host):
    add(host, DROP)
    before = rules(host)
    process = start(host, *PACKET, within=5)
    until(lambda: rules(host) != before, 10, "the rule")
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "Taken back. With the rule the packet's verdict was: accept." in out
    assert rules(host) == before
    result = host.exec(["netdiag", "firewall", "confirm"], check=False)
    assert (result.returncode, "no change waits" in result.stderr) == (2, True)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_early(host, how):
    """Killed, its terminal or its ssh session lost, interrupted: the guard takes the rule back at once."""
    add(host, *INET, "nft add rule inet guard late tcp dport 2377 drop")
    before = rules(host)
    with start(host, *PACKET, within=600) as process:
        until(lambda: rules(host) != before, 10, "the rule")
        os.killpg(process.pid, how)
        until(lambda: rules(host) == before, 10, "the rules as they were")
        until(lambda: not guards(host), 5, "the guard's end")
        end_group(process)
    assert process.returncode != 0


def test_killed_at_any_moment(host):
    add(host, DROP)
    before = rules(host)
    for _ in range(8):
        with start(host, *PACKET, within=600) as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(random.uniform(0.1, 1.6))
            end_group(process)
        until(lambda: not guards(host) and rules(host) == before, 10, "the rules as they were")


@pytest.mark.parametrize(("answer", "kept"), [("y\n", True), ("n\n", False), ("\n", False), (None, False)])
def test_the_terminal_is_asked(host, answer, kept):
    add(host, DROP)
    before = rules(host)
    ours, theirs = pty.openpty()
    with start(host, *PACKET, within=600, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        said = ""
        while "keep it? [y/N] (" not in said:
            assert select.select([ours], [], [], 15)[0], said
            said += os.read(ours, 4096).decode()
        assert rules(host) != before
        if answer is not None:
            os.write(ours, answer.encode())
            with contextlib.suppress(OSError):  # EIO: everybody on the other side has ended
                while os.read(ours, 4096):
                    pass
        os.close(ours)  # a terminal that is lost
        process.wait(15)
    # Where the terminal is gone there is nobody to be told.
    assert (process.returncode == 0) is kept
    until(lambda: not guards(host), 5, "the guard's end")
    assert (rules(host) != before) is kept


def test_another_rule_drops_it_next(host):
    add(host, DROP, *INET, "nft add rule inet guard late tcp dport 2377 drop")
    before = rules(host)
    process = start(host, *PACKET, "-o", "json", within=5)
    out, err = process.communicate(timeout=30)
    found = json.loads(out)
    assert (process.returncode, found["applied"], found["kept"]) == (1, True, False)
    assert (found["after"]["verdict"], found["after"]["rule"]["table"]) == ("drop", "guard")
    assert "now by nft-native inet guard late rule 1: tcp dport 2377 drop" in err
    assert rules(host) == before


CHANGE = """
import os, subprocess
from netdiag.host.change import Change, ChangeError
from netdiag.model.fix import Command, Fix

def command(text):
    return Command(argv=tuple(text.split()), text=text)

def run(*commands):
    undo = [each.replace("-I INPUT 1", "-D INPUT").replace("-I INPUT 99", "-D INPUT") for each in commands]
    fix = Fix(host="", summary="", place="", covers="", commands=tuple(map(command, commands)), undo=tuple(map(command, undo)))
    with Change(fix, change_id="lab", within_s=30) as change:
        change.apply()
        subprocess.run(["iptables", "-S", "INPUT"], check=True)
        if KILL:
            os.kill(change._process.pid, KILL)
            print(change.settled(), change.problems)
"""


FIRST = "iptables -I INPUT 1 -s 10.71.0.3 -p tcp -m comment --comment netdiag-lab -j ACCEPT"
FIRST_SAVED = "-A INPUT -s 10.71.0.3/32 -p tcp -m comment --comment netdiag-lab -j ACCEPT"


def change(host, body, kill=0):
    return host.exec([sys.executable, "-c", f"KILL = {int(kill)}\n{CHANGE}\n{body}"], check=False)


def test_half_a_change_is_taken_back(host):
    add(host, DROP)
    before = rules(host)
    second = FIRST.replace("INPUT 1", "INPUT 99").replace("10.71.0.3", "10.71.0.4")
    failed = change(host, f"run({FIRST!r}, {second!r})")
    assert f"ChangeError: {second}: " in failed.stderr
    assert "Index of insertion too big" in failed.stderr
    assert rules(host) == before
    # Leaving without a decision undoes as well; the rule was there meanwhile.
    done = change(host, f"run({FIRST!r})")
    assert FIRST_SAVED in done.stdout
    assert rules(host) == before


@pytest.mark.parametrize(
    ("how", "problems"), [(signal.SIGKILL, ("the guard process ended early",)), (signal.SIGTERM, ())]
)
def test_the_guard_is_killed(host, how, problems):
    """Killed outright, another one takes the change back; a host that shuts down gives it the time to do so itself."""
    add(host, DROP)
    before = rules(host)
    done = change(host, f"run({FIRST!r})", kill=how)
    assert FIRST_SAVED in done.stdout
    assert f"State.UNDONE {problems}" in done.stdout, done.stderr
    assert rules(host) == before


def test_only_rules_are_run(host):
    for line in ("iptables -F", "nft flush ruleset", "sh -c id", "iptables -P INPUT ACCEPT", "ufw disable"):
        refused = change(host, f"run({line!r})")
        assert f"not a command that adds one rule: {line}" in refused.stderr


def test_only_root_confirms(host):
    add(host, DROP)
    before = rules(host)
    with start(host, *PACKET, within=600) as process:
        try:
            until(lambda: rules(host) != before, 10, "the rule")
            program = "import os; os.setgid(65534); os.setuid(65534)\nfrom netdiag.host.change import *\nconfirm(pending()[0])"
            refused = host.exec([sys.executable, "-c", program], check=False)
            assert "was not kept" in refused.stderr
            assert guards(host)
        finally:
            end_group(process)
    until(lambda: rules(host) == before, 10, "the rules as they were")


@pytest.fixture
def firewalld(pair_lab, host):
    """A real firewalld, as packaged."""
    pair_lab.break_("firewalld", host="one")
    return host


def permanent(host):
    """What firewalld has of the zone after a reload."""
    return host.exec(["firewall-cmd", "--permanent", "--zone=public", "--list-rich-rules"]).stdout.strip()


def test_firewalld(pair_lab, firewalld, service):
    before = rules(firewalld)
    assert not connects(pair_lab)
    rich = f'rule family="ipv4" source address="{PEER}" port port="2377" protocol="tcp" accept'
    process = start(firewalld, *PACKET, within=5)
    out, _ = process.communicate(timeout=30)
    assert f"firewall-cmd --zone=public --add-rich-rule='{rich}'" in out
    assert (process.returncode, permanent(firewalld)) == (1, "")
    assert rules(firewalld) == before
    found = heal(firewalld, *PACKET)
    assert connects(pair_lab)
    assert permanent(firewalld) == rich
    undo(firewalld, found)
    assert rules(firewalld) == before
    add(firewalld, f"firewall-cmd --permanent --zone=public --remove-rich-rule='{rich}'")


def proven(host, *words):
    """What the rule does in a copy of the rules: it lets the packet through, and of the others only those it is for."""
    found = propose(host, *words, "--prove")["proof"]
    assert (found["level"], found["reason"], found["no_ops"], found["not_copied"]) == ("kernel", "", [], [])
    assert found["before"]["verdict"] in ("drop", "reject")
    assert found["after"]["verdict"] == "accept"
    assert [flow["packet"] for flow in found["changed"] if not flow["meant"]] == []
    return found


def test_a_rule_that_is_proven_is_put_in(pair_lab, host, service):
    add(host, DROP)
    found = heal(host, *PACKET, "--prove")
    assert found["proof"]["after"]["rule"]["text"] == found["after"]["rule"]["text"]
    assert connects(pair_lab)


def test_what_firewalld_will_make_of_it(pair_lab, firewalld):
    """Neither runs in a copy: what it would write is written there."""
    add(firewalld, "firewall-cmd --zone=public --add-rich-rule='rule family=ipv4 source address=10.71.0.0/24 drop'")
    found = proven(firewalld, *PACKET)
    assert found["before"]["rule"]["chain"] == "filter_IN_public_deny"
    assert found["after"]["rule"]["chain"] == "filter_IN_public_pre"


def test_what_fail2ban_will_make_of_it(pair_lab, host):
    pair_lab.break_("fail2ban", host="one", address=PEER, jail="lab", port="22,2377")
    found = proven(host, *PACKET)
    # All that the jail stops of this peer is let through.
    changed = {(flow["packet"]["source"], flow["packet"]["destination_port"]) for flow in found["changed"]}
    assert changed == {(PEER, 22)}


def test_firewalld_denies_first(pair_lab, firewalld, service):
    add(firewalld, "firewall-cmd --zone=public --add-rich-rule='rule family=ipv4 source address=10.71.0.0/24 drop'")
    found = propose(firewalld, *PACKET)
    assert found["before"]["rule"]["chain"] == "filter_IN_public_deny"
    assert 'rule priority="-32768" family="ipv4"' in found["fix"]["commands"][0]["text"]
    before = rules(firewalld)
    with start(firewalld, *PACKET, within=600) as process:
        until(lambda: rules(firewalld) != before, 10, "the rule")
        until(lambda: connects(pair_lab), 10, "a connection")
        end_group(process)
    until(lambda: rules(firewalld) == before, 10, "the rules as they were")


@pytest.fixture
def ufw(host):
    """A real ufw with the files that its package installs."""
    add(
        host,
        "for file in before.rules before6.rules after.rules after6.rules user.rules user6.rules ufw.conf;"
        " do cp /usr/share/ufw/$file /etc/ufw/$file; done",
        "cp /usr/share/ufw/iptables/*.rules /etc/ufw/",
        "ufw --force enable",
        # What the package installs has no limit rules for IPv6: the first rule that is deleted adds them.
        "ufw allow 22/tcp",
        "ufw delete allow 22/tcp",
    )
    yield host
    add(host, "ufw --force disable", "rm -f /etc/ufw/*.rules /etc/ufw/ufw.conf")


def user_rules(host):
    return host.exec(["sh", "-c", "cat /etc/ufw/user.rules /etc/ufw/user6.rules"]).stdout


def saved(host):
    """Both families as iptables shows them.

    ufw makes its chains anew whenever it is told anything, so that nft lists them in another order, and then appends
    its two last rules of ufw6-user-limit once more (0.36.2).
    """
    return list(dict.fromkeys(line for text in rules(host)[1:] for line in text))


def changed(before, after):
    """The lines that came and went."""
    return "\n".join(difflib.unified_diff(before, after, n=0, lineterm=""))


def test_ufw(pair_lab, ufw, service):
    before, files = saved(ufw), user_rules(ufw)
    assert not connects(pair_lab)
    with start(ufw, *PACKET, within=600) as process:
        until(lambda: user_rules(ufw) != files, 15, "the rule")
        end_group(process)
    until(lambda: not guards(ufw), 10, "the guard's end")
    assert changed(before, saved(ufw)) == ""
    assert user_rules(ufw) == files
    found = heal(ufw, *PACKET)
    assert command_of(found) == f"ufw allow from {PEER} to any port 2377 proto tcp comment MARK"
    assert connects(pair_lab)
    undo(ufw, found)
    assert changed(before, saved(ufw)) == ""
    assert user_rules(ufw) == files


def test_what_ufw_will_make_of_it(ufw):
    add(ufw, "ufw deny 2377/tcp")
    found = proven(ufw, *PACKET)
    assert (found["after"]["rule"]["chain"], found["after"]["rule"]["number"]) == ("ufw-user-input", 1)


def test_ufw_denies_first(pair_lab, ufw, service):
    add(ufw, "ufw deny 2377/tcp")
    before = saved(ufw)
    found = heal(ufw, *PACKET)
    assert command_of(found) == f"ufw insert 1 allow from {PEER} to any port 2377 proto tcp comment MARK"
    assert connects(pair_lab)
    undo(ufw, found)
    assert changed(before, saved(ufw)) == ""
    # A rule that is there already, behind the deny, is neither added nor taken away.
    add(ufw, f"ufw allow from {PEER} to any port 2377 proto tcp")
    assert "ufw has this rule already" in propose(ufw, *PACKET)["reason"]


def test_ufw_before_rules(ufw):
    """ICMP is no matter of ufw's own rules: the line for its file is named."""
    found = heal(ufw, "--src", PEER, "--icmp-type", "13")
    assert re.match(rf"iptables -I ufw-before-input \d+ -s {PEER} -p icmp --icmp-type 13 {SIGNED}", command_of(found))
    assert [MARK.sub("MARK", line) for line in found["fix"]["persist"]] == [
        "# in /etc/ufw/before.rules, before the line COMMIT",
        f"#   -A ufw-before-input -s {PEER} -p icmp --icmp-type 13 {SIGNED}",
    ]


def test_the_operators_own_rule_is_not_ours(host):
    """Behind the drop stands what we would add: it is neither touched by the change nor taken by its undo."""
    add(host, DROP, "iptables -A INPUT -s 10.71.0.2 -p tcp --dport 2377 -j ACCEPT")
    before = rules(host)
    with start(host, *PACKET, within=600) as process:
        until(lambda: rules(host) != before, 10, "the rule")
        (guard,) = guards(host)
        os.kill(process.pid, signal.SIGSTOP)  # it learns of the guard's end only later
        host.exec(["sh", "-c", f"iptables -D INPUT 1; kill -9 {guard}"])
        os.kill(process.pid, signal.SIGCONT)
        until(lambda: process.poll() is not None, 20, "the end")
        end_group(process)
    # Somebody took ours away by hand, and the guard was killed: nothing is left to be undone, and nothing is.
    assert rules(host) == before


def test_ufws_own_rule_is_not_ours(ufw):
    """ufw would give a rule for the same packets our comment, and delete it by that."""
    mine = f"ufw allow from {PEER} to any port 9 proto tcp"
    add(ufw, f"{mine} comment mine")
    files = user_rules(ufw)
    signed = f"{mine} comment netdiag-lab"
    undone = signed.replace("ufw allow", "ufw delete allow")
    program = (
        "from netdiag.host.change import Change\nfrom netdiag.model.fix import Command, Fix\n"
        f"def command(text): return Command(argv=tuple(text.split()), text=text)\n"
        f"fix = Fix(host='', summary='', place='', covers='', commands=(command({signed!r}),), undo=(command({undone!r}),))\n"
        "Change(fix, change_id='lab', within_s=30)"
    )
    refused = ufw.exec([sys.executable, "-c", program], check=False)
    assert f"{signed}: it is in place already" in refused.stderr
    assert user_rules(ufw) == files
    add(ufw, mine.replace("ufw allow", "ufw delete allow"))


UNPROVEN = """
import functools, sys
import netdiag.host.allow
from netdiag.cli import main
from netdiag.facts.level import Level
# As on a host where packets cannot be followed: rules are only read.
netdiag.host.allow.trace = functools.partial(netdiag.host.allow.trace, forced=Level.FACTS)
sys.argv[0] = "netdiag"
main()
"""


def test_nothing_is_changed_where_it_is_not_known_what_decides(host):
    add(host, DROP)
    before = rules(host)
    argv = [sys.executable, "-c", UNPROVEN, "firewall", "allow", *PACKET, "--apply", "--confirm-within", "5"]
    refused = host.exec(argv, check=False)
    assert refused.stdout.startswith("DROP (likely): ")
    assert "what decides is likely, not proven" in refused.stdout
    last = " ".join(refused.stdout.split()).rpartition("Nothing is changed: ")[2]
    assert last.startswith("what decides is likely, not proven")
    assert last.endswith("--unproven applies the rule all the same")
    assert (refused.returncode, rules(host)) == (1, before)
    done = host.exec([*argv, "--unproven"], check=False)
    assert "Taken back. With the rule the packet's verdict was: accept (likely)." in done.stdout
    assert (done.returncode, rules(host)) == (1, before)
