"""What each finding of a diagnosis means: its page of ``netdiag explain``."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of finding; as `netdiag.checks.context.Check`, which a diagnosis has no need to run."""

    id: str
    title: str
    explains: str
    remedy: str


PAGES: Mapping[str, Page] = {
    page.id: page
    for page in (
        Page(
            id="path.attempt",
            title="What the flow itself meets",
            explains="One attempt from the source's own network namespace, as the user's program makes it.",
            remedy="See the cause.",
        ),
        Page(
            id="path.name",
            title="What the destination's name means to the source",
            explains=(
                "The name is looked up as the container does it: in its own hosts file, then with the name server of its"
                " own resolv.conf, from its network namespace. The answer is compared with what the engine knows."
            ),
            remedy="Correct the container's resolver or hosts file; for services the engine's own server is 127.0.0.11.",
        ),
        Page(
            id="path.ends",
            title="An end that is not as it must be",
            explains=(
                "A host that cannot be asked takes no part: only this side of the flow is seen. Between a container that does"
                " not run, has no route, or is in no network of the other's, and the other end there is no way to try."
            ),
            remedy="Name a way to the host with --via, or diagnose there; for a container see the cause.",
        ),
        Page(
            id="path.addresses",
            title="Another address of the destination's name",
            explains=(
                "A name may have several addresses, of which a program takes any, or one after the other. The rest is tried"
                " beside the one that is explained; one that cannot be sent to at all is left out, as programs leave it."
            ),
            remedy="Take the address out of the name, or diagnose the flow to it.",
        ),
        Page(
            id="path.virtual-ip",
            title="A service's virtual IP",
            explains=(
                "The own host's load balancer has the address and answers a ping to it, whatever becomes of the tasks. The"
                " tasks behind it are tried at their own addresses, and the virtual IP at the port in question."
            ),
            remedy="Look at the tasks; see overlay.ipvs where they answer and the virtual IP does not.",
        ),
        Page(
            id="path.task",
            title="Another task of the service",
            explains="All tasks are tried at once; the first that does not answer is explained, the others are listed.",
            remedy="Diagnose the flow to this task by its name.",
        ),
        Page(
            id="path.loss",
            title="Where the flow is lost",
            explains=(
                "The attempt is watched at every place between the two ends. The last place where it was seen and the"
                " next one where it was not are the ends of the gap; filters, entries and listeners there are asked."
            ),
            remedy="Run the command of the cause on the host that it names, then diagnose again.",
        ),
        Page(
            id="path.ahead",
            title="What the flow would meet next",
            explains=(
                "Filters behind the loss, and those on a tunnel's way back, are asked with packets of the same kind. They"
                " would stop the flow once it is no longer lost before."
            ),
            remedy="Heal it together with what was found before it.",
        ),
        Page(
            id="path.filters",
            title="What the filters on the way say",
            explains=(
                "A datagram is not sent to a port of somebody else's unless it is asked for. The kernels of both hosts are"
                " asked instead, with packets that reach nobody, what their filters would do with one."
            ),
            remedy="Nothing, where they let it through; --send-payload tries it for real.",
        ),
        Page(
            id="path.another",
            title="Somebody else answers",
            explains=(
                "The attempt is answered, and nothing of it came to the destination: a program of the host stands where"
                " address translation should lead on to the container."
            ),
            remedy="See the cause; ss -lntp on that host shows who listens on the port.",
        ),
        Page(
            id="path.user",
            title="Filters that ask whose a packet is",
            explains=(
                "The attempt is made as the container's first process is run, and as root from a host. It passes, and a rule"
                " where it begins decides by user or group (owner, meta skuid): another user's program may meet another"
                " verdict."
            ),
            remedy="Diagnose it with --user UID, the user of the program that cannot connect.",
        ),
        Page(
            id="path.clock",
            title="The clocks of the two hosts",
            explains=(
                "With --code both sides send and watch at agreed times, each by its own clock. When a marked packet came"
                " is compared with when it was due."
            ),
            remedy="Set both clocks (chronyc makestep, timedatectl set-ntp true).",
        ),
        Page(
            id="path.turns",
            title="Two rounds that ended differently",
            explains="With --code the attempt is made twice. One that passes only sometimes is lost by chance or by turns.",
            remedy="Diagnose it again, more than once; a loss that depends on the source port is one of a bundle's members.",
        ),
        Page(
            id="path.port",
            title="A port on which the destination listens",
            explains="Without a port the echo comes first, then every tcp port on which the destination listens (8 at most).",
            remedy="Diagnose the flow to this port.",
        ),
        Page(
            id="path.sizes",
            title="Up to which size packets pass",
            explains=(
                "Echoes of growing size with DF set, from both ends, up to the MTU of the end's own device; and between the"
                " hosts, seen arriving at the other network card, in two kinds and each way by itself."
            ),
            remedy="Find the device or path with the smaller MTU; lower the network's MTU to what passes.",
        ),
        Page(
            id="path.between",
            title="What the network between the hosts does",
            explains=(
                "Numbered packets of the flow's own kind go between the two hosts, from 48 source ports and four times each,"
                " with echoes beside them, and are counted at both network cards. Where some are lost, the same ports are"
                " tried again: ports that never get through are told from loss at random. This is done where nothing on"
                " either host explains a loss, where the first try was not answered, and without a port."
            ),
            remedy="See the cause. One packet that is lost by chance has none.",
        ),
        Page(
            id="path.way",
            title="The flow passes",
            explains="Requests and answers were seen at every place that could be watched.",
            remedy="Nothing: it works now.",
        ),
        Page(
            id="path.served",
            title="The server takes its time",
            explains=(
                "A connection that opens is followed: whether the program accepts it, and when the first byte comes. Nothing"
                " is sent, so that only a program whose protocol lets it speak first (ssh, smtp and the like) is judged by"
                " its silence; one that does not even accept the connection is, whatever it speaks."
            ),
            remedy="Look at what the program waits for: its name server, its files, a lock.",
        ),
        Page(
            id="path.entries",
            title="Entries of the overlay are as the engine knows them",
            explains=(
                "A missing entry is made up for by what the other side sends first, so that it works now and not always."
            ),
            remedy="Set the entry, or restart the task on the other host.",
        ),
    )
}
"""By the id that findings carry."""
