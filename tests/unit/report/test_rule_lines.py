"""``firewall show`` and ``lint`` for people: within the width, nothing lost, and nothing that a terminal would obey."""

from pathlib import Path

import pytest

from netdiag.facts.standing_rules import needs_of
from netdiag.firewall.laid_out import laid_out
from netdiag.firewall.lint_registry import LINT_CHECKS, lint
from netdiag.firewall.standing import of_files
from netdiag.report import lint_lines, show_lines
from tests.unit.firewall.lint_cases import CHANGES, STOCK, changed

ROOT = Path(__file__).parents[3]


def too_wide(lines, width):
    """Lines that are longer although they could have been broken."""
    return [line for line in lines if len(line) > width and len(line.split()) > 2]


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("name", STOCK)
def test_a_rule_set_fits_and_is_whole(name, width):
    lines = show_lines.lines(laid_out(of_files([("a file", STOCK[name])]), subject=name), width)
    assert too_wide(lines, width) == []
    shown = " ".join(" ".join(lines).split())
    for line in STOCK[name].split("\n"):
        rule = line.partition("-A ")[2].partition(" ")[2]
        assert " ".join(rule.split()) in shown


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: f"{change.code} {change.new}"[:60])
def test_findings_fit(change, width):
    found = lint(of_files([("a file", changed(change))]), needs_of(None), subject="a file")
    lines = lint_lines.lines(found, width, verbose=True)
    assert too_wide(lines, width) == []
    assert any(change.code in line for line in lines)


def test_what_a_comment_holds_is_shown_and_not_obeyed():
    bad = "x\x1b[2J\u202e"
    text = STOCK["iptables-service"].replace("-A INPUT -p icmp", f'-A INPUT -p icmp -m comment --comment "{bad}"')
    text = text.replace("COMMIT", f'-A INPUT -m comment --comment "{bad}" -j DROP\nCOMMIT')
    standing = of_files([("a file", text)])
    for lines in (
        show_lines.lines(laid_out(standing, subject="x"), 100),
        lint_lines.lines(lint(standing, subject=bad), 100, verbose=True),
    ):
        assert "\x1b" not in "".join(lines)
        assert "\u202e" not in "".join(lines)


def test_remarks_are_counted_or_shown():
    text = STOCK["by-hand"].replace("COMMIT", "-A INPUT -j NOSUCH\nCOMMIT")
    found = lint(of_files([("a file", text)]), subject="a file")
    assert "1 remark not shown (--verbose)" in lint_lines.lines(found, 100)
    assert any("a file line" in line for line in lint_lines.lines(found, 100, verbose=True))


def test_the_reference_is_current():
    page = lint_lines.reference(LINT_CHECKS, {each.id: each.severities for each in LINT_CHECKS.values()})
    file = ROOT / "docs/reference/lint.md"
    assert file.read_text() == page, "netdiag firewall lint --reference > docs/reference/lint.md"
