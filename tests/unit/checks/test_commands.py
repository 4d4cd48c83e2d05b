"""No check pastes a name into a command by itself: what comes from a host goes through the one quoting."""

import ast
import shlex
from pathlib import Path

import pytest

from netdiag.checks.commands import carry_over, rename

ROOT = Path(__file__).parents[3] / "netdiag"
FILES = [*sorted((ROOT / "checks").glob("*.py")), ROOT / "cli" / "preflight_run.py", ROOT / "cli" / "verify_run.py"]
QUOTING = {"shell_text", "rename", "carry_over", "operand", "set_mtu"}
PLACES = {"commands", "undo", "persist", "command"}


def unquoted(node):
    """The values in f-strings of an expression that no quoting has seen."""
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") in QUOTING:
        return []
    if isinstance(node, ast.FormattedValue):
        return [] if unquoted(node.value) == [] and isinstance(node.value, ast.Call) else [ast.unparse(node)]
    return [each for child in ast.iter_child_nodes(node) for each in unquoted(child)]


def pasted(text):
    return [
        each
        for call in ast.walk(ast.parse(text))
        if isinstance(call, ast.Call)
        for keyword in call.keywords
        if keyword.arg in PLACES
        for each in unquoted(keyword.value)
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_value_goes_into_a_command_unquoted(file):
    assert pasted(file.read_text()) == []


def test_the_reading_sees_what_it_should():
    assert pasted("Remedy(commands=(f'ip link set {name} up',))") != []
    assert pasted("Step(command=f'x {shell_text([name])} …')") == []


def test_a_name_that_wants_to_be_more():
    assert shlex.split(rename("a$(id)")) == ["hostnamectl", "set-hostname", "a$(id)"]
    assert carry_over("img;id", "-oProxyCommand=id") == "docker save 'img;id' | ssh -- -oProxyCommand=id docker load"
