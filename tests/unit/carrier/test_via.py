"""What ``--via`` accepts, which peer it is for, and that several ways are opened and closed together."""

import threading

import click
import pytest
from click.testing import CliRunner

from netdiag.carrier import via
from netdiag.carrier.via import Peers, Via, Way, open_carrier, parse_via, vias_for
from netdiag.cli.via import via_option
from netdiag.errors import CarrierError, UsageError


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ssh", Via("ssh")),
        ("ssh:root@192.0.2.1", Via("ssh", "root@192.0.2.1")),
        ("ssh:manager", Via("ssh", "manager")),
        ("ssh:root@", Via("ssh", "root@")),
        ("ssh:fd00::1", Via("ssh", "fd00::1")),
        ("ssh://ops@manager:2222", Via("ssh", "ssh://ops@manager:2222")),
        ("manager=ssh", Via("ssh", "", "manager")),
        ("fd00::1=ssh:root@[fd00::1]:22", Via("ssh", "root@[fd00::1]:22", "fd00::1")),
        ("m=ssh://ops@manager", Via("ssh", "ssh://ops@manager", "m")),
    ],
)
def test_what_is_accepted(text, told):
    assert parse_via(text) == told
    assert str(told) == text


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "give ssh[:USER@HOST]"),
        ("shh", "did you mean ssh?"),
        ("ssh:", "give ssh[:USER@HOST]"),
        ("root@manager", "give ssh[:USER@HOST]"),
        ("=ssh", "give ssh[:USER@HOST]"),
        ("ssh:-oProxyCommand=reboot", "give HOST, USER@HOST"),
        ("ssh:a b", "give HOST, USER@HOST"),
        ("ssh://", "give HOST, USER@HOST"),
        ("m=telnet:x", "PEER=ssh[:USER@HOST]"),
    ],
)
def test_what_is_not_is_named_with_what_is(text, hint):
    with pytest.raises(UsageError) as caught:
        parse_via(text)
    assert hint in str(caught.value)


def test_which_peer_it_is_for():
    peers = ["a", "b", "c"]
    assert vias_for(peers, []) == {}
    assert vias_for(peers, [Via("ssh")]) == dict.fromkeys(peers, Via("ssh"))
    own = Via("ssh", "root@b.example.org", "b")
    assert vias_for(peers, [own]) == {"b": own}
    assert vias_for(peers, [own, Via("ssh", "root@")])["a"] == Via("ssh", "root@")
    assert vias_for(["a", "b"], [own, Via("ssh", "x")]) == {"a": Via("ssh", "x"), "b": own}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([Via("ssh", "root@x")], "leads to one host, and there are alpha, beta: write PEER=ssh:root@x"),
        ([Via("ssh", "", "alpa")], "alpa is no peer here; there is alpha"),
        ([Via("ssh", "", "alpha"), Via("ssh", "x", "alpha")], "--via alpha=ssh and --via alpha=ssh:x: give one"),
        ([Via("ssh"), Via("ssh", "x")], "--via ssh and --via ssh:x: give one"),
    ],
)
def test_what_does_not_go_together(given, told):
    with pytest.raises(UsageError) as caught:
        vias_for(["alpha", "beta"], given)
    assert told in str(caught.value)


class Recording:
    """A way that is open, and remembers its end."""

    restriction = ""
    is_root = True

    def __init__(self, name):
        self.name = name
        self.closed = False

    def close(self):
        self.closed = True


@pytest.fixture
def ways(monkeypatch):
    """A way of the test's own: it opens all at once, and refuses the peers that are called so."""
    together = threading.Barrier(3, timeout=10)
    opened = []

    def open_(where, peer):
        together.wait()
        if where == "refused":
            raise CarrierError(f"{peer}: refused")
        if where == "wrong":
            raise UsageError(f"{peer}: wrong")
        opened.append(Recording(peer))
        return opened[-1]

    monkeypatch.setattr(via, "WAYS", {"test": Way("test", str, open_, lambda where, _: where)})
    return opened


def test_all_are_opened_side_by_side_and_closed(ways):
    with Peers({"a": Via("test"), "b": Via("test", "refused"), "c": Via("test")}) as peers:
        assert set(peers.carriers) == {"a", "c"}
        assert str(peers.failed["b"]) == "b: refused"
        assert not any(each.closed for each in ways)
    assert all(each.closed for each in ways)


def test_one_that_cannot_be_tried_closes_the_others(ways):
    with pytest.raises(UsageError, match="b: wrong"):
        Peers({"a": Via("test"), "b": Via("test", "wrong"), "c": Via("test")})
    assert len(ways) == 2
    assert all(each.closed for each in ways)


def test_no_peer_needs_no_way():
    with Peers({}) as peers:
        assert peers.carriers == {}


def test_a_way_without_a_destination_leads_to_the_peers_own_name(monkeypatch):
    called = []
    monkeypatch.setattr("netdiag.carrier.ssh.connect", lambda where, name: called.append((where, name)))
    for where in ("", "ops@", "root@10.0.0.1"):
        open_carrier(Via("ssh", where), "manager")
    assert called == [("manager", "manager"), ("ops@manager", "manager"), ("root@10.0.0.1", "manager")]


def test_the_option():
    @click.command()
    @via_option
    def command(vias):
        click.echo(repr([str(each) for each in vias]))

    run = CliRunner().invoke(command, ["--via", "ssh", "--via", "a=ssh:root@b"])
    assert run.output == "['ssh', 'a=ssh:root@b']\n"
    run = CliRunner().invoke(command, ["--via", "rsh"])
    assert isinstance(run.exception, UsageError)
