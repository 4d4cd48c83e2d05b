"""An address that a swarm has given to two containers: it removed a node that went on working, cut off from its managers."""

import contextlib

import pytest

from tests.lab.diagnosing import diagnose, only_cause, said

IMAGE = "netdiag/busybox:lab"
RUN = ["docker", "run", "-d", "--network", "app", "--name"]


@pytest.fixture(scope="module")
def cluster(up):
    """Worker1 runs ``back`` and takes part in the network, and no manager knows it any more."""
    with up("swarm3") as lab:
        manager, worker = lab.host("manager"), lab.host("worker1")
        for name in ("worker1", "worker2"):
            lab.break_("sshd", host=name)
        manager.exec(["docker", "network", "create", "-d", "overlay", "--attachable", "app"])
        manager.exec([*RUN, "front", IMAGE, "sleep", "100000"])
        worker.exec([*RUN, "back", IMAGE, "httpd", "-f", "-p", "80"])
        lab.break_("drop", host="worker1", chain="OUTPUT", proto="tcp", dport=2377)
        manager.exec(["docker", "node", "rm", "--force", "worker1"])
        yield lab


@contextlib.contextmanager
def second(lab, host):
    """Another container with the address of ``back``."""
    asked = ["docker", "inspect", "-f", "{{.NetworkSettings.Networks.app.IPAddress}}", "back"]
    address = lab.host("worker1").exec(asked).stdout.strip()
    lab.host(host).exec([*RUN, "twin", "--ip", address, IMAGE, "httpd", "-f", "-p", "81"])
    try:
        yield address
    finally:
        lab.host(host).exec(["docker", "rm", "-f", "twin"])


def test_both_hosts_take_part(cluster):
    """Each engine says of its own container: it is told whichever of them answered."""
    with second(cluster, "manager") as address:
        cause = only_cause(diagnose(cluster, "front", "worker1/back:80", code=None))
        assert said(cause) == ("overlay.duplicate-endpoint", None, "proven")
        assert (cause["object"]["address"], cause["object"]["network"]) == (address, "app")
        assert cause["object"]["others"] == ["twin on manager", "back on worker1"]
    assert diagnose(cluster, "front", "worker1/back:80", code=0)["causes"] == []


@pytest.mark.parametrize("port", [80, 81], ids=["it answers", "it refuses"])
def test_the_other_one_s_host_takes_no_part(cluster, port):
    """The table of the source leads to the first, which is no mistake of the table's: somebody is there."""
    with second(cluster, "worker2") as address:
        cause = only_cause(diagnose(cluster, "front", f"worker2/twin:{port}", code=1))
        assert said(cause) == ("overlay.duplicate-endpoint", None, "proven")
        assert (cause["object"]["address"], cause["object"]["network"]) == (address, "app")
        assert cause["object"]["others"] == ["twin on worker2", "a container behind 10.71.0.2"]
