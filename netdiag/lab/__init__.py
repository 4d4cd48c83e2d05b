"""Virtual hosts on one machine, with real engines, and faults to inject. The API for tests is `Lab`."""

from netdiag.lab.host import Host, Result
from netdiag.lab.lab import Lab
from netdiag.lab.state import ActiveFault
from netdiag.lab.swarm import JoinOutcome
from netdiag.lab.topology import Topology, load_topology, parse_topology

__all__ = ["ActiveFault", "Host", "JoinOutcome", "Lab", "Result", "Topology", "load_topology", "parse_topology"]
