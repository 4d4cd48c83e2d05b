"""Causes in the packet filter and in the connection tracking of a host or a container."""

from netdiag.causes.kinds import CauseKind

KINDS = (
    CauseKind(
        code="firewall.rule",
        title="A firewall rule drops the packet",
        meaning=(
            "One rule of a host's packet filter decides against this packet. With DROP the sender hears nothing and"
            ' waits until it times out; with REJECT it is told "connection refused" or "no route to host" at once.'
            " The packet did reach the host: the network between the hosts is not at fault."
        ),
        object_kinds=("rule",),
        evidence=(
            "The kernel's trace of this very packet ends in the rule, or the rule's counter moves with the probes and"
            " only with them."
        ),
        decoys=(
            "A rule for the same port that matches other sources, interfaces or states.",
            "A dropping rule that stands behind one that accepts the packet.",
            "A dropping rule whose counter did not move.",
            "A REJECT of a router on the way: look at who sent the ICMP error.",
        ),
        remedy=(
            "Put one accepting rule for this protocol, port and source before the dropping rule, in the same backend"
            " and chain, and save it where this host keeps its rules. Do not flush the rules: Docker's own are among"
            " them."
        ),
        affects=("swarm join", "service names", "overlay data", "host traffic"),
        refs=("moby#33345", "moby#36199", "moby#27016", "moby#30972"),
    ),
    CauseKind(
        code="firewall.policy",
        title="The policy of a firewall chain drops the packet",
        meaning=(
            "No rule matches the packet, so the chain's policy decides, and the policy is to drop. The sender waits"
            " until it times out. Ports that have a rule of their own work, which makes the host look healthy."
        ),
        object_kinds=("policy",),
        evidence="The kernel's trace of this very packet ends in the policy of a base chain.",
        decoys=(
            "A last rule that drops everything: that is a rule, and it has a number.",
            "A dropping policy of a hook that this packet never passes (FORWARD, for a packet to the host itself).",
        ),
        remedy="Add one accepting rule for this protocol, port and source to the chain, and save it.",
        affects=("swarm join", "service names", "overlay data", "host traffic"),
    ),
    CauseKind(
        code="firewall.backend-split",
        parent="firewall.rule",
        title="Two firewall backends hold rules at one hook, and one of them drops the packet",
        meaning=(
            "The host has rules of the old iptables and of nf_tables, or of two tools, at the same hook. A packet must"
            " be accepted by both. An accepting rule that was added to one has no effect while the other drops."
        ),
        object_kinds=("rule", "policy"),
        evidence=(
            "Both backends hold rules at this hook, and the trace or the moving counter shows the one that decides."
        ),
        decoys=(
            "Empty chains with accepting policies in the other backend: they decide nothing.",
            "A warning of iptables about legacy tables alone proves no drop.",
        ),
        remedy=(
            "Accept the packet in the backend that drops it. Then move all rules to one backend (update-alternatives"
            " for iptables), restart Docker so that it writes there, and empty the other."
        ),
        affects=("swarm join", "service names", "overlay data", "host traffic"),
        refs=("moby#46636", "moby#42586", "calico#2322", "calico#8243"),
    ),
    CauseKind(
        code="firewall.docker-chains-missing",
        title="Chains or jumps that the Docker engine needs are gone",
        meaning=(
            "Something emptied or reloaded the firewall after the engine had started: firewalld, a configuration tool,"
            " iptables-restore. Published ports hang or are refused and containers lose their way out, while the engine"
            " and its containers look healthy."
        ),
        object_kinds=("chain", "rule"),
        evidence=(
            "The chains and jumps that follow from the engine's networks and published ports are compared with the"
            " rules that run, and one is missing."
        ),
        decoys=(
            "An engine that was told to leave the firewall alone (iptables: false).",
            "Newer engines keep jumps below DOCKER-FORWARD instead of FORWARD.",
        ),
        remedy=(
            "Restart the Docker engine; it writes its chains again. Then stop what flushes: reload rules with a tool"
            " that keeps foreign chains, or restart Docker after each reload."
        ),
        affects=("published ports", "container traffic"),
        refs=("firewalld#503", "firehol#381", "moby#35043", "moby#15254", "moby#50443"),
    ),
    CauseKind(
        code="firewall.forward-policy",
        parent="firewall.policy",
        title="The FORWARD policy drops a flow that nothing accepts",
        meaning=(
            "The engine sets the policy of FORWARD to DROP when it switches on forwarding. Flows that Docker does not"
            " know, such as routed Calico traffic or virtual machines, then vanish on this host. Overlay traffic"
            " between hosts does not pass FORWARD and is not affected."
        ),
        object_kinds=("policy",),
        evidence="The kernel's trace of a forwarded packet ends in the policy of FORWARD.",
        decoys=(
            "A DROP policy with an accepting rule for the flow before it.",
            "Overlay packets between hosts: they pass INPUT and OUTPUT.",
        ),
        remedy=(
            "Accept the flow in DOCKER-USER (both directions), and save the rule. Do not set the policy to ACCEPT: the"
            " engine sets it back."
        ),
        affects=("calico data", "container traffic", "published ports"),
        refs=("moby#39439", "moby#28257", "calico#2230", "calico#7727"),
    ),
    CauseKind(
        code="firewall.calico-source",
        parent="firewall.rule",
        title="Calico's own rule drops encapsulated packets of an unknown node",
        meaning=(
            "Calico accepts encapsulated packets only from addresses of nodes that it knows. The sender uses another"
            " address: another network card, a translated address, or a node that was registered wrongly. Packets"
            " arrive at the host and never come out of the tunnel."
        ),
        object_kinds=("rule",),
        evidence=(
            "The trace ends in the cali rule for packets from hosts that are not Calico's, and the outer source is in"
            " no node's record."
        ),
        decoys=(
            "A node whose address set is only late: compare again after a few seconds.",
            "A Docker overlay on the same UDP port: Calico's rule drops that as well, whatever its VNI.",
        ),
        remedy=(
            "Register the sender with the address that it really sends from, or make it send from the registered one."
        ),
        affects=("calico data", "overlay data"),
        refs=("calico#4297", "calico#4456", "calico#3665", "calico#6752", "felix#1943"),
    ),
    CauseKind(
        code="firewall.container",
        parent="firewall.rule",
        title="A firewall rule inside the container drops the packet",
        meaning=(
            "The container has a packet filter of its own in its network namespace. The packet reaches the container"
            " and dies there; rules of the host do not show it."
        ),
        object_kinds=("rule", "policy"),
        evidence="The kernel's trace inside the container's namespace ends there.",
        decoys=(
            "Rules that the engine itself writes there for published ports and for its name server.",
            "A process that does not listen: that answers with a reset.",
        ),
        remedy="Change the rules where the image or its start script sets them; change them in the namespace to try.",
        affects=("container traffic", "overlay data"),
    ),
    CauseKind(
        code="firewall.not-persistent",
        title="The running firewall differs from the saved one",
        meaning=(
            "A rule runs and is not saved, or is saved and does not run. What works now stops at the next reload or"
            " boot; or what was repaired by hand comes back. The report says which of the two it is."
        ),
        object_kinds=("rule", "policy", "file"),
        evidence=(
            "The running rules are compared with the saved ones that the enabled firewall service of this host loads."
        ),
        decoys=(
            "Rules that Docker, Calico or fail2ban write at their own start: nobody saves them.",
            "A saved file of a service that is not enabled.",
        ),
        remedy="Save the rule with the tool that loads it at boot, or remove it there.",
        affects=("swarm join", "service names", "overlay data", "host traffic"),
    ),
    CauseKind(
        code="firewall.near-miss",
        title="A rule was meant to accept this packet and does not match it",
        meaning=(
            "Somebody opened something, but not this: tcp for udp, another port, the wrong zone, FORWARD or DOCKER-USER"
            " for a packet to the host itself, behind the rule that drops, or in the other backend. It explains why"
            ' "the port is open" and the packet still dies.'
        ),
        object_kinds=("rule",),
        evidence="The rule is evaluated against the flow, and the part that does not match is named.",
        decoys=(
            "An accepting rule for another service that only resembles this one.",
            "A rule that matches and whose packet is dropped later, by another hook or backend.",
        ),
        remedy="Correct the rule in the part that does not match, and take the wrong one away.",
        affects=("swarm join", "service names", "overlay data", "host traffic"),
        refs=("moby#34939",),
    ),
    CauseKind(
        code="conntrack.full",
        title="The connection tracking table is full",
        meaning=(
            "The kernel cannot remember another connection and drops the first packet of new ones. Old connections go"
            " on. It comes and goes with load, on all ports of the host alike."
        ),
        object_kinds=("conntrack",),
        evidence=(
            "The count is at its maximum, and the counter of failed inserts or drops moves while the probes are sent."
        ),
        decoys=(
            "A high count that is below the maximum.",
            "Old drop counters that do not move now.",
        ),
        remedy=(
            "Raise net.netfilter.nf_conntrack_max (and the hash size), make it permanent, then find what opens so many"
            " connections."
        ),
        affects=("host traffic", "container traffic", "published ports", "swarm join"),
        refs=("calico#7901", "calico#4511"),
    ),
    CauseKind(
        code="conntrack.invalid",
        parent="firewall.rule",
        title="A rule drops packets that connection tracking calls invalid, because the path is asymmetric",
        meaning=(
            "This host sees only one direction of the connection, so its tracking calls the packets invalid and a rule"
            " drops them. Connections are reset or hang after the first packets; ping works."
        ),
        object_kinds=("rule", "segment"),
        evidence=(
            "The trace ends in a rule that matches the state INVALID, and captures show the two directions on different"
            " paths."
        ),
        decoys=(
            "Late packets of closed connections: every busy host has a few.",
            "A rule for INVALID whose counter does not move with the probes.",
        ),
        remedy="Make both directions take the same path. Until then exempt this flow from the rule.",
        affects=("host traffic", "container traffic", "calico data"),
        refs=("felix#1248", "calico#8676", "calico#2866"),
    ),
)
