"""The story of a join that times out, told on two lab hosts with real engines: fault, answer, remedy, two nodes Ready."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Callable
from typing import Any

from netdiag.errors import LabError
from netdiag.lab import swarm
from netdiag.lab.host import Host
from netdiag.lab.lab import Lab
from netdiag.lab.process import until
from netdiag.lab.topology import load_topology

Tell = Callable[[str], None]


def tell_story(tell: Tell, *, name: str = "demo", columns: int = 100) -> None:
    """Run the story in a lab of its own, which is gone afterwards.

    Args:
        tell: Receives what an operator would see, a block at a time.
        name: The lab's name.
        columns: How wide netdiag's own tables may be.

    Raises:
        LabError: Something did not go as told: netdiag did not name the cause, or its remedy did not heal.
    """
    tell("# Two machines, both called localhost.localdomain. One has a swarm, the other is to join it.")
    with Lab.up(load_topology("story1"), name=name) as lab:
        manager, worker = lab.host("manager"), lab.host("worker")
        for host in (manager, worker):
            lab.break_("sshd", host=host.name)
        lab.break_("drop", host="manager", chain="INPUT", proto="tcp", dport=2377)
        tell("\n# 1. The join that everybody knows. It takes 20 seconds to say this:")
        tell(f"worker$ docker swarm join --token SWMTKN-1-… {manager.address}:2377")
        outcome = lab.swarm_join("worker", "manager", timeout_s=40.0)
        tell(outcome.message)
        expect(not outcome.joined, "the join was to time out")

        tell(
            "\n# 2. The usual advice is 'iptables -F'. What netdiag says instead, on the worker, if ssh leads to the manager:"
        )
        answer = run_netdiag(
            worker, ["preflight", "swarm", "--manager", manager.address, "--via", "ssh"], tell, columns
        )
        expect(answer["answers"]["join"] == "no", "the preflight was to say no")
        rule = answer["causes"][0]
        expect((rule["code"], rule["confidence"]) == ("firewall.rule", "proven"), "a rule was to be proven")
        expect(manager.address in str(rule["host"]), "the manager's rule was to be named")

        tell("\n# 3. Where nobody may log in, the other half is one command on the manager:")
        said = run_netdiag(manager, ["verify", "swarm", "--peer", worker.address], tell, columns)
        expect(rule["object"] in [cause["object"] for cause in said["causes"]], "the same rule was to be named")

        tell("\n# 4. The remedy, on the manager: one rule, for this peer and this port. Nothing is flushed.")
        commands = [command for command in rule["remedy"][0]["commands"] if "2377" in command]
        expect(bool(commands), "a command was to be given")
        for command in commands:
            tell(f"manager$ {command}")
            manager.exec(shlex.split(command))

        tell("\n# 5. The join that timed out was never over: it goes on by itself.")
        until(lambda: swarm.local_state(worker) == "active", 30.0, "the pending join", every_s=0.1)
        swarm.await_ready(manager, [manager, worker])
        with contextlib.suppress(LabError):
            # Only for a calmer last answer: until gossip knows a new node, netdiag says that it is not known yet.
            swarm.await_settled(worker, 10.0)
        tell("manager$ docker node ls --format 'table {{.Hostname}}\\t{{.Status}}\\t{{.ManagerStatus}}'")
        tell(
            manager.exec(
                ["docker", "node", "ls", "--format", "table {{.Hostname}}\t{{.Status}}\t{{.ManagerStatus}}"]
            ).stdout
        )
        nodes = swarm.nodes(manager)
        ready = sum(node["Status"]["State"] == "ready" for node in nodes)
        expect((ready, len(nodes)) == (2, 2), "two nodes were to be Ready")

        tell("# 6. What is still worth knowing, now that it has joined: both sides again, from the manager:")
        run_netdiag(manager, ["verify", "swarm", "--via", "ssh"], tell, columns)
        tell(f"# {ready} nodes Ready.")


def run_netdiag(host: Host, words: list[str], tell: Tell, columns: int) -> dict[str, Any]:
    """Run netdiag on a host, show its table, and return the same report as data."""
    prompt = host.name
    tell(f"{prompt}$ netdiag {' '.join(words)}")
    shown = host.exec(["netdiag", *words], env={"COLUMNS": str(columns)}, check=False)
    tell(shown.stdout.rstrip())
    if shown.returncode not in (0, 1, 3):
        raise LabError(f"{host.name}: netdiag {' '.join(words)}: {shown.stderr.strip()}")
    report: dict[str, Any] = json.loads(host.exec(["netdiag", *words, "--output", "json"], check=False).stdout)
    return report


def expect(holds: bool, what: str) -> None:
    """Raise LabError unless it holds: a story that goes otherwise is not told to its end."""
    if not holds:
        raise LabError(f"the story went otherwise: {what}")
