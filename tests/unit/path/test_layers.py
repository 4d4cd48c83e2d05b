"""Sizes that pass from one end to the other, and those that do not."""

import pytest

from netdiag.path.layers import is_cut


def rows(**outcomes):
    return [{"size": int(size[1:]), "outcome": outcome} for size, outcome in outcomes.items()]


@pytest.mark.parametrize(
    ("seen", "cut"),
    [
        (rows(s576="answered", s1400="answered", s1500="silent"), True),
        (rows(s576="answered", s1400="icmp", s1500="icmp"), True),
        (rows(s576="answered", s1400="answered", s1500="answered"), False),
        # Nothing is known of large ones where small ones are not answered either.
        (rows(s576="silent", s1400="silent", s1500="silent"), False),
        # A small one that is lost, and a larger one that passes, is chance.
        (rows(s576="answered", s1400="silent", s1500="answered"), False),
        (None, False),
    ],
)
def test_a_size_that_is_lost_above_one_that_passes(seen, cut):
    assert is_cut(seen) is cut
