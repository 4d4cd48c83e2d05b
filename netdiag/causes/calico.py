"""Causes in Calico's records: the datastore, its nodes, its pools and its addresses."""

from netdiag.causes.kinds import CauseKind

KINDS = (
    CauseKind(
        code="calico.datastore",
        title="Calico's datastore cannot be used",
        meaning=(
            "etcd does not answer, refuses, shows an expired or foreign certificate, wants a login, has no leader, or"
            " lacks the v2 API. Commands hang and new containers fail, while old ones keep working."
        ),
        object_kinds=("datastore",),
        evidence="A connection attempt, stage by stage: TCP, TLS, login, API version, leader.",
        decoys=(
            "Variables that sudo took away: the endpoint is then not the one you meant.",
            "A member address learnt from the cluster that is unreachable behind a virtual IP.",
        ),
        remedy="Heal what the named stage says: start etcd, renew the certificate, correct the endpoint or the login.",
        affects=("calico control", "new containers"),
        refs=("calico#1659", "calicoctl#2181", "calico#1107"),
    ),
    CauseKind(
        code="calico.not-ready",
        title="Calico's datastore says that it is not ready",
        meaning=(
            "A key tells all agents to hold still, as during a migration or in a fresh etcd. Felix is alive and"
            " programs nothing."
        ),
        object_kinds=("etcd-key",),
        evidence="The key and its value in the datastore.",
        decoys=("A datastore of the other version beside it, whose key nobody reads.",),
        remedy="End the migration (calicoctl datastore migrate unlock), or set the key to true.",
        affects=("calico control", "new containers"),
        refs=("felix#1772", "calicoctl#1282"),
    ),
    CauseKind(
        code="calico.node-missing",
        title="The host is not registered as a Calico node",
        meaning="The datastore has no node for this host, so no other host makes a session or routes to it.",
        object_kinds=("node", "etcd-key"),
        evidence="The datastore's nodes are compared with the host's name and addresses.",
        decoys=("The same host under an older name: see the file nodename in /var/lib/calico.",),
        remedy=(
            "Register it: calicoctl node with --ip set to this host's address, or netdiag-agent with Calico enabled."
        ),
        affects=("calico control", "calico data"),
        refs=("calico#3097",),
    ),
    CauseKind(
        code="calico.node-address",
        title="The node is registered with the wrong address",
        meaning=(
            "Autodetection took a bridge, a virtual or a translated address. Peers connect to it in vain, or routes"
            " lead to another machine; half of the mesh is down."
        ),
        object_kinds=("node", "etcd-key"),
        evidence="The address in the datastore is not on the interface of the host that routes to its peers.",
        decoys=("A host with several addresses that are all reachable.",),
        remedy="Set the node's address by hand (IP or IP_AUTODETECTION_METHOD) and restart the agent.",
        affects=("calico control", "calico data"),
        refs=("calico#2483", "calico#5094", "calico#8607", "calicoctl#2027"),
    ),
    CauseKind(
        code="calico.node-duplicate",
        title="Two Calico nodes have the same address, or two hosts the same node",
        meaning=(
            "A cloned or renamed host, or a dead record that still holds the address. Sessions and routes flap between"
            " the two."
        ),
        object_kinds=("node", "etcd-key"),
        evidence="The datastore shows one address in two nodes, or one node whose address changes back and forth.",
        decoys=("A node that changed its address once.",),
        remedy="Give each host its own name and address, and delete the record that is not alive.",
        affects=("calico control", "calico data"),
        refs=("calicoctl#234", "calico#967", "calico#1568", "calicoctl#1194"),
    ),
    CauseKind(
        code="calico.pool-overlap",
        title="A Calico pool overlaps a network that is in use",
        meaning=(
            "The pool covers the hosts' own network, a Docker network, a VPN or another pool. Some machines become"
            " unreachable from containers, or from the hosts. The default pool 192.168.0.0/16 often does it."
        ),
        object_kinds=("pool", "subnet"),
        evidence="The pool is compared with the routes and addresses of every host and with Docker's networks.",
        decoys=(
            "The routes of the pool's own blocks.",
            "A Docker network of the Calico driver in its own pool.",
        ),
        remedy="Create another pool, disable the overlapping one, and recreate the containers.",
        affects=("calico data", "host traffic"),
        refs=("calico#1401", "calico#2252", "calico#8344"),
    ),
    CauseKind(
        code="calico.pool-disabled",
        title="The Calico pool is disabled",
        meaning="The pool gives out no addresses. New containers fail, old ones keep theirs.",
        object_kinds=("pool",),
        evidence="The pool's record in the datastore.",
        decoys=("A disabled pool beside an enabled one that the network uses.",),
        remedy="Enable the pool, or create the network from one that is.",
        affects=("new containers",),
    ),
    CauseKind(
        code="calico.pool-exhausted",
        title="The Calico pool has no free addresses",
        meaning=(
            "All blocks are taken. A block of 64 addresses belongs to a host, so a small pool is used up by few"
            ' containers on many hosts. New containers fail with "no more IPs".'
        ),
        object_kinds=("pool",),
        evidence="The blocks and allocations in the datastore, against the size of the pool.",
        decoys=("Addresses that no container holds: see calico.leaked-address.",),
        remedy="Release leaked addresses, add a pool, or use smaller blocks.",
        affects=("new containers",),
        refs=("calico#5339", "cni-plugin#920", "calico#5044"),
    ),
    CauseKind(
        code="calico.borrowed-route",
        parent="calico.route-missing",
        title="A borrowed address has no route of its own",
        meaning=(
            "A container has an address out of another host's block. It needs a route for itself everywhere; without it"
            " its packets go to the owner of the block and end there."
        ),
        object_kinds=("route", "address"),
        evidence="The allocation's host differs from the block's, and no host route for it exists at the peers.",
        decoys=("An old allocation whose container is gone.",),
        remedy="Enlarge the pool or set strict affinity, and recreate the container.",
        affects=("calico data",),
        refs=("calico#3246", "calico#1138", "calico#5595", "calico#6160"),
    ),
    CauseKind(
        code="calico.affinity",
        title="A block's affinity is pending, stale or claimed twice",
        meaning=(
            "Two hosts believe that they own an address block, or a claim was never finished. One block is unreachable,"
            " or its traffic is split between two hosts."
        ),
        object_kinds=("block", "etcd-key"),
        evidence="The affinity's state and host in the datastore, against the block's own record.",
        decoys=("A claim that is only seconds old.",),
        remedy="Release the wrong affinity, delete dead nodes, and restart the agent that kept it.",
        affects=("calico data",),
        refs=("calico#6867", "calico#6486", "calico#4471"),
    ),
    CauseKind(
        code="calico.datastore-idle",
        parent="calico.datastore",
        title="A balancer forgets the idle connection between agent and etcd",
        meaning=(
            "The agent waits for changes on a connection that a balancer dropped without a word. It looks connected and"
            " hears nothing: new routes and policies come late or never, until a restart."
        ),
        object_kinds=("datastore", "socket"),
        evidence="The watch is silent while a fresh read through the same endpoint gives something else.",
        decoys=("A watch that is silent because nothing changed.",),
        remedy="Use keepalive below the balancer's idle time, or raise that time; restart the agent to heal it now.",
        affects=("calico control", "calico data"),
    ),
    CauseKind(
        code="calico.leaked-address",
        title="Addresses are allocated to containers that no longer exist",
        meaning="An engine or host died before it released them. They fill the pool until somebody does.",
        object_kinds=("address", "block"),
        evidence="Allocations in the datastore are compared with the containers of the host that holds them.",
        decoys=("A container that is being created.", "A host whose containers cannot be read now."),
        remedy="Release the addresses (calicoctl ipam release, or netdiag-agent's own release).",
        affects=("new containers",),
        refs=("calico#5339", "calico#3940"),
    ),
)
