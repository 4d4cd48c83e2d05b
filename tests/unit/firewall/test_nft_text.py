import pytest

from netdiag.firewall.nft_text import native_tables

# nft 1.0.6 beside iptables-nft 1.8.9.
LISTING = """\
# Warning: table ip filter is managed by iptables-nft, do not touch!
table ip filter {
	chain INPUT {
		type filter hook input priority filter; policy accept;
		counter packets 0 bytes 0 drop
	}
}
table inet mine {
	set s {
		type ipv4_addr
		elements = { 192.0.2.1 }
	}

	chain in {
		type filter hook input priority filter; policy accept;
		ip saddr @s jump more
	}

	chain out {
		type filter hook output priority filter; policy accept;
	}

	chain more {
		VERDICT
	}
}
"""


def test_tables_of_iptables_are_left_out():
    (table,) = native_tables(LISTING, [("ip", "filter")])
    assert (table.family, table.name, table.hooks) == ("inet", "mine", {"input", "output"})


def test_a_table_that_iptables_does_not_show_is_native():
    assert [table.name for table in native_tables(LISTING, [])] == ["filter", "mine"]
    assert [table.name for table in native_tables(LISTING, [("ip6", "filter")])] == ["filter", "mine"]


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        pytest.param("accept", False, id="accept"),
        pytest.param("counter", False, id="counter"),
        pytest.param("goto other", False, id="goto"),
        pytest.param("drop", True, id="drop"),
        pytest.param("reject with icmp port-unreachable", True, id="reject"),
        pytest.param("tcp dport vmap { 22 : accept, 23 : drop }", True, id="verdict map"),
        pytest.param("queue num 0", True, id="queue"),
    ],
)
def test_whether_a_table_can_stop(verdict, expected):
    (table,) = native_tables(LISTING.replace("VERDICT", verdict), [("ip", "filter")])
    assert table.stops() is expected


def test_nothing():
    assert list(native_tables("", [])) == []
