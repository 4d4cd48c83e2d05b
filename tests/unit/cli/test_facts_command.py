from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from netdiag.cli import facts_tables
from netdiag.cli.bundle import collect
from netdiag.cli.facts import facts
from netdiag.errors import UsageError
from netdiag.facts.assemble import replay
from netdiag.facts.sections import SECTIONS
from netdiag.host.bundles import read_bundle

RECORDED = Path(__file__).parents[1] / "facts" / "data" / "swarm-manager.bundle"


def test_one_document_on_stdout() -> None:
    result = CliRunner().invoke(facts, ["--output", "json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["schema"] == "netdiag/facts/1"
    assert document["links"]["value"]["host"]


def test_one_section_of_one_namespace() -> None:
    result = CliRunner().invoke(facts, ["links", "--netns", "host", "--output", "json"])
    document = json.loads(result.stdout)
    assert list(document["links"]["value"]) == ["host"]
    assert set(document) == {"schema", "collected_s", "links"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["linsk"], "did you mean links"),
        (["links", "--netns", "container:none"], "no such namespace"),
        (["clock", "--netns", "host"], "whole host"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(facts, arguments)
    assert isinstance(result.exception, UsageError)
    assert says in str(result.exception)
    assert "\n" not in str(result.exception)
    assert result.stdout == ""


def test_level() -> None:
    result = CliRunner().invoke(facts, ["level", "--output", "json"])
    document = json.loads(result.stdout)
    assert list(document["ladder"]) == ["owned-trace", "swept-trace", "counters", "facts"]
    assert document["level"] in document["ladder"]
    assert document["level"] in CliRunner().invoke(facts, ["level"]).stdout


def test_a_bundle_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "x.bundle"
    result = CliRunner().invoke(collect, ["-o", str(path)])
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert replay(read_bundle(path)).links.value["host"]


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("name", [None, *SECTIONS])
def test_tables_fit(width: int, name: str | None) -> None:
    found = replay(read_bundle(RECORDED))
    console = Console(width=width, highlight=False, markup=False, emoji=False, record=True)
    with console.capture() as capture:
        if name is None:
            console.print(facts_tables.overview(found, width))
        else:
            console.print(facts_tables.section_table(name, getattr(found, name), width))
    lines = capture.get().splitlines()
    assert lines
    assert max(len(line) for line in lines) <= width
    if name == "links":
        assert any("02:42:0a:00:01:02" in line for line in lines)  # an address is never folded
    if name == "firewall":
        assert any("iptables-nft" in line for line in lines)
