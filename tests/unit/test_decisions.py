"""The index of decisions names each of them, by its own title."""

import re
from pathlib import Path

DECISIONS = Path(__file__).parents[2] / "docs/decisions"


def test_every_decision_is_in_the_index_under_its_title():
    rows = re.findall(
        r"^\| \[(.+?)\]\((.+?)\) \| \S", (DECISIONS / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    files = sorted(DECISIONS.glob("[0-9]*.md"))
    assert rows == [(file.read_text(encoding="utf-8").split("\n")[0].removeprefix("# "), file.name) for file in files]
