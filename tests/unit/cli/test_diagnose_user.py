"""The user that an attempt is made as, as it is typed."""

import click
import pytest

from netdiag.cli.diagnose import read_user


@pytest.mark.parametrize(
    ("text", "ids"), [(None, None), ("0", (0, 0)), ("1000", (1000, 1000)), ("1000:50", (1000, 50)), ("7:0", (7, 0))]
)
def test_numbers(text, ids):
    assert read_user(text) == ids


@pytest.mark.parametrize("text", ["", "root", "-1", "1000:", ":50", "1:2:3", "4294967296", "1:x"])
def test_what_is_none(text):
    with pytest.raises(click.UsageError, match="UID or UID:GID"):
        read_user(text)
