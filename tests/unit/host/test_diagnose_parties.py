"""Who takes part in a diagnosis, and what each host is asked with."""

from netdiag.facts.context import Options
from netdiag.host.diagnose_parties import Parties
from netdiag.model.facts import AbsenceKind
from netdiag.model.wire import Answer, WireError


class Deaf:
    """A host that answers nothing, and keeps what it was asked."""

    def __init__(self):
        self.asked = []

    def ask(self, requests):
        self.asked += requests
        return [Answer(error=WireError(AbsenceKind.MISSING, "nothing")) for _ in requests]

    def sockets(self):
        """At which sockets its engine was asked; None is the usual one."""
        return {request.params.get("socket") for request in self.asked if request.verb.startswith("docker")}


def test_another_host_is_asked_with_its_own_defaults():
    here, there = Deaf(), Deaf()
    shell = Options(docker_socket="unix:///run/mine.sock", etcd={"ETCD_AUTHORITY": "mine:2379"}, load_modules=True)
    parties = Parties(here, lambda _: there, 0.0, shell, lambda _: None)
    peer = parties.peer("there")
    assert here.sockets() == {"unix:///run/mine.sock"}
    assert there.sockets() == {None}
    assert parties.here.options == shell
    # What the operator chose for the run holds on every host.
    assert (peer.options.docker_socket, dict(peer.options.etcd), peer.options.load_modules) == (None, {}, True)
