"""Every step of the ladder is whole: whoever adds one must say all of it."""

import re
from pathlib import Path

import pytest

from netdiag.host.trace import UNTRACED
from netdiag.model.level import STEPS, Level
from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import UNSUPPORTED, VerbError
from netdiag.participant.nftables import TABLES, make_table

HOWTO = Path(__file__).parents[3] / "docs/howto/trace.md"


def test_every_level_says_all_that_depends_on_it():
    assert set(STEPS) == set(Level)
    assert all(step.cost for step in STEPS.values())


def test_every_level_has_its_way_to_find_out():
    assert set(TABLES) == {level.value for level in Level if level.traces}
    assert set(UNTRACED) == {level for level in Level if not level.traces}


def test_the_howto_has_a_row_for_every_level_in_their_order():
    rows = re.findall(
        r"^\| ([a-z]+[a-z-]*) \| ", HOWTO.read_text(encoding="utf-8").partition("\n## Levels\n")[2], re.MULTILINE
    )
    assert rows[:1] == ["level"]
    assert rows[1 : 1 + len(Level)] == [level.value for level in Level]


@pytest.mark.parametrize("level", ["", "owned", "counters", "swept-trace "])
def test_a_participant_makes_no_table_at_a_level_that_it_does_not_know(level):
    with pytest.raises(VerbError, match="only owned-trace, swept-trace") as caught:
        make_table(level, "netdiag-0badcafe", [], Deadline(1))
    assert caught.value.kind == UNSUPPORTED
