"""The registry of faults: every row is whole, and parameters are checked."""

import importlib
import shlex

import pytest

from netdiag.errors import UsageError
from netdiag.lab.faults import Kind, describe, parse, parse_words, registry
from netdiag.lab.root import CHECKOUT

FAULTS = registry()


@pytest.mark.parametrize("name", FAULTS)
def test_a_row_is_whole(name):
    fault = FAULTS[name]
    assert fault.help.endswith(".")
    assert callable(fault.apply)
    names = [parameter.name for parameter in fault.parameters]
    assert len(set(names)) == len(names)
    for parameter in fault.parameters:
        assert parameter.help, parameter.name
        assert parameter.accepts
        assert not (parameter.required and parameter.default), parameter.name
        assert (parameter.kind is Kind.CHOICE) == bool(parameter.choices), parameter.name


@pytest.mark.parametrize("name", FAULTS)
def test_its_example_and_its_defaults_parse(name):
    fault, values = parse(name, parse_words(shlex.split(FAULTS[name].example)))
    assert fault is FAULTS[name]
    for parameter in fault.parameters:
        if parameter.default is not None:
            assert parameter.name in values


@pytest.mark.parametrize("name", FAULTS)
def test_it_is_listed_and_documented(name):
    assert (name, FAULTS[name].help) in describe()
    assert describe(name)
    assert f"`{name}`" in (CHECKOUT / "docs/howto/lab.md").read_text()


def test_no_name_is_lost_because_two_rows_have_it():
    files = (CHECKOUT / "netdiag/lab").glob("faults_*.py")
    modules = [importlib.import_module(f"netdiag.lab.{file.stem}") for file in files]
    rows = [row for module in modules for row in module.FAULTS]
    assert len(rows) == len(FAULTS)


@pytest.mark.parametrize(
    ("name", "words", "named"),
    [
        ("dorp", [], "did you mean drop"),
        ("drop", [], "host=HOST is missing"),
        ("drop", ["host=a", "dprt=1"], "did you mean dport"),
        ("drop", ["host=a", "dport=http"], "dport=http"),
        ("drop", ["host=a", "dport=0"], "dport=0"),
        ("drop", ["host=a", "dport=22,65536"], "22,65536"),
        ("drop", ["host=a", "source=10.0.0.300"], "source=10.0.0.300"),
        ("drop", ["host=a", "position=-1"], "position=-1"),
        ("drop", ["host=a", "position=first"], "position=first"),
        ("drop", ["host=a", "backend=pf"], "accepted is iptables|iptables-nft|"),
        ("drop", ["host="], "host=: empty"),
        ("drop", ["host=a", "extra='"], "extra="),
        ("reject", ["host=a", "with=silence"], "with=silence"),
        ("mtu", ["host=a", "mtu=67"], "accepted is 68..65535"),
        ("neighbour", ["host=a", "address=here"], "address=here"),
    ],
)
def test_a_mistake_is_named(name, words, named):
    with pytest.raises(UsageError) as raised:
        parse(name, parse_words(words))
    assert named in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("words", "named"), [(["host"], "'host' is not key=value"), (["a=1", "a=2"], "a is given twice")]
)
def test_words_that_are_no_parameters(words, named):
    with pytest.raises(UsageError, match=named):
        parse_words(words)
