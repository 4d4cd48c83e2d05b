"""The comparison for people: grouped, with every command in one piece, at any width."""

import pytest

from netdiag.model.facts import Backend
from netdiag.model.firewall import FirewallRule, Owner
from netdiag.model.firewall_diff import (
    Change,
    ChangeKind,
    DiffVerdict,
    FirewallDiff,
    NotCompared,
    SavedSource,
    When,
)
from netdiag.report.firewall_diff import lines

LONG = "sed -i -e '/^\\*filter/,/^COMMIT/{/^COMMIT/i -A INPUT -p tcp -j ACCEPT' -e '}' /etc/iptables/rules.v4"


def rule(number, text="-A INPUT -p tcp -m tcp --dport 2377 -j ACCEPT", **fields):
    base = {"backend": Backend.IPTABLES_NFT, "family": "ip", "table": "filter", "chain": "INPUT"}
    return FirewallRule(number=number, text=text, **{**base, **fields})


def change(kind=ChangeKind.LOST, when=When.BOOT, mechanism="netfilter-persistent", **fields):
    base = {"file": "/etc/iptables/rules.v4", "meaning": "It runs and is not saved.", "commands": ("save it",)}
    return Change(kind=kind, when=when, mechanism=mechanism, **{**base, **fields})


def document(*changes, verdict=DiffVerdict.CHANGES, **fields):
    return FirewallDiff(host="one", verdict=verdict, changes=changes, **fields)


def test_one_group_says_its_command_and_meaning_once():
    text = lines(document(*(change(rule=rule(number)) for number in range(1, 10))))
    assert text[0] == "CHANGES: 9 lost."
    assert text[2] == "At the next boot (netfilter-persistent): LOST (/etc/iptables/rules.v4)"
    assert sum(line.strip() == "# save it" for line in text) == 1
    assert "  … and 3 more (--output json has all)" in text


def test_what_several_rules_have_in_common_is_said_once():
    """Two tables, so two sentences; each stands once, below its rules."""
    said = ("No file has the table one.", "No file has the table two.")
    found = document(*(change(rule=rule(number), meaning=said[number > 2]) for number in range(1, 6)))
    text = lines(found)
    assert [sum(line.strip() == each for line in text) for each in said] == [1, 1]
    assert text.index(f"    {said[0]}") < next(number for number, line in enumerate(text) if "rule 3" in line)


def test_moments_and_kinds_have_headings_of_their_own():
    wiped = change(ChangeKind.WIPES, When.RELOAD, "nftables.service", file="", setting="table ip docker-bridges")
    lost = change(mechanism="none", file="", rule=rule(1))
    setting = change(ChangeKind.CHANGED, When.RELOAD, "firewalld", file="", setting="default zone")
    text = lines(document(wiped, lost, setting))
    headings = [line for line in text if line and not line.startswith(" ")]
    assert headings == [
        "CHANGES: 1 lost, 1 change, 1 of programs thrown away.",
        "When firewalld is reloaded, and at the next boot: CHANGED",
        "At the next boot (nothing on this host saves them): LOST",
        "When nftables.service is reloaded: WIPES",
    ]


@pytest.mark.parametrize("width", [80, 140])
def test_every_line_fits_but_commands_which_are_never_broken(width):
    owned = rule(2, text="-A DOCKER " + "-m comment --comment word " * 8, owner=Owner.DOCKER)
    found = document(
        change(rule=rule(1), commands=(LONG,)),
        change(rule=owned, commands=(), meaning="A long sentence about it. " * 8),
        unknown=(NotCompared(mechanism="nftables.service", file="", reason="because " * 30),),
        sources=(SavedSource(mechanism="ufw", files=("/etc/ufw/before.rules",) * 9, active=True, enabled=None),),
    )
    text = lines(found, width=width)
    assert f"    # {LONG}" in text
    assert all(len(line) <= width for line in text if not line.strip().startswith("#"))


@pytest.mark.parametrize(
    ("verdict", "word"),
    [(DiffVerdict.SAME, "SAME"), (DiffVerdict.UNKNOWN, "UNKNOWN"), (DiffVerdict.CHANGES, "CHANGES")],
)
def test_the_answer_comes_first(verdict, word):
    assert lines(document(verdict=verdict))[0].startswith(word)


EVIL = "it's\x1b[2J\r\u202e\nSAME: nothing\t"


def test_what_others_wrote_does_not_steer_the_terminal():
    evil = {"file": EVIL, "meaning": EVIL, "commands": (f"iptables '{EVIL}'", "iptables plain"), "otherwise": (EVIL,)}
    found = document(
        change(rule=rule(1, text=f"-A INPUT {EVIL}", chain=EVIL), **evil),
        change(setting=EVIL, mechanism=EVIL, **evil),
        unknown=(NotCompared(mechanism=EVIL, file=EVIL, reason=EVIL),),
        sources=(SavedSource(mechanism=EVIL, files=(EVIL,)),),
    )
    text = lines(found)
    assert [line for line in text if not line.isprintable()] == []
    assert "  # iptables plain" in text
    assert not any("# iptables '" in line for line in text)
    assert not any(line.startswith("SAME") for line in text)
