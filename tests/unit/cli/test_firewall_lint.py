"""``netdiag firewall show`` and ``lint`` with saved files."""

import json

import jsonschema
import pytest
from click.testing import CliRunner

from netdiag.cli import cli
from netdiag.errors import UsageError
from netdiag.report.schema import schema
from tests.unit.firewall.lint_cases import STOCK

BAD = STOCK["iptables-service"].replace("COMMIT", "-A INPUT -p tcp --dport 2377 -j ACCEPT\nCOMMIT")


@pytest.fixture
def run(tmp_path):
    for name, text in {
        **STOCK,
        "bad": BAD,
        "empty": "",
        "set": "create s hash:ip family inet\nadd s 192.0.2.1\n",
    }.items():
        (tmp_path / name).write_text(text)

    def ask(verb, *names, words=(), stdin=None):
        files = [word for name in names for word in ("--rules", "-" if name == "-" else str(tmp_path / name))]
        return CliRunner().invoke(cli, ["firewall", verb, *files, *words], input=stdin)

    return ask


@pytest.mark.parametrize(
    ("name", "code", "verdict"), [("ufw", 0, "clean"), ("bad", 1, "findings"), ("empty", 3, "unknown")]
)
def test_the_verdict_is_the_exit_code(run, name, code, verdict):
    result = run("lint", name, words=["-o", "json"])
    found = json.loads(result.stdout)
    assert (result.exit_code, found["verdict"]) == (code, verdict)
    jsonschema.Draft202012Validator(json.loads(schema("firewall-lint"))).validate(found)
    assert run("lint", name).stdout.startswith(verdict.upper())


def test_a_finding_names_file_line_and_rule(run):
    shown = run("lint", "ufw", "bad").stdout
    assert "WARNING  lint.after-verdict" in shown
    assert "bad line 13" in " ".join(shown.split())
    assert "-A INPUT -p tcp --dport 2377 -j ACCEPT" in shown
    assert "Why: " in shown
    assert "Do: " in shown


def test_standard_input_and_sets(run):
    rules = STOCK["by-hand"].replace("COMMIT", "-A INPUT -m set --match-set t src -j DROP\nCOMMIT")
    result = run("lint", "-", "set", stdin=rules)
    assert result.exit_code == 1
    assert "lint.no-such-set" in result.stdout


def test_show(run):
    result = run("show", "swarm-ingress", "set", words=["-o", "json"])
    found = json.loads(result.stdout)
    assert result.exit_code == 0
    assert [table["name"] for table in found["tables"]] == ["nat", "filter"]
    assert found["sets"] == [{"name": "s", "kind": "hash:ip", "members": 1}]
    jsonschema.Draft202012Validator(json.loads(schema("firewall-show"))).validate(found)
    shown = run("show", "swarm-ingress", words=["--port", "8443", "--proto", "tcp"]).stdout
    assert "DOCKER-INGRESS  from PREROUTING 1, OUTPUT 1" in shown
    assert "docker0" not in shown
    assert run("show", "empty").exit_code == 3


@pytest.mark.parametrize("verb", ["show", "lint"])
def test_wrong_usage_is_one_line(run, verb):
    assert run(verb, "ufw", words=["--bundle", "x"]).exit_code == 2
    assert run(verb, "ufw", words=["--container", "web"]).exit_code == 2
    missing = run(verb, "nowhere").exception
    assert isinstance(missing, UsageError)
    assert "No such file" in str(missing)


def test_a_check_is_explained(run):
    result = CliRunner().invoke(cli, ["explain", "lint.shadowed"])
    assert result.exit_code == 0
    assert result.stdout.startswith("lint.shadowed\n")


def test_the_reference_needs_no_rules():
    result = CliRunner().invoke(cli, ["firewall", "lint", "--reference"])
    assert result.exit_code == 0
    assert "## lint.near-miss" in result.stdout
