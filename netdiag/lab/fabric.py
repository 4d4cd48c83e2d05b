"""The fabric: one more namespace, a bridge for each network in it, a cable from each to its hosts. No way out of it.

Each bridge has the last address of its network, as a managed switch or a filtering box has one: what is refused in the
fabric is refused from there.
"""

from __future__ import annotations

import subprocess

from netdiag.errors import LabError
from netdiag.lab.host import Host
from netdiag.lab.topology import Topology


def bridge_name(network: str) -> str:
    """The bridge that is a network; interface names have 15 characters at most."""
    return f"br-{network}"[:15]


def connect(topology: Topology, fabric: Host, hosts: dict[str, Host]) -> None:
    """Make bridges and cables and give the hosts their addresses.

    Raises:
        LabError: ``ip`` refused something.
    """
    lines = ["link set lo up"]
    for network in topology.network:
        bridge = bridge_name(network.name)
        lines += [f"link add {bridge} mtu {network.mtu} type bridge", f"link set {bridge} up"]
        lines.append(f"address add {network.fabric_address} dev {bridge}")
    for host in hosts.values():
        for uplink in host.uplinks:
            mtu, end = uplink.network.mtu, f"{uplink.interface} netns {host.pid}"
            lines.append(f"link add {uplink.port} mtu {mtu} type veth peer name {end} mtu {mtu}")
            lines.append(f"link set {uplink.port} master {bridge_name(uplink.network.name)} up")
    _batch(fabric, lines)
    for host in hosts.values():
        lines = ["link set lo up"]
        for uplink in host.uplinks:
            lines.append(f"address add {uplink.address} broadcast + dev {uplink.interface}")
            lines.append(f"link set {uplink.interface} up")
        _batch(host, lines)


def _batch(host: Host, lines: list[str]) -> None:
    """Run ``ip`` with the host's files and network, but with the machine's process ids, which ``netns PID`` means."""
    command = ["nsenter", "-t", str(host.pid), "-m", "-n", "--", "ip", "-batch", "-"]
    text = "".join(f"{line}\n" for line in lines)
    done = subprocess.run(command, input=text, capture_output=True, text=True, env=host.environment(), check=False)
    if done.returncode:
        raise LabError(f"cabling {host.name}: {done.stderr.strip()}")
