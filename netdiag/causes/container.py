"""Causes in the container itself: its state, its sockets, its routes, its names."""

from netdiag.causes.kinds import CauseKind

KINDS = (
    CauseKind(
        code="container.not-running",
        title="The container is not running",
        meaning="The container that should answer is stopped, paused or restarting again and again.",
        object_kinds=("container", "service"),
        evidence="The engine's state of the container; of a service, a manager's list of its tasks.",
        decoys=("Another task of the same service that replaced it and runs.",),
        remedy="Start it, and read its log for the reason it ended.",
        affects=("container traffic",),
    ),
    CauseKind(
        code="container.not-attached",
        title="The container is not attached to the network",
        meaning=(
            "The container runs, but has no endpoint on the network that both sides should share. Its name does not"
            " resolve there."
        ),
        object_kinds=("container",),
        evidence="The engine's list of the container's networks.",
        decoys=("A network of the same name and another id, left from an earlier time.",),
        remedy="docker network connect NETWORK CONTAINER; for a service, add the network to it.",
        affects=("container traffic", "service names"),
        refs=("moby#25456", "moby#36197"),
    ),
    CauseKind(
        code="container.no-listener",
        title="Nobody listens on the port",
        meaning='The packet arrives and the kernel answers with a reset: "connection refused", at once.',
        object_kinds=("socket", "container"),
        evidence="The reset comes from the container's own stack, and its socket list has no listener on the port.",
        decoys=(
            "A firewall that rejects with a reset.",
            "A server that is still starting.",
        ),
        remedy="Start the server, or use the port that it listens on; the report lists those.",
        affects=("container traffic",),
    ),
    CauseKind(
        code="container.loopback-listener",
        parent="container.no-listener",
        title="The server listens on the loopback address only",
        meaning=(
            "The server is up but bound to 127.0.0.1 or ::1, so that only its own container reaches it. From inside it"
            " looks healthy, from outside it refuses."
        ),
        object_kinds=("socket", "container"),
        evidence=(
            "The socket list shows a listener on the port with a loopback address and none with another; or the engine"
            " publishes the port on a loopback address only."
        ),
        decoys=("A second listener on all addresses.",),
        remedy="Let the server listen on 0.0.0.0 (or the container's address) in its configuration, or publish the port on all.",
        affects=("container traffic",),
    ),
    CauseKind(
        code="container.backlog",
        title="The server does not accept its connections fast enough",
        meaning=(
            "The queue of connections that wait to be accepted is full, and the kernel drops new ones. Clients time out"
            " now and then, or all of them when the server hangs."
        ),
        object_kinds=("socket",),
        evidence="The queue of the socket is at its limit and the kernel's counters of listen drops move.",
        decoys=("Old listen drops that do not move now.",),
        remedy="Look why the server does not accept (busy, hung, out of files); raise its backlog and somaxconn.",
        affects=("container traffic",),
    ),
    CauseKind(
        code="container.route",
        title="The container has no right route",
        meaning=(
            "In the container's namespace the route to the peer or the default route is missing or points elsewhere."
            " The container cannot send, or answers on another way."
        ),
        object_kinds=("route",),
        evidence="A route lookup in the container's namespace.",
        decoys=("The default route on docker_gwbridge: it is right for containers of an overlay.",),
        remedy="Restart the container; set the route in its namespace to try.",
        affects=("container traffic", "calico data"),
        refs=("calico#3270",),
    ),
    CauseKind(
        code="container.dns",
        title="The container's name server gives no right answer",
        meaning=(
            "The container asks a name server that does not know the name, does not answer, or gives an old address."
            " Connections by address work."
        ),
        object_kinds=("name",),
        evidence="The same question as the container's, sent from its namespace to its server, and the answer.",
        decoys=(
            "A name that exists on another network only.",
            "Gossip that is blocked: then all names of the other hosts are missing.",
        ),
        remedy="Correct the container's resolver; for names of services use the engine's own server (127.0.0.11).",
        affects=("service names",),
        refs=("moby#28836", "moby#30134"),
    ),
    CauseKind(
        code="service.slow-answer",
        title="The connection opens and the server is slow to answer",
        meaning=(
            "The network does its part: the connection is open. No first byte comes, or the exchange stops after it. A"
            " server that looks names up first (sshd), or a key exchange that needs large packets, does that."
        ),
        object_kinds=("socket", "service", "stage"),
        evidence="The connection is followed past the handshake: connected, first byte, first full segment each way.",
        decoys=(
            "Large packets that are lost: see underlay.mtu-blackhole.",
            "A proxy or virtual IP that opens the connection before the server does.",
        ),
        remedy="Look at the server for what it waits for; for sshd, a reverse lookup that hangs (UseDNS no).",
        affects=("container traffic",),
    ),
)
