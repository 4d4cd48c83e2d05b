"""Virtual IPs of services where the kernel has no IPVS: nft in the load balancer's sandbox does its part.

The engine makes that sandbox and cannot fill it. What stands in does what IPVS would in the engine's mode: the sandbox
has the virtual IP and answers a ping to it, and spreads connections over the tasks in turn, in its own name.
"""

from __future__ import annotations

from collections.abc import Iterable

from netdiag.lab.host import Host

_TABLE = "lab-balancer"


def stand_in(manager: Host, hosts: Iterable[Host], network: str) -> None:
    """Give every service of an overlay network its virtual IP, on every host that takes part in the network.

    Args:
        manager: Who knows the services and their tasks. Call it again when those have changed.
        hosts: Where.
        network: The network's name.

    Raises:
        LabError: A command failed.
    """
    identity = manager.docker.inspect_network(network)["Id"]
    tables = _tables(manager, identity)
    for host in hosts:
        sandbox = f"/run/docker/netns/lb_{identity[:9]}"
        if not host.path(sandbox).exists():
            continue
        inside = ["nsenter", f"--net={sandbox}", "--"]
        for address in tables:
            host.exec([*inside, "ip", "address", "replace", f"{address}/32", "dev", "eth0"])
        for key, value in (("ip_forward", 1), ("conf.all.send_redirects", 0), ("conf.eth0.send_redirects", 0)):
            host.exec([*inside, "sysctl", "-qw", f"net.ipv4.{key}={value}"])
        host.exec([*inside, "nft", "-f", "-"], stdin=_ruleset(tables))


def _tables(manager: Host, identity: str) -> dict[str, list[str]]:
    """For each virtual IP of a network the addresses of the running tasks behind it."""
    addresses: dict[str, list[str]] = {}
    for task in manager.docker.tasks(filters={"desired-state": "running"}):
        for row in task.get("NetworksAttachments") or ():
            if row["Network"]["ID"] == identity and task["Status"]["State"] == "running":
                addresses.setdefault(task["ServiceID"], []).append(row["Addresses"][0].partition("/")[0])
    return {
        row["Addr"].partition("/")[0]: addresses[service["ID"]]
        for service in manager.docker.services()
        for row in service["Endpoint"].get("VirtualIPs") or ()
        if row["NetworkID"] == identity and service["ID"] in addresses
    }


def _ruleset(tables: dict[str, list[str]]) -> str:
    lines = [f"table ip {_TABLE}", f"delete table ip {_TABLE}", f"table ip {_TABLE} {{", "chain prerouting {"]
    lines.append("type nat hook prerouting priority dstnat;")
    for virtual, tasks in tables.items():
        turns = ", ".join(f"{number} : {address}" for number, address in enumerate(tasks))
        lines.append(
            f"ip daddr {virtual} meta l4proto {{ tcp, udp }} dnat to numgen inc mod {len(tasks)} map {{ {turns} }}"
        )
    lines += [
        "}",
        "chain postrouting {",
        "type nat hook postrouting priority srcnat;",
        "ct status dnat masquerade",
        "}",
    ]
    return "\n".join([*lines, "}", ""])
