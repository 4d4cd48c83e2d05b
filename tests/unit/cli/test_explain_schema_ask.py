import inspect
import json
import re
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from netdiag.checks.registry import CHECKS
from netdiag.cli import COMMANDS, cli
from netdiag.errors import UsageError
from netdiag.report import document
from netdiag.report.schema import NAMES
from tests.unit.report.samples import MANAGER, clean, failing


def run(*arguments, given=None):
    return CliRunner().invoke(cli, arguments, input=given, catch_exceptions=True)


def test_explain_a_cause():
    result = run("explain", "firewall.near-miss")
    assert result.exit_code == 0
    assert result.stdout.startswith("firewall.near-miss\nA rule was meant to accept this packet")


@pytest.mark.parametrize("check", CHECKS)
def test_explain_every_check(check):
    result = run("explain", check)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{check}\n")


def test_explain_lists_all():
    result = run("explain")
    assert result.exit_code == 0
    assert "firewall.rule " in result.stdout
    assert f"{next(iter(CHECKS))} " in result.stdout


def test_explain_all():
    assert run("explain", "--all").stdout.startswith("firewall.rule\n")
    assert run("explain", "--all", "--markdown").stdout.startswith("<!-- Generated")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explain", "firewall.rul"], "did you mean firewall.rule"),
        (["explain", "--markdown"], "--markdown goes with --all"),
        (["explain", "--all", "x"], "not both"),
        (
            ["schema", "cause"],
            "there are facts, report, trace, explain, allow, firewall-diff, firewall-show, firewall-lint, clean, plan",
        ),
        (["ask", "/nowhere/report.json"], "cannot read /nowhere/report.json: No such file"),
        (["ask", "-"], "not a report"),
    ],
)
def test_wrong_usage_is_one_line(arguments, message):
    result = run(*arguments, given="")
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
    assert result.stdout == ""


def test_wrong_usage_exits_with_2():
    done = subprocess.run(
        [sys.executable, "-c", "from netdiag.cli import main; main()", "explain", "firewall.rul"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", NAMES)
def test_schema(name):
    assert re.search(rf"\b{name}\b", run("schema", "--help").stdout)
    result = run("schema", name)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["$id"] == f"netdiag/{name}/1"


def test_ask_from_a_file_and_from_standard_input(tmp_path):
    file = tmp_path / "report.json"
    file.write_bytes(document.encode(failing()))
    one, two = run("ask", str(file)), run("ask", "-", given=document.encode(failing()))
    assert one.exit_code == two.exit_code == 0
    assert one.stdout == two.stdout
    assert f"a change needed on {MANAGER}" in one.stdout
    assert run("ask", "-", "--host", "192.0.2.10", given=document.encode(failing())).stdout == one.stdout


def test_ask_of_a_report_that_asks_nothing():
    result = run("ask", "-", given=document.encode(clean()))
    assert isinstance(result.exception, UsageError)


def test_help_loads_neither_the_renderers_nor_the_catalogue():
    code = (
        "import sys\nfrom netdiag.cli import cli\n"
        "try: cli.main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('rich','msgspec') or m.startswith("
        "('netdiag.causes','netdiag.report'))), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert all(name in done.stdout for name in COMMANDS)


def every_command(command=cli, path=()):
    """The words of each command, of groups too."""
    yield " ".join(path)
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from every_command(command.get_command(context, name), (*path, name))


@pytest.mark.parametrize("words", tuple(every_command()))
def test_help_shows_its_examples_as_they_are_typed_on_a_terminal_of_80_columns(words):
    command = cli
    for word in words.split():
        command = command.get_command(click.Context(command), word)
    shown = CliRunner().invoke(cli, [*words.split(), "--help"], terminal_width=80).stdout.splitlines()
    assert "\\b" not in "".join(shown)
    written = inspect.cleandoc(command.help).replace("\b\n", "").splitlines()
    starts = [at for at, line in enumerate(written) if line.startswith("Example")]
    if isinstance(command, click.Group) and not starts:
        return
    (start,) = starts
    # A block of its own: the heading, and each example on a line that can be copied whole.
    block = [f"  {line}" for line in written[start:]]
    assert all(line.startswith("    netdiag ") and len(line) <= 80 for line in block[1:])
    at = shown.index(block[0])
    assert shown[at : at + len(block)] == block
