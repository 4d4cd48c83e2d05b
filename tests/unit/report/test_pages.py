from pathlib import Path
from types import SimpleNamespace

import pytest

from netdiag.causes import CATALOGUE
from netdiag.errors import UsageError
from netdiag.report import pages

ROOT = Path(__file__).parents[3]
CHECK = SimpleNamespace(
    id="swarm.port.control", title="The manager's port", explains="It must answer.", remedy="Open it."
)
CHECKS = {CHECK.id: CHECK}


@pytest.mark.parametrize("code", CATALOGUE)
def test_every_cause_has_a_page(code):
    kind = CATALOGUE[code]
    text = pages.page(code, {}, width=80)
    flat = " ".join(text.split())
    assert text.startswith(f"{code}")
    for part in (kind.title, kind.meaning, kind.evidence, kind.remedy, *kind.decoys, *kind.refs):
        assert part in flat
    assert all(len(line) <= 80 for line in text.splitlines())


def test_what_is_only_told_says_so():
    assert "told, never ranked" in pages.page("swarm.not-rebalanced", {})


def test_the_page_of_a_check():
    assert pages.page("swarm.port.control", CHECKS) == (
        "swarm.port.control\nThe manager's port\n\nIt must answer.\n\nWhat to do:\n  Open it.\n"
    )


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("firewall.rul", "firewall.rule"),
        ("near-miss", "firewall.near-miss"),
        ("mtu-blackhol", "underlay.mtu-blackhole"),
        ("swarm.port.contrl", "swarm.port.control"),
        ("firewall", "firewall.docker-chains-missing"),
        ("conntrack", "conntrack.full, conntrack.invalid"),
    ],
)
def test_an_unknown_name_is_told_its_neighbours(name, near):
    with pytest.raises(UsageError) as caught:
        pages.page(name, CHECKS)
    assert near in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_like_nothing():
    with pytest.raises(UsageError, match="netdiag explain lists them all"):
        pages.page("qqqq", {})


def test_the_list_has_every_code_and_check():
    text = pages.listing(CHECKS)
    for name in (*CATALOGUE, *CHECKS):
        assert f"  {name} " in text


def test_all_pages_at_once():
    text = pages.everything()
    assert all(f"{kind.title}." in " ".join(text.split()) for kind in CATALOGUE.values())


def test_every_ref_leads_somewhere():
    assert pages.markdown().count("https://github.com/") == sum(len(kind.refs) for kind in CATALOGUE.values())


def test_the_reference_is_current():
    file = ROOT / "docs/reference/causes.md"
    assert file.read_text() == pages.markdown(), "netdiag explain --all --markdown > docs/reference/causes.md"
