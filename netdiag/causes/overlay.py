"""Causes in the data plane of overlay networks: VXLAN, its entries, IPsec and virtual IPs."""

from netdiag.causes.kinds import CauseKind

KINDS = (
    CauseKind(
        code="overlay.fdb-missing",
        title="The forwarding entry for a remote container is missing",
        meaning=(
            "In the overlay's namespace no entry says behind which host this container's hardware address is. Its"
            " packets are dropped before they leave; it may heal for a while when the other side speaks first."
        ),
        object_kinds=("fdb",),
        evidence="The engine knows the container and its host, and the kernel has no entry of its own for it.",
        decoys=(
            "A second line for the same address that the bridge learned (master br0): it is no substitute.",
            "A container of this host: it needs no entry.",
        ),
        remedy=(
            "Set the entry in the namespace (bridge fdb replace MAC dev vxlan0 dst HOST self permanent), or restart the"
            " remote task. Upgrade an engine with the known defect."
        ),
        affects=("overlay data",),
        refs=("moby#52661", "moby#35807"),
    ),
    CauseKind(
        code="overlay.fdb-stale",
        title="The forwarding entry for a container points to the wrong host",
        meaning=(
            "The container moved and the entry still names its old host. Packets go there and are lost; answers from"
            " the new host are dropped as well, because they come from an unexpected address."
        ),
        object_kinds=("fdb",),
        evidence="The host in the kernel's entry differs from the one that the engine knows for the container.",
        decoys=("A learned entry of the bridge: only the permanent one of the VXLAN device counts.",),
        remedy="Replace the entry with the right host, or restart the task; avoid engines with the known defect.",
        affects=("overlay data",),
        refs=("moby#49908", "moby#50232", "moby#50129", "moby#35401"),
    ),
    CauseKind(
        code="overlay.neighbour",
        title="The overlay's neighbour entry for a container is missing or wrong",
        meaning=(
            "The overlay answers ARP for remote containers from a table that the engine fills. Without the entry ARP"
            " stays unanswered; with a wrong one packets go to another container."
        ),
        object_kinds=("neighbour",),
        evidence="The kernel's entry is compared with the address and hardware address that the engine knows.",
        decoys=("An entry in the container's own table that is only old.",),
        remedy="Replace the entry in the overlay's namespace, or restart the remote task.",
        affects=("overlay data",),
        refs=("moby#49908",),
    ),
    CauseKind(
        code="overlay.vtep-source",
        title="Overlay packets leave with another source address than the peers expect",
        meaning=(
            "The kernel picks the outer source by routing, and the peers expect the advertised address. They drop such"
            " packets without any counter: everything arrives and nothing comes out."
        ),
        object_kinds=("address", "route"),
        evidence="A capture shows the source that leaves, and the peers' entries show the address that they expect.",
        decoys=(
            "A second address that is never used toward the peers.",
            "Translation on the way: see underlay.nat.",
        ),
        remedy=(
            "Set the source of the route to the advertised address, or join again advertising the address that leaves."
        ),
        affects=("overlay data",),
        refs=("moby#53004", "moby#47389"),
    ),
    CauseKind(
        code="overlay.vni-conflict",
        title="Another VXLAN device already uses this network number and port",
        meaning=(
            "The kernel allows one VXLAN device for a number (VNI) and port. A leftover or a foreign program holds it,"
            ' so the engine cannot make its own: tasks fail with "error creating vxlan interface: file exists".'
        ),
        object_kinds=("device", "network"),
        evidence="The devices of all network namespaces show two claims on the same VNI and port.",
        decoys=("The same VNI on another port, or another VNI on the same port: both are fine.",),
        remedy="Delete the leftover device; or give one of the two another VNI or port.",
        affects=("overlay data", "new containers"),
        refs=("libnetwork#751", "libnetwork#945", "libnetwork#1765", "moby#28559"),
    ),
    CauseKind(
        code="overlay.port-mismatch",
        title="The hosts use different ports for overlay traffic",
        meaning=(
            "The data path port is set once for the whole swarm. A host whose devices use another one sends to a port"
            " on which nobody listens; no container reaches across."
        ),
        object_kinds=("device", "setting"),
        evidence="The VXLAN devices of the two hosts have different ports.",
        decoys=("A Calico device on another port: it is not part of the overlay.",),
        remedy="Let the host leave and join again; the port is fixed when the swarm is created.",
        affects=("overlay data",),
        refs=("moby#45635",),
    ),
    CauseKind(
        code="overlay.mtu",
        parent="underlay.mtu",
        title="The overlay's packets are too large for the path",
        meaning=(
            "Encapsulation adds 50 bytes, encryption more, and the engine assumes 1500 on the way, whatever the network"
            " card has. Ping and small requests work; large ones hang."
        ),
        object_kinds=("network", "device"),
        evidence="The overlay's MTU plus its overhead is larger than the size that passes between the hosts.",
        decoys=("A path with jumbo frames: only what passes end to end counts.",),
        remedy=(
            "Create the network again with --opt com.docker.network.driver.mtu set to what passes (before the 50"
            " bytes); the ingress network and docker_gwbridge as well."
        ),
        affects=("overlay data", "published ports"),
        refs=("moby#24906", "moby#36689", "moby#43673", "libnetwork#2661"),
    ),
    CauseKind(
        code="overlay.encryption",
        title="The encryption of an overlay network does not work between two hosts",
        meaning=(
            "A kernel part is missing, a host has no security association, the two sides number theirs differently, or"
            " IP protocol 50 is lost on the way. Plain networks work, the encrypted one is silent."
        ),
        object_kinds=("sa", "feature", "network", "segment"),
        evidence="The kernel's IPsec states and counters on both sides say which of the four it is.",
        decoys=(
            'A security group that allows "all TCP and UDP": protocol 50 is neither.',
            "A network that is not encrypted at all.",
        ),
        remedy=(
            "Install the missing kernel part, allow IP protocol 50 between the hosts, or upgrade the engine whose"
            " numbers differ; then restart the tasks."
        ),
        affects=("overlay data",),
        refs=("moby#30766", "moby#26523", "moby#43382", "moby#51798"),
    ),
    CauseKind(
        code="overlay.ipvs",
        title="The load balancer behind a virtual IP is missing or wrong",
        meaning=(
            "A service's virtual IP is served by the kernel's load balancer (IPVS) on each host. Without its kernel"
            " part, or with a backend missing or left over, connections are refused or some of them fail in turn. Ping"
            " to the virtual IP still works: the own host answers it."
        ),
        object_kinds=("ipvs", "feature", "service"),
        evidence="The service's running tasks are compared with the entries in the load balancer's namespace.",
        decoys=("An entry with weight 0: it is being removed.", "A service in dnsrr mode: it has no virtual IP."),
        remedy="Load or install ip_vs; for a wrong backend restart the service (docker service update --force).",
        affects=("virtual IPs", "published ports"),
        refs=("moby#24005", "moby#26930", "moby#36797", "moby#28836"),
    ),
    CauseKind(
        code="overlay.duplicate-endpoint",
        title="Two containers of an overlay network have the same address",
        meaning=(
            "After the loss of a leader the allocator may hand out an address twice, and again that of a container whose"
            " node was removed while it was cut off and went on working. Traffic to it ends in one container or the other."
        ),
        object_kinds=("address", "container"),
        evidence=(
            "The engines' views of the network list two endpoints with one address; or what is sent to a container is"
            " answered from behind another host than its own."
        ),
        decoys=(
            "The record of a task that has just stopped.",
            "A forwarding entry that points to a wrong host: nobody answers there.",
        ),
        remedy="Recreate the service or the network; upgrade an engine with the known defect.",
        affects=("overlay data",),
        refs=("moby#33795", "moby#33402", "moby#35675", "moby#41576"),
    ),
    CauseKind(
        code="overlay.address-is-vip",
        title="The address is a service's virtual IP, which the own host answers",
        info=True,
        meaning=(
            "A service's name resolves to a virtual IP. Ping to it is answered on the own host and proves nothing about"
            " the tasks behind it, which may be unreachable."
        ),
        object_kinds=("address", "service"),
        evidence="The address is the service's virtual IP, and the tasks behind it have others.",
        decoys=("A service in dnsrr mode: its name resolves to the tasks.",),
        remedy="Test the tasks themselves: look up tasks.SERVICE and try those addresses.",
        affects=("virtual IPs",),
        refs=("moby#24201",),
    ),
)
