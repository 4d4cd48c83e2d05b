"""Causes in the control plane of a swarm: joining, tokens, certificates, managers, tasks."""

from netdiag.causes.kinds import CauseKind

KINDS = (
    CauseKind(
        code="swarm.not-manager",
        title="What answers at the manager's address is not a swarm manager",
        meaning=(
            "Only managers listen on tcp/2377. The address is a worker's, the port is another one (2375 and 2376 are"
            " the Docker API, 7946 is gossip), or the manager listens on another interface. The join fails after 10"
            " seconds."
        ),
        object_kinds=("socket", "address"),
        evidence="The connection is refused, or what answers does not speak TLS or shows no manager's certificate.",
        decoys=(
            "A refusal that a firewall sends (REJECT with tcp-reset).",
            "A manager that is starting: try again before it is blamed.",
        ),
        remedy="Use the address of a manager: on any member, docker info lists them under Manager Addresses.",
        affects=("swarm join",),
        refs=("docker.machine#4064",),
    ),
    CauseKind(
        code="swarm.token",
        title="The join token does not fit this swarm",
        meaning=(
            "The token is malformed, belongs to another swarm, or was rotated since. A malformed one is refused at"
            ' once; one of another swarm fails after 10 seconds with "remote CA does not match fingerprint".'
        ),
        object_kinds=("token",),
        evidence=(
            "The token's form is wrong, or its digest is not that of the root certificate that the manager serves."
        ),
        decoys=(
            "A clock that is off: the message then speaks of a certificate's validity.",
            "A rotated secret with the right digest: only a manager can tell it.",
        ),
        remedy="Print the current token on a manager: docker swarm join-token worker. Copy it as a whole.",
        affects=("swarm join",),
    ),
    CauseKind(
        code="swarm.already-member",
        title="The node is already part of a swarm",
        meaning=(
            "The engine is a member, or a join that timed out still goes on in the background, or the state is in error"
            ' or locked. A new join is refused with "This node is already part of a swarm".'
        ),
        object_kinds=("engine",),
        evidence="The engine's own swarm state: active, pending, error or locked.",
        decoys=("Leftover files of an old swarm with the engine inactive: see swarm.stale-state.",),
        remedy=(
            "If it should join another swarm or the join hangs: docker swarm leave --force, then join again. If it is"
            " locked: docker swarm unlock. A manager that leaves weakens the quorum."
        ),
        affects=("swarm join",),
    ),
    CauseKind(
        code="swarm.certificate-clock",
        parent="host.clock",
        title="A certificate of the swarm is not valid at this host's time",
        meaning=(
            "This host's clock is before or after the window of the manager's or the root's certificate, or the"
            ' certificate has really expired. The join fails with "x509: certificate has expired or is not yet valid".'
        ),
        object_kinds=("certificate",),
        evidence="The window in the certificate that the manager shows, compared with this host's clock.",
        decoys=(
            "A certificate of another authority: see swarm.token and swarm.stale-state.",
            "An offset that is smaller than the certificate's back-dating.",
        ),
        remedy="Set the clock right on the host that is off. If the certificate expired: docker swarm ca --rotate.",
        affects=("swarm join", "swarm control"),
        refs=("classicswarm#2726", "moby#25112", "moby#24078"),
    ),
    CauseKind(
        code="swarm.port-taken",
        title="Another program holds a port that the engine needs",
        meaning=(
            "Every node listens on tcp and udp 7946, managers on tcp/2377 as well, and the kernel on the data path port."
            " The engine joins although 7946 is taken, and then no name of another host resolves."
        ),
        object_kinds=("socket",),
        evidence="The host's socket list shows a listener on the port that is neither the engine nor its VXLAN device.",
        decoys=(
            "The engine's own sockets, on a host that is a member or has a join under way.",
            "A listener on an address that the engine does not use.",
        ),
        remedy="Stop the program, or move it to another port; the data path port can be chosen when the swarm is made.",
        affects=("swarm join", "service names", "overlay data"),
    ),
    CauseKind(
        code="swarm.engine-version",
        title="The engine's version has a known defect, or does not fit the others",
        meaning=(
            "Some engine versions program forwarding entries wrongly, compute other IPsec numbers than their"
            " neighbours, or lose rules at a firewall reload. The report names the version and the defect."
        ),
        object_kinds=("engine",),
        evidence="The versions that the engines report, against the list of known defects.",
        decoys=("Different versions without a known defect between them: that is allowed while upgrading.",),
        remedy="Upgrade the engine to a version without the defect; one node at a time, drained first.",
        affects=("swarm join", "overlay data", "published ports"),
        refs=("moby#51798", "moby#49908", "moby#28493", "moby#39198"),
    ),
    CauseKind(
        code="swarm.engine-setting",
        title="A setting of the engine does not go with swarm mode",
        meaning=(
            "The engine refuses to be in a swarm with live-restore, and in most versions with the nftables firewall"
            " backend. On a member the engine then fails at its next start."
        ),
        object_kinds=("setting",),
        evidence="The engine reports the setting, or daemon.json holds it.",
        decoys=("The nftables backend in versions that allow it behind their feature flag.",),
        remedy="Take the setting out of /etc/docker/daemon.json and restart the engine.",
        affects=("swarm join", "swarm control"),
    ),
    CauseKind(
        code="swarm.advertise-address",
        title="The advertised address cannot work for the other nodes",
        meaning=(
            "A node tells the others one address, once, when it joins. If it is not local, not routable for them, has"
            " changed since, or is not the one the node sends from, the node looks Ready while names and containers"
            " fail."
        ),
        object_kinds=("address",),
        evidence=(
            "The address is not on this host, no route of the peers leads to it, or routing picks another source toward"
            " them."
        ),
        decoys=(
            "A node with several addresses that advertises the right one.",
            "A translated address that is symmetric and reachable from all nodes.",
        ),
        remedy="Leave, and join again with --advertise-addr set to the address that the other nodes reach.",
        affects=("swarm join", "service names", "overlay data"),
        refs=("moby#53004", "moby#37536", "moby#41043", "moby#31135"),
    ),
    CauseKind(
        code="swarm.address-pool",
        title="A range of the swarm's networks overlaps one that the hosts use",
        meaning=(
            "Overlay networks take their ranges from the swarm's pool, 10.0.0.0/8 unless set. Where a host has a route"
            " of its own into it, networks cannot be created or real machines become unreachable from containers."
        ),
        object_kinds=("subnet",),
        evidence="The pool or a network's range overlaps a route or address of a host.",
        decoys=(
            "The default route: it overlaps everything and means nothing.",
            "A wide pool of which no network uses the overlapping part yet: warn.",
        ),
        remedy=(
            "Create the swarm with --default-addr-pool outside the hosts' ranges; for one network, create it again with"
            " its own --subnet. default-address-pools in daemon.json does not count for overlay networks."
        ),
        affects=("new containers", "overlay data", "container traffic"),
        refs=("moby#48069", "moby#50011", "moby#21357", "for-linux#387"),
    ),
    CauseKind(
        code="swarm.gossip",
        title="The nodes do not hear each other's gossip on port 7946",
        meaning=(
            "Names and addresses of containers travel by gossip, on tcp and udp 7946. Without it a join succeeds and"
            " the node is Ready, but names do not resolve. With only udp missing they resolve up to 30 seconds late."
        ),
        object_kinds=("segment", "peer"),
        evidence="The peer lists of the nodes differ, and probes of 7946 say which protocol is lost.",
        decoys=(
            "A node without a task on the network: it is in no peer list, rightly.",
            "A list that was read in the first minute after a join.",
        ),
        remedy="Open tcp and udp 7946 between all nodes, both ways. It heals by itself within about a minute.",
        affects=("service names", "overlay data"),
        refs=("moby#29979", "moby#35688", "moby#30972", "moby#47728"),
    ),
    CauseKind(
        code="swarm.quorum",
        title="The swarm has too few managers to decide",
        meaning=(
            "More than half of the managers must reach each other. Without that, running tasks go on, but nothing can"
            " be joined, scheduled or changed; commands time out."
        ),
        object_kinds=("managers",),
        evidence="A manager says that the swarm has no leader, or fewer managers are reachable than are needed.",
        decoys=("One manager of three down: the swarm still decides.",),
        remedy=(
            "Bring the lost managers back. If they are gone for good: docker swarm init --force-new-cluster on one that"
            " is left, and promote others after that."
        ),
        affects=("swarm join", "swarm control", "new containers"),
        refs=("moby#33058",),
    ),
    CauseKind(
        code="swarm.image-missing",
        title="The node does not have the image that its tasks need",
        meaning=(
            "A service's image exists on another node only, or cannot be pulled here. Tasks on this node are rejected"
            ' with "No such image", and the scheduler tries again for ever.'
        ),
        object_kinds=("image",),
        evidence="The service wants the image, the node's image list lacks it, and the task's error says so.",
        decoys=(
            "An image that is still being pulled.",
            "A service whose constraints keep it off this node.",
        ),
        remedy=(
            "Push the image to a registry that all nodes reach and deploy with --with-registry-auth; or carry it over"
            " with docker save and docker load."
        ),
        affects=("new containers",),
        refs=("moby#31169", "moby#34351", "moby#25952"),
    ),
    CauseKind(
        code="swarm.image-differs",
        title="One tag names different images on different nodes",
        meaning=(
            "The same name and tag was built or pulled at different times. Tasks of one service then run different"
            " code, depending on the node."
        ),
        object_kinds=("image",),
        evidence="The image ids behind one tag differ between hosts of the same architecture.",
        decoys=("Different architectures: their ids differ rightly.",),
        remedy="Use one image everywhere: push it to a registry and deploy by digest.",
        affects=("new containers",),
    ),
    CauseKind(
        code="swarm.join-stage",
        title="The join hangs at one of its stages",
        meaning=(
            "A join goes through TCP, TLS, the root certificate, the node's certificate and the session. The report"
            " says how far this one came: what comes before works, what comes after was never tried."
        ),
        object_kinds=("stage",),
        evidence="The engine's swarm state, its node id and its log show the last stage that ended well.",
        decoys=('"Timeout was reached" by itself: it says nothing about the stage.',),
        remedy="Heal what the named stage needs, then docker swarm leave --force, and join again.",
        follows=True,
        affects=("swarm join",),
        refs=("moby#36382", "moby#39494", "moby#33058"),
    ),
    CauseKind(
        code="swarm.proxy",
        title="The engine would carry the join through a proxy",
        meaning=(
            "The engine has a proxy set and the manager's address is not exempt. Some versions send tcp/2377 to the"
            " proxy, which refuses it; the join fails although the port is open from a shell."
        ),
        object_kinds=("setting",),
        evidence="The engine's proxy settings and version, and the manager's address that no exemption covers.",
        decoys=(
            "A proxy in the shell's environment only: the engine does not see it.",
            "Versions that never use the proxy for the swarm.",
        ),
        remedy="Add the managers' addresses to the engine's no-proxy list and restart the engine.",
        affects=("swarm join",),
        refs=("moby#34825",),
    ),
    CauseKind(
        code="swarm.stale-node",
        title="The swarm lists dead records of a host",
        meaning=(
            "A host that left and joined again, or a join that failed half-way, leaves a node record behind: Down or"
            " Unknown, sometimes without a name. Commands by name become ambiguous."
        ),
        object_kinds=("node",),
        evidence="The node list has a dead record for a host that has a live one under another id.",
        decoys=("A host that is really down and will come back under the same id.",),
        remedy="On a manager: docker node rm with the id of the dead record.",
        affects=("swarm control",),
        refs=("swarmkit#1070", "swarmkit#1075"),
    ),
    CauseKind(
        code="swarm.stale-state",
        title="Files of an old swarm lie in the engine's directory",
        meaning=(
            "The swarm directory of the engine holds certificates or state of another swarm, as cloned machines have"
            ' them. A join then fails with "certificate signed by unknown authority".'
        ),
        object_kinds=("file",),
        evidence="Files below the engine's swarm directory, while the engine says it is in no swarm or in another.",
        decoys=("The directory of an active member: its files belong there.",),
        remedy=(
            "docker swarm leave --force. If files remain: stop the engine, move the swarm directory away, start it."
        ),
        affects=("swarm join",),
        refs=("moby#30393",),
    ),
    CauseKind(
        code="swarm.quorum-risk",
        parent="swarm.quorum",
        title="The planned change would put the swarm's quorum at risk",
        meaning=(
            "With two managers the loss of either stops the swarm, and a second manager that cannot be dialled back"
            " stops it at once. Joining one manager to one is the step that does it."
        ),
        object_kinds=("managers",),
        evidence="The number of managers before and after, and whether the new one can be dialled back.",
        decoys=("A worker that joins: it does not count.",),
        remedy="Join as a worker and promote later, two at a time, so that the number of managers is odd.",
        affects=("swarm control",),
        refs=("moby#26381",),
    ),
    CauseKind(
        code="swarm.not-rebalanced",
        title="A new node has no tasks yet",
        info=True,
        meaning=(
            "Swarm does not move running tasks to a node that joins. An empty new node is healthy: it gets tasks when"
            " services are created, scaled or updated."
        ),
        object_kinds=("service", "node"),
        evidence="The task list has no task of the service on the node, and no constraint forbids it.",
        decoys=("A node that rejects its tasks: see swarm.image-missing.",),
        remedy="If you want it spread now: docker service update --force SERVICE. That restarts its tasks.",
        affects=("new containers",),
    ),
)
