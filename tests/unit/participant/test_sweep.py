"""What is left of a trace that was killed, and what belongs to one that lives."""

import struct

import pytest

from netdiag.participant.life import is_table_name, names_of, new_table_name
from netdiag.participant.sweep import left_behind

OWNER = 2
"""NFT_TABLE_F_OWNER."""


def table(name, flags=None):
    found = {1: name.encode() + b"\0"}
    return (1, found if flags is None else {**found, 2: struct.pack(">I", flags)})


def test_a_table_with_an_owner_is_never_left_behind():
    name = new_table_name()
    assert list(left_behind([table(name, OWNER), table(name, OWNER | 1)])) == []
    assert list(left_behind([table(name), table(name, 0), table(name, 1)])) == [(1, name)] * 3


@pytest.mark.parametrize("name", ["netdiag-mine", "netdiag-0badcaf", "netdiag-0badcafe0", "netdiag-0BADCAFE", "filter"])
def test_a_table_of_another_name_is_somebody_s(name):
    assert not is_table_name(name)
    assert list(left_behind([table(name)])) == []


RAW = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
    1: 00000000:0001 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 100 2 0000000000000000 0
  253: {address}:00FD 00000000:0000 07 00000000:00000000 00:00000000 00000000 {user:5}        0 101 2 0000000000000000 0
"""


@pytest.mark.parametrize(("user", "expected"), [(0, {"netdiag-0badcafe"}), (65534, set())])
def test_only_root_shows_a_sign_of_life(user, expected):
    # The kernel prints the address as a number of this machine's.
    address = f"{struct.unpack('=I', bytes.fromhex('0badcafe'))[0]:08X}"
    assert names_of(RAW.format(address=address, user=user)) == expected
