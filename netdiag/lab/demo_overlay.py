"""The story of a name that answers ping while ssh hangs, told on three lab hosts with real engines and a real sshd."""

from __future__ import annotations

from netdiag.lab.balancer import stand_in
from netdiag.lab.demo import Tell, expect, run_netdiag
from netdiag.lab.lab import Lab
from netdiag.lab.process import until
from netdiag.lab.services import create_service, within
from netdiag.lab.topology import SSHD_IMAGE, load_topology

_NETWORK = "app"
_SSH = ["ssh", "-o", "ConnectTimeout=5", "db", "echo", "logged in to", "db"]


def tell_overlay_story(tell: Tell, *, name: str = "demo", columns: int = 100) -> None:
    """Run the story in a lab of its own, which is gone afterwards.

    Args:
        tell: Receives what an operator would see, a block at a time.
        name: The lab's name.
        columns: How wide netdiag's own tables may be.

    Raises:
        LabError: Something did not go as told: netdiag did not name the causes, or their remedies did not heal.
    """
    tell("# Three machines in a swarm, and two services on an overlay network: web on worker1, db on worker2.")
    with Lab.up(load_topology("story2"), name=name) as lab:
        manager, worker = lab.host("manager"), lab.host("worker1")
        for host in ("worker1", "worker2"):
            lab.break_("sshd", host=host)
        manager.exec(["docker", "network", "create", "-d", "overlay", "--attachable", _NETWORK])
        for service, host in (("web", "worker1"), ("db", "worker2")):
            create_service(manager, service, network=_NETWORK, node=host, image=SSHD_IMAGE)
        stand_in(manager, lab.hosts.values(), _NETWORK)
        expect(within(worker, "web", _SSH).returncode == 0, "ssh was to work at first")
        for host in ("worker1", "worker2"):
            lab.break_("stateful-input", host=host)

        tell("\n# 1. The name resolves and answers ping. The nodes are Ready. ssh hangs.")
        _shown(lab, ["ping", "-c", "1", "db"], tell)
        hung = _shown(lab, _SSH, tell)
        expect(hung != 0, "ssh was to hang")

        tell("\n# 2. Even a service that is made now resolves, so that the network looks well.")
        create_service(manager, "late", network=_NETWORK, node="worker2", image=SSHD_IMAGE)
        until(lambda: within(worker, "web", ["nslookup", "late"]).returncode == 0, 10.0, "the name of a new service")
        _shown(lab, ["nslookup", "late"], tell)

        tell("\n# 3. What netdiag says, asked at the manager; the workers have nothing installed:")
        report = run_netdiag(manager, ["diagnose", "worker1/web", "db:22", "--via", "ssh"], tell, columns)
        rules = [cause for cause in report["causes"] if cause["code"] == "firewall.rule"]
        expect(
            {cause["host"] for cause in rules} == {"worker1", "worker2"}, "the rules of both workers were to be named"
        )

        tell("\n# 4. The remedies, each on its host. Nothing is flushed.")
        for remedy in [remedy for cause in rules for remedy in cause["remedy"]]:
            for command in remedy["commands"]:
                tell(f"{remedy['host']}$ {command}")
                lab.host(remedy["host"]).exec(["sh", "-c", command])

        tell("\n# 5. And ssh works:")
        expect(_shown(lab, _SSH, tell) == 0, "ssh was to work again")
        again = run_netdiag(manager, ["diagnose", "worker1/web", "db:22", "--via", "ssh"], tell, columns)
        expect(not again["causes"], "nothing was to be left")


def _shown(lab: Lab, words: list[str], tell: Tell) -> int:
    """Run a command in the container of web, show it, and return its exit code."""
    tell(f"worker1:web$ {' '.join(words)}")
    result = within(lab.host("worker1"), "web", words)
    tell((result.stdout + result.stderr).rstrip())
    return result.returncode
