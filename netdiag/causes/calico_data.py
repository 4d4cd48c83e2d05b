"""Causes in what Calico makes of its records on the hosts: sessions, routes, tunnels and policy."""

from netdiag.causes.kinds import CauseKind

KINDS = (
    CauseKind(
        code="calico.bgp",
        title="The BGP session between two hosts is not established",
        meaning=(
            "Routes of containers travel over BGP, tcp/179. Without the session this host does not learn the peer's"
            " containers. The report says why: port filtered, nobody listens, another program owns the port, AS numbers"
            " or passwords differ, or the peer is unreachable."
        ),
        object_kinds=("peer", "process"),
        evidence="BIRD's state and last error of the session, a probe of tcp/179, and who owns the port.",
        decoys=(
            "A dead node's record: its session is down rightly (see calico.node-duplicate).",
            "A passive session while the peer connects.",
        ),
        remedy="Open tcp/179 both ways, stop the other program, or make AS numbers and passwords equal.",
        affects=("calico control", "calico data"),
        refs=("calico#4059", "calico#4479", "calico#7893", "calico#2961", "calicoctl#1609"),
    ),
    CauseKind(
        code="calico.route-missing",
        title="The route to a block of another host is missing",
        meaning=(
            "The datastore says which host owns the block, and this host's kernel has no route to it. Its containers"
            " are unreachable from here, others work."
        ),
        object_kinds=("route",),
        evidence="The routes that follow from the datastore are compared with the kernel's.",
        decoys=("A block that was claimed seconds ago.", "A wider route that leads to the same next hop."),
        remedy="Heal the session that should bring it (calico.bgp); set the route by hand to try.",
        affects=("calico data",),
        refs=("calico#7706", "calico#6828", "bird#31"),
    ),
    CauseKind(
        code="calico.route-wrong",
        title="The route to a block points to the wrong place",
        meaning=(
            "The next hop, device or protocol of the route is not what the datastore says. Packets go to another host,"
            " or into the wrong tunnel."
        ),
        object_kinds=("route",),
        evidence="The routes that follow from the datastore are compared with the kernel's; both are shown.",
        decoys=("A more specific route to the same place.",),
        remedy="Delete the wrong route and find who set it; the agent sets its own again.",
        affects=("calico data",),
        refs=("calico#1584", "calico#4022"),
    ),
    CauseKind(
        code="calico.blackhole",
        parent="calico.route-wrong",
        title="A blackhole route swallows a block that lives elsewhere",
        meaning=(
            "A host has a discarding route for the addresses of its own blocks that nobody uses. When the block belongs"
            " to another host by now, everything to it dies here without a word."
        ),
        object_kinds=("route",),
        evidence="The kernel has a blackhole route for a block whose owner, in the datastore, is another host.",
        decoys=("The blackhole route of a block that this host owns: it belongs there.",),
        remedy="Delete the route, and the stale affinity that made it; restart BIRD's configuration agent.",
        affects=("calico data",),
        refs=("calico#6867", "node#1032"),
    ),
    CauseKind(
        code="calico.endpoint-route",
        parent="calico.route-missing",
        title="The host has no route to its own container",
        meaning=(
            "Each Calico container has a host route to its device. Without it nobody reaches the container, not even"
            " its own host."
        ),
        object_kinds=("route", "container"),
        evidence="The container and its cali device exist, and the kernel has no route for its address to that device.",
        decoys=("A container that has just stopped.",),
        remedy="Restart the container or Felix; set the route by hand to try.",
        affects=("calico data",),
        refs=("calico#3270", "calico#4186"),
    ),
    CauseKind(
        code="calico.tunnel",
        title="The tunnel device does not fit the pool's mode",
        meaning=(
            "The pool says IP-in-IP, VXLAN or none, and the host's tunnel device is missing, has another address or"
            " MTU, or belongs to another mode. Traffic works one way or not at all."
        ),
        object_kinds=("device", "pool"),
        evidence="The kernel's devices are compared with the mode of the pool.",
        decoys=("A tunnel device of a pool that is still in use beside this one.",),
        remedy="Restart the agent so that it makes the device again; change a pool's mode on all hosts together.",
        affects=("calico data",),
        refs=("calico#1584", "calico#7281", "calico#9450"),
    ),
    CauseKind(
        code="calico.swarm-vxlan",
        parent="overlay.vni-conflict",
        title="Calico and Docker's overlay claim the same VXLAN number and port",
        meaning=(
            "Both use VNI 4096 on udp/4789 unless told otherwise, and the kernel allows one. Whoever comes second gets"
            " \"file exists\": either Calico's device or the swarm's ingress network is missing."
        ),
        object_kinds=("device", "setting"),
        evidence="The VXLAN devices of all namespaces, and the settings of both, show the same VNI and port.",
        decoys=("Calico in IP-in-IP mode or without encapsulation: it has no VXLAN device.",),
        remedy=(
            "Give Calico another number or port (vxlanVNI 10000 or vxlanPort 4790) on all hosts at once, or create the"
            " swarm with another --data-path-port."
        ),
        affects=("calico data", "overlay data", "published ports"),
        refs=("operator#3435", "operator#4144", "calico#6752", "libnetwork#2282"),
    ),
    CauseKind(
        code="calico.masquerade",
        title="The rule that translates addresses of a pool on the way out is missing",
        meaning=(
            "The pool has outgoing NAT, and the host lacks the rule for it. Containers reach each other, and nothing"
            " outside answers them."
        ),
        object_kinds=("rule", "pool"),
        evidence="The pool's setting in the datastore is compared with the host's rules.",
        decoys=("A pool without outgoing NAT: its addresses must be routed outside.",),
        remedy="Restart Felix so that it writes the rule again, and stop what flushed it.",
        affects=("calico data",),
    ),
    CauseKind(
        code="calico.policy",
        parent="firewall.rule",
        title="A Calico policy denies the packet",
        meaning=(
            "A profile or policy of the endpoint does not allow this flow, or no profile matches it. It is dropped on"
            " the host of one of the two containers, on purpose."
        ),
        object_kinds=("calico-policy", "rule"),
        evidence="The trace ends in a cali chain that belongs to the policy.",
        decoys=("A drop in a chain that is not Calico's.",),
        remedy="Allow the flow in the policy, or put both endpoints in one profile.",
        affects=("calico data",),
        refs=("calicoctl#1205",),
    ),
    CauseKind(
        code="calico.policy-unenforced",
        title="A Calico policy exists and nothing enforces it on this host",
        meaning=(
            "The datastore holds a profile or policy for endpoints of this host, and no Felix writes its rules. Traffic"
            " that should be denied passes."
        ),
        object_kinds=("calico-policy", "host"),
        evidence="The policy in the datastore, and no cali chain for it in the host's rules.",
        decoys=("A policy that selects no endpoint of this host.",),
        remedy="Run Felix on the host, or write the rules that the policy means.",
        affects=("calico data",),
    ),
    CauseKind(
        code="calico.managed-interface",
        title="Another network manager handles Calico's devices",
        meaning=(
            "NetworkManager or systemd-networkd takes the cali or tunnel devices for its own, and removes their"
            " addresses and routes. It works until the manager acts, then it breaks."
        ),
        object_kinds=("device", "process"),
        evidence="The manager says that it manages the device, or removes foreign routes.",
        decoys=("A manager that lists the device as unmanaged.",),
        remedy="Tell the manager to leave cali*, tunl* and vxlan.calico alone (ManageForeignRoutes=no for networkd).",
        affects=("calico data",),
        refs=("calicoctl#256", "typhoon#1007", "calico#2471", "calico#3271"),
    ),
)
