"""The script itself: readable, cut to what was asked, and asking for nothing that may be secret."""

import re
import shutil
import subprocess

import pytest
from click.testing import CliRunner

from netdiag.carrier.script import PARTS, script
from netdiag.cli import cli
from netdiag.facts.basics import IDENTITY_FILES
from netdiag.facts.features import FEATURES
from netdiag.facts.firewall_saved import SAVED_FILES
from netdiag.facts.sysctls import GLOBS

PLAIN_COMMANDS = ("docker_ask network ls", "docker_ask ps", "docker_ask node ls", "docker_ask service")


def made(*parts):
    return script(parts or PARTS, tool="0.1.0", made_s=1_750_000_000, made_on="worker 1;rm -rf /")


def commands(text):
    """The lines that are no comments."""
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def test_the_header_says_what_it_does_and_who_asks():
    head = made().split("set -u")[0]
    assert head.startswith("#!/bin/sh\n")
    for word in ("WHAT IT DOES", "It only reads", "NO SECRETS", "HOW TO CUT", "2025-06-15 15:06:40 UTC"):
        assert word in head
    # The name of the host where it was made is data, whatever it is.
    assert "on worker_1_rm_-rf__." in head
    assert "@@" not in made()


def test_parts_are_left_out():
    assert not re.search(r"\bdocker (-|\w)|docker_", "\n".join(commands(made("firewall"))))
    assert "iptables" not in "\n".join(commands(made("swarm")))
    assert "@parts %s\\n@made %s %s\\n' '0.1.0' 'swarm'" in made("swarm")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], "swarm firewall"),
        (["--all"], "swarm firewall"),
        (["--swarm"], "swarm"),
        (["--firewall"], "firewall"),
        (["--swarm", "--firewall"], "swarm firewall"),
    ],
)
def test_the_command(words, parts):
    done = CliRunner().invoke(cli, ["script", "collect", *words])
    assert done.exit_code == 0
    assert f"'{parts}'" in done.stdout
    assert done.stderr == ""


def test_it_asks_for_all_that_facts_are_read_from():
    text = made()
    for path in (*IDENTITY_FILES, *SAVED_FILES, *GLOBS):
        assert path in text
    for feature in FEATURES:
        for part in feature.parts:
            assert all(symbol in text for symbol in part.symbols)


def test_docker_is_asked_for_named_fields_only():
    text = made("swarm")
    assert "{{json .}}" not in text
    assert not re.search(r"\{\{\s*\.\s*\}\}", text)
    for secret in (
        "Env",
        "JoinToken",
        "join-token",
        "Cmd",
        "Args",
        "Command",
        "Mounts",
        "TLSInfo",
        "UnlockKey",
        "CAConfig",
    ):
        assert not re.search(rf"\.{secret}\b", text), secret
        assert f"docker {secret}" not in text
    # Labels are the swarm's own two, by their names.
    assert re.findall(r"\.Labels[^}]*", text) == [
        '.Labels "com.docker.swarm.service.name")',
        '.Labels "com.docker.swarm.task.id")',
    ]
    for line in commands(text):
        if "docker_ask" in line and "--format" not in line and "docker_ask()" not in line:
            assert any(plain in line for plain in PLAIN_COMMANDS), line
            assert "-q" in line or "-aq" in line, line


def test_nothing_in_it_writes_or_changes():
    """No redirection into a file, and none of the words that change a host."""
    changing = re.compile(
        r"(?<![\w-])(rm|mv|cp|mkdir|touch|tee|mktemp|modprobe|insmod|sysctl|kill|chmod|install|systemctl (?!is-)\w+"
        r"|iptables -[AIDFPXNZ]|ip (link|addr|route|rule|neigh) (set|add|del|replace|flush)|nft (add|delete|flush|-f))(?![\w-])"
    )
    for line in commands(made()):
        assert not changing.search(re.sub(r"'[^']*'", "''", line)), line
        for target in re.findall(r"(?<![0-9&-])[0-9]?>+\s*(\S+)", re.sub(r"'[^']*'", "''", line)):
            assert target.startswith(("&", "/dev/null")), line


def test_every_command_says_what_it_is_for():
    """Whatever is run or shown stands below a comment, with nothing but its own kind between."""
    lines = made().splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("# ---- the host itself"))
    asking = re.compile(r"^\s*(run|show|show_part|show_there|values|docker_list|docker_each|record)\b")
    for at in range(start, len(lines)):
        if asking.match(lines[at]):
            above = next(line for line in reversed(lines[start:at]) if line.lstrip().startswith("#"))
            assert len(above) > 12
            assert not above.startswith(("# ----", "# shellcheck"))


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed (apt install shellcheck)")
@pytest.mark.parametrize(
    ("shell", "parts"), [("sh", PARTS), ("dash", PARTS), ("ksh", PARTS), ("sh", ("swarm",)), ("sh", ("firewall",))]
)
def test_shellcheck_finds_nothing(shell, parts):
    checked = subprocess.run(
        ["shellcheck", "-s", shell, "-"], input=made(*parts), capture_output=True, text=True, check=False
    )
    assert checked.stdout == ""


@pytest.mark.parametrize(
    "shell", [["dash"], ["bash", "--posix"], ["busybox", "sh"], ["mksh"], ["ksh"]], ids=lambda words: words[0]
)
def test_shells_parse_it(shell):
    if shutil.which(shell[0]) is None:
        pytest.skip(f"no {shell[0]} on this machine")
    checked = subprocess.run([*shell, "-n"], input=made(), capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
