"""What the checks and a diagnosis write down is held against the catalogue, also on paths that no other test takes."""

import ast
from pathlib import Path

import pytest

from netdiag.causes import CATALOGUE

_NETDIAG = Path(__file__).parents[3] / "netdiag"
CHECKS = sorted([*_NETDIAG.glob("checks/*.py"), *_NETDIAG.glob("path/*.py")])


def calls(name):
    return [
        pytest.param(call, id=f"{file.name}:{call.lineno}")
        for file in CHECKS
        for call in ast.walk(ast.parse(file.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == name
    ]


def constants(node):
    """The texts that an expression can be: itself, or the two sides of a choice."""
    if isinstance(node, ast.IfExp):
        return constants(node.body) | constants(node.orelse)
    return {node.value} if isinstance(node, ast.Constant) else set()


def test_there_are_causes_to_look_at():
    assert len(calls("cause")) > 20


@pytest.mark.parametrize("call", calls("cause"))
def test_a_check_names_a_code_of_the_catalogue_and_a_kind_that_fits(call):
    codes = constants(call.args[0])
    assert codes <= set(CATALOGUE)
    for keyword in call.keywords:
        if keyword.arg == "object" and isinstance(keyword.value, ast.Dict):
            keys = [key.value for key in keyword.value.keys if isinstance(key, ast.Constant)]
            kinds = constants(keyword.value.values[keys.index("kind")])
            for code in codes:
                assert kinds & set(CATALOGUE[code].object_kinds), f"{code}: {kinds}"
