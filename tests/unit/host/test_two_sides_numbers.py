"""The numbers of a run's probes: each once, none that can be guessed, and an end that is told."""

import pytest

from netdiag.facts.context import Options
from netdiag.host.drive import Replay
from netdiag.host.sided_probes import OutOfNumbers
from netdiag.host.two_sides import Sought, _Examination
from netdiag.participant.marks import MOST
from tests.unit.checks.factory import facts


def test_every_number_is_given_once_and_then_the_run_says_so():
    run = _Examination(Replay({}), facts(), [], Sought(), Options(), print)
    given = [run._number() for _ in range(MOST)]
    assert sorted(given) == list(range(1, MOST + 1))
    assert given[:64] != sorted(given[:64])
    with pytest.raises(OutOfNumbers):
        run._number()
