"""Causes in a host's kernel, its settings, its clock and its name."""

from netdiag.causes.kinds import CauseKind

KINDS = (
    CauseKind(
        code="kernel.missing-feature",
        title="The kernel lacks a feature that is needed",
        meaning=(
            "The running kernel has a part neither built in nor as a module that can be loaded: vxlan, ipip, ip_vs,"
            " esp, a match of the firewall. The engine often only logs it: services look healthy and their traffic goes"
            " nowhere."
        ),
        object_kinds=("feature",),
        evidence="The kernel's configuration lacks it and no module of this kernel has it, or creating it fails.",
        decoys=(
            "A module that is not loaded but can be: the engine loads it.",
            "A configuration file of another kernel than the running one.",
        ),
        remedy=(
            "Install the package with the remaining modules for this kernel (linux-modules-extra and the like), or boot"
            " a kernel that has the feature."
        ),
        affects=("overlay data", "virtual IPs", "published ports", "calico data"),
        refs=("moby#24005", "moby#26930", "calicoctl#346", "calico#7028", "felix#2083"),
    ),
    CauseKind(
        code="sysctl.ip-forward",
        title="The host does not forward packets",
        meaning=(
            "Forwarding is switched off, for all devices or for the one in question. Containers reach their own host"
            " and nothing behind it; routed traffic to containers ends here. A reload of sysctl files often does it."
        ),
        object_kinds=("sysctl",),
        evidence="The key is 0 and the counter of forwarded packets stands still while packets to forward arrive.",
        decoys=(
            "Overlay traffic: it ends on the host and is not forwarded by it.",
            "Forwarding off on a device that this packet does not pass.",
        ),
        remedy="Set net.ipv4.ip_forward to 1 and keep it in a file in /etc/sysctl.d that is read last.",
        affects=("container traffic", "published ports", "calico data"),
        refs=("felix#187", "calicoctl#536"),
    ),
    CauseKind(
        code="sysctl.rp-filter",
        title="The reverse-path filter drops the packet",
        meaning=(
            "The kernel would answer this source through another device than the packet came in on, and a strict"
            " reverse-path filter drops it without a word. The larger of the values of the device and of all counts."
        ),
        object_kinds=("sysctl",),
        evidence=(
            "The effective value is strict, the reverse route uses another device, and the kernel's reverse-path"
            " counter or drop reason moves with the probes."
        ),
        decoys=(
            "Value 2 (loose): it drops only sources that have no route at all.",
            "A strict filter on a device whose reverse route is the same device.",
        ),
        remedy="Correct the route back; or set rp_filter of the device and of all to 2, and make it permanent.",
        affects=("overlay data", "calico data", "host traffic"),
        refs=("calicoctl#1082", "felix#2082", "fedora-coreos-tracker#219"),
    ),
    CauseKind(
        code="sysctl.proxy-arp",
        title="The host does not answer ARP for the gateway of its containers",
        meaning=(
            "Calico containers use 169.254.1.1 as their gateway, and the host answers ARP for it only with proxy_arp on"
            " their device. With it off the container cannot send a single packet, not even to its host."
        ),
        object_kinds=("sysctl",),
        evidence="The container's ARP requests are seen on its device and stay unanswered, and proxy_arp is 0 there.",
        decoys=(
            "A host without a default route does not answer either, whatever proxy_arp says.",
            "arp_ignore on the device has the same effect: see sysctl.arp-ignore.",
        ),
        remedy="Set proxy_arp of the device to 1, and find what reset it (often a sysctl file for all devices).",
        affects=("calico data", "container traffic"),
        refs=("calico#3270", "calico#4186", "libnetwork-plugin#66"),
    ),
    CauseKind(
        code="host.clock",
        title="The clocks of two hosts differ too much",
        meaning=(
            "Certificates have a window of validity. A swarm's root certificate is dated five minutes back and a node's"
            " one hour; beyond that a join fails with certificate errors or hangs until it times out."
        ),
        object_kinds=("clock",),
        evidence="Exchanged time stamps give an offset that is larger than its own error and than the window.",
        decoys=(
            "Another time zone: clocks are compared in UTC.",
            "A small offset within the windows: warn about it, do not blame it.",
        ),
        remedy="Start time synchronisation (chrony, systemd-timesyncd) on the host that is off, and step its clock.",
        affects=("swarm join", "swarm control", "calico control"),
        refs=("classicswarm#2726", "moby#25112"),
    ),
    CauseKind(
        code="host.name-duplicate",
        title="Two hosts have the same name",
        meaning=(
            "Cloned machines keep their name, or nobody set one and both are called localhost. Commands that take a"
            " node's name are ambiguous; in Calico one host overwrites the record of the other and routes flap."
        ),
        object_kinds=("host",),
        evidence="Two live hosts with different identities report the same name.",
        decoys=(
            "The old record of a host that left and joined again: only one of the two is alive.",
            "A swarm itself tolerates equal names: it goes by node id.",
        ),
        remedy="Give each host its own name (hostnamectl set-hostname), then restart Docker and Calico there.",
        affects=("swarm control", "calico control"),
        refs=("calicoctl#234", "calico#967", "swarmkit#1075"),
    ),
    CauseKind(
        code="host.xdp-drop",
        title="An XDP program drops the packet before the kernel sees it",
        meaning=(
            "A program on the network device drops packets before captures and firewalls. tcpdump shows nothing, so the"
            " network between the hosts is blamed."
        ),
        object_kinds=("program", "device"),
        evidence=(
            "An XDP program is attached, packet sockets see nothing of the probe, and the device's own counters say"
            " that it arrived."
        ),
        decoys=(
            "An XDP program that passes everything, as load balancers attach it.",
            "A packet that never arrived: then the device's counters stand still.",
        ),
        remedy="Ask whose program it is and correct its rules; detach it (ip link set DEVICE xdp off) to prove it.",
        affects=("swarm join", "overlay data", "calico data", "host traffic"),
    ),
    CauseKind(
        code="host.tc-drop",
        title="A tc filter drops the packet between the card and the firewall",
        meaning=(
            "A traffic-control filter on the device drops the packet after captures have seen it and before the"
            " firewall does. The packet is on the card, and no rule ever counts it."
        ),
        object_kinds=("filter", "device"),
        evidence=(
            "A filter is attached there, and its hook's drops are counted with the packets; or a program at TCX, and what is"
            " counted at the card is not counted by IP behind it."
        ),
        decoys=(
            "A filter that only shapes or marks.",
            "A drop in a raw or mangle chain: the trace shows that.",
        ),
        remedy="Ask whose filter it is and correct it; delete it (tc filter del; bpftool for TCX) to prove it.",
        affects=("swarm join", "overlay data", "calico data", "host traffic"),
    ),
    CauseKind(
        code="sysctl.arp-ignore",
        title="The host does not answer ARP for its own address on this device",
        meaning=(
            "arp_ignore keeps a host from answering for addresses of other devices. Real servers behind LVS need it; on"
            " the wrong device the host becomes unreachable for its neighbours."
        ),
        object_kinds=("sysctl",),
        evidence="ARP requests for the address are seen on the device and stay unanswered, and the value explains it.",
        decoys=(
            "A real server that rightly keeps silent about the virtual address.",
            "A wrong VLAN: then the requests are not seen either.",
        ),
        remedy="Set arp_ignore only on the devices that need it, and correct the file that sets it for all.",
        affects=("host traffic", "swarm join", "calico data"),
        refs=("calico#8689",),
    ),
)
