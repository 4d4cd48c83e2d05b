"""The commands that make running and saved rules agree, with rules that somebody else wrote to be run by root."""

import shlex
import subprocess

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from netdiag.firewall import saved_commands as commands
from netdiag.firewall.saved_firewalld import diff_direct, diff_objects
from netdiag.model.facts import Backend
from netdiag.model.firewall import FirewallRule
from tests.property.shell import ATTACKS, TEXTS, active

CHAINS = TEXTS.map(lambda text: "".join(text.split()).lstrip("-!") or "c").map(
    lambda text: "".join(text.split('"')) or "c"
)
WORDS = st.lists(TEXTS, max_size=6)


def saved(word):
    """A word as iptables-save writes it (xtables_save_string)."""
    if word and all(char.isascii() and (char.isalnum() or char in "_-") for char in word):
        return word
    return '"' + "".join("\\" + char if char in "\"\\'" else char for char in word) + '"'


def rule(words, chain="INPUT", number=3, table="filter", family="ip", backend=Backend.IPTABLES_NFT):
    text = " ".join(("-A", chain, *map(saved, words)))
    return FirewallRule(backend=backend, family=family, table=table, chain=chain, number=number, text=text)


def native(text, chain="late", number=3):
    return FirewallRule(backend=Backend.NFT_NATIVE, family="inet", table="guard", chain=chain, number=number, text=text)


@given(WORDS, CHAINS)
def test_a_rule_that_comes_back_is_the_rule(words, chain):
    (command,) = commands.bring_back(rule(words, chain), Backend.IPTABLES_NFT)
    assert shlex.split(command) == ["iptables", "-w", "-I", chain, "3", *words]
    assert active(command) == []
    (command,) = commands.set_policy(rule(words, chain), "DROP", None)
    assert shlex.split(command) == ["iptables-nft", "-w", "-P", chain, "DROP"]
    assert active(command) == []


@given(WORDS, CHAINS)
def test_a_direct_rule_is_the_rule(words, chain):
    (command,) = commands.save_direct(rule(words, chain, table="raw", family="ip6"))
    head = ["firewall-cmd", "--permanent", "--direct", "--add-rule", "ipv6", "raw", chain, "0"]
    assert shlex.split(command) == [*head, *words]
    assert active(command) == []


@given(TEXTS.filter(str.strip), TEXTS.map(lambda text: f"/etc/{text}".replace("\n", "")))
def test_nfts_texts_are_one_word(text, path):
    (command,) = commands.bring_back(native(text), None)
    assert shlex.split(command) == ["nft", f"add rule inet guard late index 1 {text}"]
    assert active(command) == []
    (command,) = commands.save_nft(native(text), path)
    assert shlex.split(command) == ["printf", "%s\\n", f"add rule inet guard late index 1 {text}", ">>", path]
    assert active(command) == [">"]
    (command,) = commands.save_nft_table("inet", "guard", path, enable=False)
    assert shlex.split(command) == [*["nft", "-s", "list", "table", "inet", "guard", ">>"], path]
    assert active(command) == [">"]
    (command,) = commands.load_file(path)
    assert shlex.split(command) == ["sed", "/^ *flush ruleset/d", path, "|", "nft", "-f", "-"]
    assert active(command) == ["|"]


@given(TEXTS, TEXTS, TEXTS)
def test_elements_are_one_word(name, member, path):
    (command,) = commands.add_element("inet", "guard", name, member)
    assert shlex.split(command) == ["nft", f"add element inet guard {name} {{ {member} }}"]
    assert active(command) == []
    (command,) = commands.save_element("inet", "guard", name, member, path)
    assert shlex.split(command)[:3] == ["printf", "%s\\n", f"add element inet guard {name} {{ {member} }}"]
    assert active(command) == [">"]
    (command,) = commands.add_member(name, member)
    assert shlex.split(command) == ["ipset", "add", name, member]
    assert active(command) == []


@given(TEXTS, TEXTS.filter(lambda text: text.strip() == text and text))
def test_firewalld_is_told_one_value(name, value):
    here = {name: {"rich rules": (value,), "services": (), "target": ("default",)}}
    saved_there = {name: {"rich rules": (), "services": (value,), "target": (value,)}}
    for kind in ("zone", "policy"):
        assume(name not in ("docker", "docker-forwarding"))
        for found in diff_objects(kind, here, saved_there):
            for command in filter(None, (found.save, found.restore)):
                assert active(command) == []
                tool, *words = [word for word in shlex.split(command) if word != "--permanent"]
                assert (tool, words[0], len(words)) == ("firewall-cmd", f"--{kind}={name}", 2)
                if "-rich-rule" in words[1] or "-service" in words[1]:
                    assert words[1].partition("=")[2] == value


@given(WORDS)
def test_firewallds_own_direct_rules(words):
    line = shlex.join(["ipv4", "filter", "INPUT", "0", *words])
    assume(not any("\n" in word for word in words))
    (found,) = diff_direct(line, "")
    assert shlex.split(found.save) == ["firewall-cmd", "--permanent", "--direct", "--add-rule", *shlex.split(line)]
    assert active(found.save) == []


def test_a_direct_rule_that_is_no_shells_text_is_quoted_all_the_same():
    (found,) = diff_direct("ipv4 filter INPUT 0 -m comment --comment it's$(id)", "")
    assert active(found.save) == []


# --- scripts of sed are no words alone: a real sed must make of them what was meant ----------------------------------

FILE = "*filter\n:INPUT ACCEPT [0:0]\n{}COMMIT\n*nat\nCOMMIT\n"


def run(command, directory):
    subprocess.run(
        ["sh", "-ec", command], cwd=directory, check=True, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(WORDS, WORDS, CHAINS, st.sampled_from([*ATTACKS, "rules v4"]))
def test_a_rules_file_gets_exactly_this_line_at_its_place(tmp_path, words, other, chain, name):
    name = name.replace("/", "").strip() or "rules"
    path = tmp_path / ("r" + name)
    anchor = rule(other, "INPUT").text
    lines = f"{anchor}\n-A INPUT -j DROP\n"
    path.write_text(FILE.format(lines))
    added = rule(["-m", "comment", "--comment", *words], chain)
    assume(added.text != anchor)
    for command in commands.save_into(added, str(path), FILE.format(lines), anchor):
        run(command, tmp_path)
    declared = "" if chain == "INPUT" else f":{chain} - [0:0]\n"
    expected = FILE.format(f"{added.text}\n{lines}").replace("*filter\n", "*filter\n" + declared)
    assert path.read_text() == expected
    for command in commands.delete_line(added.text, str(path)):
        run(command, tmp_path)
    assert path.read_text() == expected.replace(f"{added.text}\n", "")
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    path.unlink()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(WORDS, CHAINS)
def test_a_file_without_the_table_gets_it(tmp_path, words, chain):
    path = tmp_path / "rules.v4"
    path.write_text("*nat\nCOMMIT\n")
    added = rule(words, chain)
    for command in commands.save_into(added, str(path), "*nat\nCOMMIT\n", ""):
        run(command, tmp_path)
    declared = "" if chain == "INPUT" else f":{chain} - [0:0]\n"
    assert path.read_text() == f"*nat\nCOMMIT\n*filter\n{declared}{added.text}\nCOMMIT\n"


@pytest.mark.parametrize("attack", ATTACKS)
def test_ufws_file(tmp_path, attack):
    (command,) = commands.save_ufw(rule(["-m", "comment", "--comment", attack, "-j", "DROP"]))
    assert command.endswith(" /etc/ufw/before.rules")
    path = tmp_path / "before.rules"
    path.write_text("*filter\nCOMMIT\n")
    run(command.replace("/etc/ufw/before.rules", "before.rules"), tmp_path)
    assert path.read_text() == f"*filter\n-A ufw-before-input -m comment --comment {saved(attack)} -j DROP\nCOMMIT\n"
