"""Who takes part in a diagnosis, and what each host is asked with."""

import pytest

from netdiag.errors import CarrierError
from netdiag.facts.context import Options
from netdiag.host import LocalHost
from netdiag.host.diagnose_parties import Parties
from netdiag.model.facts import AbsenceKind
from netdiag.model.wire import Answer, WireError

SHELL = Options(docker_socket="unix:///run/mine.sock", etcd={"ETCD_AUTHORITY": "mine:2379"}, load_modules=True)


class Overheard:
    """This machine's participant; what it is asked is kept."""

    def __init__(self):
        self._host = LocalHost()
        self.asked = []

    def ask(self, requests):
        self.asked += requests
        return self._host.ask(requests)

    def sockets(self):
        """At which sockets its engine was asked; None is the usual one."""
        return {request.params.get("socket") for request in self.asked if request.verb.startswith("docker")}


class Deaf:
    """A host that answers nothing."""

    def ask(self, requests):
        return [Answer(error=WireError(AbsenceKind.MISSING, "nothing")) for _ in requests]


def test_another_host_is_asked_with_its_own_defaults():
    here, there = Overheard(), Overheard()
    parties = Parties(here, lambda _: there, 0.0, SHELL, lambda _: None)
    peer = parties.peer("there")
    assert here.sockets() == {"unix:///run/mine.sock"}
    assert there.sockets() == {None}
    assert parties.here.options == SHELL
    # What the operator chose for the run holds on every host.
    assert (peer.options.docker_socket, dict(peer.options.etcd), peer.options.load_modules) == (None, {}, True)


def test_a_host_that_tells_nothing_cannot_take_part():
    parties = Parties(LocalHost(), lambda _: Deaf(), 0.0, SHELL, lambda _: None)
    with pytest.raises(CarrierError, match="deaf: none of its addresses could be read"):
        parties.peer("deaf")
