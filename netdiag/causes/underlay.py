"""Causes between the hosts: what loses, changes or misleads a packet on the way."""

from netdiag.causes.kinds import CauseKind

KINDS = (
    CauseKind(
        code="underlay.no-route",
        title="The host has no route to the destination",
        meaning=(
            "The kernel finds no usable route, or one that says unreachable, prohibit or blackhole. Nothing leaves the"
            ' host. Programs say "network is unreachable" or "no route to host", or wait when it is a blackhole.'
        ),
        object_kinds=("route",),
        evidence="The kernel's own route lookup for this destination fails, or ends in a route that discards.",
        decoys=(
            'An ICMP "host unreachable" that another machine sent: see its sender.',
            "A missing route in a table that no policy rule selects for this packet.",
        ),
        remedy="Add the route, or take away the one that discards; make it permanent in the network configuration.",
        affects=("swarm join", "overlay data", "calico data", "host traffic"),
    ),
    CauseKind(
        code="underlay.neighbour",
        title="The next hop does not answer ARP or neighbour discovery",
        meaning=(
            "The host asks for the hardware address of the next hop and gets no answer, or holds a wrong one that"
            ' somebody set. Programs say "no route to host" after about three seconds.'
        ),
        object_kinds=("neighbour",),
        evidence="Requests are seen on the wire and no answer follows; or a fixed entry differs from the answer.",
        decoys=(
            "An entry in state STALE: it is only old, and is checked when it is used.",
            "A peer that filters ping but answers ARP.",
        ),
        remedy=("Bring the peer up, correct the VLAN or the address, or delete the fixed entry."),
        affects=("swarm join", "overlay data", "calico data", "host traffic"),
    ),
    CauseKind(
        code="underlay.link-down",
        title="The network device is down",
        meaning=(
            "The device that the route points to is not up: switched off, no carrier, or its lower device is down."
            " Everything behind it is unreachable."
        ),
        object_kinds=("device",),
        evidence="The operational state of the device is not up, and the route of the packet uses it.",
        decoys=(
            "State UNKNOWN of virtual devices: it is normal.",
            "A bridge without members: it is down until the first one joins, and nobody needs it until then.",
        ),
        remedy="Set the device up; when it has no carrier, look at cable, switch port or the virtual switch.",
        affects=("swarm join", "overlay data", "calico data", "host traffic"),
    ),
    CauseKind(
        code="underlay.filtered",
        title="Something between the hosts drops this kind of packet",
        meaning=(
            "The packet leaves the network card of one host and never reaches the card of the other, while a control"
            " packet does. A security group, a router, a virtual switch or a provider drops this protocol, port or"
            " kind. VMware NSX, for one, takes VXLAN on udp/4789 for its own."
        ),
        object_kinds=("segment",),
        evidence=(
            "The packet is captured leaving A and not arriving at B's card, and a control packet between the same hosts"
            " arrives at the same point."
        ),
        decoys=(
            "The other host's firewall: the packet would still be seen at its card.",
            "An XDP program at B: it drops before a capture sees anything.",
            "Loss in general: of what is sent again some comes, and of the control packets some are lost as well.",
        ),
        remedy=(
            "Allow the protocol and port between the hosts in the security group, router or virtual switch. If a"
            " hypervisor takes udp/4789, create the swarm with another --data-path-port."
        ),
        affects=("swarm join", "service names", "overlay data", "calico data", "calico control"),
        refs=("moby#33416", "moby#38102", "flannel#2388", "calico#2128", "calico#4059"),
    ),
    CauseKind(
        code="underlay.mtu",
        title="The path carries only smaller packets than the hosts send",
        meaning=(
            "Some link between the hosts takes smaller packets than the hosts' own devices. Small requests work; large"
            " answers, TLS and file copies are slow or hang."
        ),
        object_kinds=("segment", "device"),
        evidence=(
            "Probes that may not be fragmented pass up to one size and not above it, in a given direction, with small"
            " ones as a control."
        ),
        decoys=(
            "A peer that does not answer echo at all, at any size.",
            "Random loss: it does not depend on the size.",
        ),
        remedy=(
            "Raise the MTU of the link, or lower that of the hosts' devices to what passes; set the MTU of overlay"
            " networks 50 bytes lower (more when encrypted)."
        ),
        affects=("swarm join", "overlay data", "calico data", "host traffic"),
        refs=("moby#24906", "moby#36689", "calico#2141"),
    ),
    CauseKind(
        code="underlay.mtu-blackhole",
        parent="underlay.mtu",
        title="Large packets vanish on the path, and no ICMP says so",
        meaning=(
            "A link on the way drops packets that are too large and sends no ICMP error, so the hosts never learn to"
            " send smaller ones. Connections open and then hang at the first full packet. A swarm join times out after"
            " 20 seconds although the port is open, and the node may be listed as Ready at the same time."
        ),
        object_kinds=("segment", "device"),
        evidence=(
            "A sweep of sizes with a control: large probes get neither an answer nor an ICMP error. Where echo is"
            " filtered, a padded TLS hello shows the same."
        ),
        decoys=(
            'A smaller MTU with "fragmentation needed" coming back: the hosts adapt.',
            "A slow server: then every size is slow.",
        ),
        remedy=(
            "Set the hosts' device to the size that passes, or repair the link; let ICMP type 3 code 4 through. As a"
            " stopgap switch on net.ipv4.tcp_mtu_probing."
        ),
        affects=("swarm join", "swarm control", "overlay data", "calico data", "host traffic"),
        refs=("moby#45428", "calico#7651", "calico#12432"),
    ),
    CauseKind(
        code="underlay.flow-hash",
        parent="underlay.loss",
        title="Some connections die and others do not, by their source port",
        meaning=(
            "One member of a bundle of links, or one of several equal routes, is dead. Each flow is bound to a member"
            " by its addresses and ports, so a share of the connections never works and the rest always does."
        ),
        object_kinds=("segment",),
        evidence="Loss depends on the tuple of the probe, and the same tuples fail again when they are repeated.",
        decoys=(
            "Loss at random: other tuples fail each time.",
            "One dead backend behind a virtual IP: that goes by turns, not by source port.",
        ),
        remedy="Find and disable the dead member of the bundle or the dead route; the report gives tuples that fail.",
        affects=("swarm join", "overlay data", "calico data", "host traffic"),
    ),
    CauseKind(
        code="underlay.loss",
        title="The path loses packets",
        meaning=(
            "A share of the packets is lost at random in one direction. Nodes of a swarm flap between Ready and Down,"
            " names come late, transfers are slow."
        ),
        object_kinds=("segment",),
        evidence="Gaps in the sequence numbers at the receiver, with a rate, a direction and its confidence interval.",
        decoys=(
            "Answers that are rate-limited by the peer (ICMP): the requests arrived.",
            "A receiver that was too slow to read: its own drop counters say so.",
        ),
        remedy="Look for errors on the cards, the cable and the switch ports of that direction, and for a full link.",
        affects=("swarm control", "service names", "overlay data", "calico data", "host traffic"),
        refs=("moby#32195", "moby#35277"),
    ),
    CauseKind(
        code="underlay.nat",
        title="An address is translated between the hosts",
        meaning=(
            "The receiver sees another source address than the sender has. Swarm and Calico exchange addresses and"
            " expect packets to come from them, so answers and tunnels go astray. Where a rule of the sender itself does"
            " it, the packets leave its device with that address, and it is that host's."
        ),
        object_kinds=("address", "segment"),
        evidence=(
            "The receiver reports another source address than the sender used; the sender's device tells whether it was"
            " changed before it left."
        ),
        decoys=(
            "A host with several addresses that chose another one of its own: nothing was translated.",
            "Docker's masquerading of containers on the way out.",
        ),
        remedy=(
            "Let the nodes reach each other without translation (routing or a VPN), and advertise addresses that work"
            " from every node."
        ),
        affects=("swarm control", "service names", "overlay data", "calico data"),
        refs=("moby#31677", "moby#31583", "moby#27647"),
    ),
    CauseKind(
        code="underlay.duplicate-address",
        title="Two machines use the same address",
        meaning=(
            "Two machines answer for one address. Packets go to one or the other as their ARP answers race; connections"
            " break at random."
        ),
        object_kinds=("address",),
        evidence="Two different hardware addresses answer for the address, or two agents both claim it as their own.",
        decoys=(
            "A virtual address that moved (keepalived): only one holder at a time.",
            "Proxy ARP of a router: the second answer comes from its hardware address.",
        ),
        remedy="Give one of the two another address, then clear the neighbour entries of the hosts around.",
        affects=("swarm join", "overlay data", "calico data", "host traffic"),
    ),
    CauseKind(
        code="underlay.asymmetric",
        title="Packets come back on another path than they went out",
        meaning=(
            "The two directions use different devices or routers. By itself that is allowed; strict reverse-path"
            " filters and stateful firewalls on one of the paths then drop packets."
        ),
        object_kinds=("segment", "route"),
        evidence="Captures at both ends show the outgoing and the returning packet on different devices.",
        decoys=(
            "Several equal routes that both work in both directions.",
            "Encapsulated traffic that is seen on the tunnel one way and on the card the other.",
        ),
        remedy="Correct the route of one side so that answers leave where requests came in.",
        affects=("overlay data", "calico data", "host traffic"),
        refs=("calico#9138",),
    ),
    CauseKind(
        code="underlay.checksum-offload",
        title="Segments that the kernel makes arrive with a wrong checksum",
        meaning=(
            "A network card or its driver computes the checksum of encapsulated packets wrongly. Ping works, TCP does"
            " not: every segment is dropped by the receiver's kernel, and nothing is logged."
        ),
        object_kinds=("device",),
        evidence=(
            "Probes that carry no payload of the kernel pass; segments that the kernel makes arrive with a wrong"
            " checksum, and the receiver's InCsumErrors counter moves with them."
        ),
        decoys=(
            "A capture on the sender: there the checksum is not filled in yet, on every healthy host.",
            "Ping that passes and TCP that is filtered by port.",
        ),
        remedy=(
            "Switch the feature off on the sender's device (ethtool -K DEVICE tx-checksum-ip-generic off), make that"
            " permanent, and update the driver or the kernel."
        ),
        affects=("overlay data", "calico data"),
        refs=("moby#41775", "fedora-coreos-tracker#1372", "calico#3145", "calico#9433"),
    ),
)
