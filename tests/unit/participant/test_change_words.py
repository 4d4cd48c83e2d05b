"""What the guard runs: one accept for an address, added or taken back, and nothing else; how it sees what is in place."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdiag.firewall.allow import plan
from netdiag.model.trace import TracePath
from netdiag.participant.change_words import HANDLE, answer, is_allowed, question, tool_words
from tests.unit.firewall import test_allow as planned

MARK = "netdiag-20251125-4bfdd92b"
SIGNED = ["-m", "comment", "--comment", MARK, "-j", "ACCEPT"]
RICH = 'rule family="ipv4" source address="192.0.2.1" port port="1" protocol="tcp" accept'
NFT = ["nft", "add", "rule", "inet", "f", "c", "ip", "saddr", "192.0.2.1", "tcp", "dport", "1"]
NFT_END = ["accept", "comment", f'"{MARK}"']
SAMPLES = [
    ["iptables", "-I", "INPUT", "4", "-s", "192.0.2.1", "-p", "tcp", "--dport", "1", *SIGNED],
    ["ip6tables-legacy", "-t", "raw", "-A", "PREROUTING", "-s", "2001:db8::1", "-p", "udp", *SIGNED],
    ["iptables-nft", "-D", "INPUT", "-d", "192.0.2.1", "-p", "icmp", "--icmp-type", "8", *SIGNED],
    [
        "iptables",
        "-I",
        "DOCKER-USER",
        "1",
        "-p",
        "tcp",
        "-m",
        "conntrack",
        "--ctorigsrc",
        "192.0.2.1",
        "--ctorigdst",
        "192.0.2.2",
        *SIGNED,
    ],
    ["nsenter", "--net=/proc/7/ns/net", "--", "iptables", "-D", "INPUT", "-s", "192.0.2.1", "-p", "50", *SIGNED],
    [*NFT, *NFT_END],
    [
        "nft",
        "insert",
        "rule",
        "arp",
        "f",
        "c",
        "handle",
        "7",
        "arp",
        "saddr",
        "ip",
        "192.0.2.1",
        "arp",
        "daddr",
        "ip",
        "192.0.2.2",
        *NFT_END,
    ],
    ["firewall-cmd", "--zone=public", f"--add-rich-rule={RICH}"],
    ["firewall-cmd", "--permanent", "--policy=site", f"--remove-rich-rule={RICH}"],
    ["ufw", "insert", "1", "allow", "from", "192.0.2.1", "to", "any", "port", "1", "proto", "tcp", "comment", MARK],
    [
        "ufw",
        "route",
        "delete",
        "allow",
        "from",
        "192.0.2.1",
        "to",
        "192.0.2.2",
        "port",
        "1",
        "proto",
        "tcp",
        "comment",
        MARK,
    ],
    ["ufw", "allow", "out", "proto", "esp", "to", "192.0.2.1", "comment", MARK],
    ["fail2ban-client", "set", "sshd", "unbanip", "2001:db8::1"],
]


@pytest.mark.parametrize("argv", SAMPLES, ids=lambda argv: " ".join(argv[:5]))
def test_one_accept_is_allowed(argv):
    assert is_allowed(argv)


def test_a_handle_is_looked_up_by_a_comment_of_ours_and_by_nothing_else():
    argv = ["nft", "delete", "rule", "inet", "guard", "late", "handle"]
    assert is_allowed([*argv, HANDLE], MARK)
    for handle, comment in ((HANDLE, ""), (HANDLE, "mine"), (HANDLE, f"{MARK} x"), ("7", MARK), ("7", "")):
        assert not is_allowed([*argv, handle], comment)


def traces():
    """The packets of the planner's own tests: every owner, way and family."""
    for function in (planned.test_iptables, planned.test_programs_chains_stay_as_they_are, planned.test_firewalld):
        for case in function.pytestmark[0].args[1]:
            yield case.values[0], (), {}
    for case in planned.test_ufw.pytestmark[0].args[1]:
        sets = (planned.save(planned.UFW), planned.save(planned.UFW.replace("ufw-", "ufw6-"), family=6))
        yield case.values[0], sets, {}
    for decided in planned.test_fail2ban.pytestmark[0].args[1]:
        yield planned.trace(decided, hook="input"), (), {}
    yield planned.trace(*planned.ISOLATED, **planned.FORWARDED), (planned.with_nat(planned.DOCKER),), {}
    for policy in (None, "drop"):
        for family in ("inet", "bridge", "netdev"):
            yield planned.trace(planned.native("drop", family=family, policy=policy), hook="input"), (), {}
    arp = {"protocol": "arp", "destination_port": None, "source_port": None}
    for path, hook in ((TracePath.IN, "input"), (TracePath.OUT, "output"), (TracePath.FORWARD, "forward")):
        yield planned.trace(planned.native("drop", family="arp"), hook=hook, path=path, **arp), (), {}
        icmp = {"protocol": "icmp", "destination_port": None, "source_port": None, "path": path}
        yield planned.trace(planned.native("drop"), hook=hook, **icmp), (), {"netns": "/run/docker/netns/1-ab"}


@pytest.mark.parametrize(("traced", "sets", "place"), list(traces()))
def test_whatever_the_planner_proposes_is_allowed(traced, sets, place):
    fix = plan(traced, planned.around(*sets, rule_id=MARK[8:], mark=MARK, **place)).fix
    assert fix is not None
    for command in (*fix.commands, *fix.undo, *fix.permanent):
        assert is_allowed(list(command.argv), command.comment), command.argv


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["iptables"],
        ["sh", "-c", "true"],
        ["iptables", "-F"],
        ["iptables", "-P", "INPUT", "ACCEPT"],
        ["iptables", "-A", "INPUT", "-j", "ACCEPT"],
        ["iptables", "-A", "INPUT", *SIGNED],
        ["iptables", "-A", "INPUT", "-p", "tcp", *SIGNED],
        ["iptables", "-A", "INPUT", "-s", "0.0.0.0/0", "-p", "tcp", *SIGNED],
        ["iptables", "-A", "INPUT", "-s", "192.0.2.1", "-p", "all", *SIGNED],
        ["iptables", "-A", "INPUT", "-s", "192.0.2.1", "-p", "0", *SIGNED],
        ["iptables", "-A", "INPUT", "-s", "192.0.2.1", "-p", "tcp", "-j", "ACCEPT"],
        ["iptables", "-D", "INPUT", "-F", "-j", "ACCEPT"],
        ["iptables", "-D", "INPUT", "-F", "-s", "192.0.2.1", "-p", "tcp", *SIGNED],
        ["iptables", "-A", "INPUT", "-s", "192.0.2.1", "-p", "tcp", "-j", "DROP", "-j", "ACCEPT"],
        ["iptables", "-A", "INPUT", "-s", "192.0.2.1", "-p", "tcp", "-j", "DROP", *SIGNED],
        ["iptables", "-A", "-F", "-s", "192.0.2.1", "-p", "tcp", *SIGNED],
        ["iptables", "-A", "INPUT -F", "-s", "192.0.2.1", "-p", "tcp", *SIGNED],
        ["iptables", "-X", "LATE", "-s", "192.0.2.1", "-p", "tcp", *SIGNED],
        ["iptables-restore", "-A", "INPUT", "-s", "192.0.2.1", "-p", "tcp", *SIGNED],
        ["/tmp/iptables", "-A", "INPUT", "-s", "192.0.2.1", "-p", "tcp", *SIGNED],
        ["iptables\n", "-A", "INPUT", "-s", "192.0.2.1", "-p", "tcp", *SIGNED],
        ["nft", "flush", "ruleset"],
        ["nft", "-f", "/tmp/rules"],
        ["nft", "delete", "table", "inet", "guard"],
        ["nft", "add", "rule", "inet", "f", "c", "accept\nflush ruleset\nadd rule inet f c", *NFT_END],
        [*NFT, "accept\nflush ruleset\nadd rule inet f c", *NFT_END],
        [*NFT, ";", "flush", "ruleset", ";", "add", "rule", "a", "b", "c", *NFT_END],
        [*NFT[:5], "c;flush", *NFT[6:], *NFT_END],
        [*NFT[:5], "flush", *NFT[6:], *NFT_END],
        ["nft", "add", "rule", "inet", "f", "c", *NFT_END],
        ["nft", "add", "rule", "inet", "f", "c", "tcp", "dport", "1", *NFT_END],
        [*NFT, "accept", "comment", '"mine"'],
        [*NFT, "accept", "comment", f'"{MARK}" ; flush ruleset'],
        ["firewall-cmd", "--reload"],
        ["firewall-cmd", "--zone=public", "--add-rich-rule=rule", "--reload", "accept"],
        ["firewall-cmd", "--zone=public", '--add-rich-rule=rule family="ipv4" accept'],
        ["firewall-cmd", "--zone=public", "--reload", f"--add-rich-rule={RICH}"],
        ["firewall-cmd", "--permanent", "--zone=public", "--set-target=ACCEPT"],
        ["ufw", "disable"],
        ["ufw", "insert 1", "allow", "--force", "reset"],
        ["ufw", "--force", "reset"],
        ["ufw", "allow", "22", "comment", MARK],
        ["ufw", "allow", "from", "any", "to", "any", "port", "1", "proto", "tcp", "comment", MARK],
        ["ufw", "deny", "from", "192.0.2.1", "to", "any", "port", "1", "proto", "tcp", "comment", MARK],
        ["fail2ban-client", "stop"],
        ["fail2ban-client", "set", "sshd", "unbanip", "--all"],
        ["fail2ban-client", "set", "--all", "unbanip", "192.0.2.1"],
        ["nsenter", "--net=/proc/7/ns/net", "--", "sh", "-c", "true"],
        ["nsenter", "--mount=/proc/7/ns/mnt", "--", *SAMPLES[0]],
        ["nsenter", "--net=/proc/7/ns/net", "--", *SAMPLES[4]],
    ],
    ids=" ".join,
)
def test_anything_else_is_refused(argv):
    assert not is_allowed(argv)


FORBIDDEN = {
    "flush",
    "policy",
    "reload",
    "reset",
    "restart",
    "disable",
    "-F",
    "-P",
    "-X",
    "-Z",
    "-N",
    "-E",
    "-R",
    "--reload",
}
FORBIDDEN |= {"--flush", "--policy", "--force", "-f", "--complete-reload", ";", "ruleset", "table", "DROP", "0.0.0.0/0"}
PIECES = st.sampled_from(sorted({word for argv in SAMPLES for word in argv} | FORBIDDEN)) | st.text(max_size=6)
GLUED = st.lists(PIECES, min_size=1, max_size=3).flatmap(
    lambda words: st.sampled_from(" \n\t;").map(lambda by: by.join(words))
)


@st.composite
def changed(draw):
    """A command that is allowed, with some of its words replaced, doubled, left out or glued together."""
    argv = list(draw(st.sampled_from(SAMPLES)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(0, len(argv) - 1)))
        argv[at : at + draw(st.integers(0, 2))] = draw(st.lists(PIECES | GLUED, max_size=3))
    return argv


@settings(max_examples=1000)
@given(changed() | st.lists(PIECES | GLUED, max_size=14))
def test_nothing_that_is_allowed_can_do_more(argv):
    if not is_allowed(argv):
        return
    rich = [word for word in argv if "-rich-rule=" in word]
    assert not any(re.search(r"\s", word) for word in argv if word not in rich)
    # As a tool sees it that splits what it is given once more.
    words = [part for word in argv for part in re.split(r"[\s;]+", word)]
    assert not FORBIDDEN & {word.strip('"') for word in words}
    assert words.count("-j") <= 1
    assert re.search(r"\d\.\d|::", " ".join(argv)), "for no address in particular"


# --- what is in place ------------------------------------------------------------------------------------------------


def test_what_a_tool_is_asked():
    assert question(SAMPLES[4]) == [*SAMPLES[4][:3], "iptables", "-C", *SAMPLES[4][5:]]
    assert question(SAMPLES[8]) == ["firewall-cmd", "--permanent", "--policy=site", f"--query-rich-rule={RICH}"]
    assert question(SAMPLES[10]) == ["ufw", "show", "added"]
    assert question(["fail2ban-client", "set", "sshd", "banip", "192.0.2.1"]) == ["fail2ban-client", "status", "sshd"]
    delete = ["nft", "delete", "rule", "inet", "guard", "late", "handle", HANDLE]
    assert question(delete) == ["nft", "-a", "list", "chain", "inet", "guard", "late"]


@pytest.mark.parametrize(("code", "there"), [(0, True), (1, False), (2, None), (127, None)])
def test_what_iptables_and_firewalld_answer(code, there):
    assert answer(SAMPLES[2], "", code, "") is there
    assert answer(SAMPLES[8], "", code, "") is there


def test_what_nft_answers():
    delete = ["nft", "delete", "rule", "inet", "guard", "late", "handle", HANDLE]
    ours = f'\t\tip saddr 192.0.2.1 accept comment "{MARK}" # handle 9\n'
    assert answer(delete, MARK, 0, f"table inet guard {{\n{ours}}}") is True
    assert answer(delete, MARK, 0, ours.replace("4bfd", "0000")) is False
    assert answer(delete, MARK, 1, "Error: No such file or directory") is False
    assert answer(delete, MARK, 1, "Error: Operation not permitted") is None


@pytest.mark.parametrize(
    ("line", "ours", "same"),
    [
        ("ufw allow from 192.0.2.1 to any port 1 proto tcp comment 'MARK'", True, True),
        ("ufw allow from 192.0.2.1 to any port 1 proto tcp", False, True),
        ("ufw deny from 192.0.2.1 to any port 1 proto tcp", False, True),
        ("ufw allow from 192.0.2.1 to any port 1 proto tcp comment 'mine'", False, True),
        ("ufw allow from 192.0.2.1 to any port 1 proto udp", False, False),
        ("ufw allow in on eth0 from 192.0.2.1 to any port 1 proto tcp", False, False),
        ("ufw allow from 192.0.2.1 port 1 proto tcp", False, False),
        ("ufw route allow from 192.0.2.1 to any port 1 proto tcp", False, False),
        ("ufw allow 1/tcp", False, False),
        ("(None)", False, False),
    ],
)
def test_what_ufw_answers(line, ours, same):
    undo = ["ufw", "delete", "allow", "from", "192.0.2.1", "to", "any", "port", "1", "proto", "tcp", "comment", MARK]
    said = "Added user rules (see 'ufw status' for running firewall):\n" + line.replace("MARK", MARK)
    assert answer(undo, "", 0, said) is ours
    assert answer(undo, "", 0, said, ours=False) is same
    assert answer(undo, "", 1, said) is None


def test_ufw_says_a_protocol_in_another_order():
    undo = ["ufw", "delete", "allow", "proto", "esp", "from", "192.0.2.1", "comment", MARK]
    assert answer(undo, "", 0, "ufw allow from 192.0.2.1 proto esp", ours=False) is True


def test_what_fail2ban_answers():
    undo = ["fail2ban-client", "set", "sshd", "banip", "192.0.2.1"]
    said = "Status for the jail: sshd\n`- Actions\n   `- Banned IP list:\t{}\n"
    assert answer(undo, "", 0, said.format("192.0.2.11 192.0.2.1")) is False
    assert answer(undo, "", 0, said.format("192.0.2.11")) is True
    assert answer(undo, "", 0, "rubbish") is None
    assert answer(undo, "", 255, said) is None


def test_the_tool_behind_nsenter():
    assert tool_words(["nsenter", "--net=/a", "--", "nft", "delete"]) == ["nft", "delete"]
    assert tool_words(["nft", "delete"]) == ["nft", "delete"]
