"""What a server does with a connection that the network has opened: whether it accepts it, and speaks; pure."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import msgspec

from netdiag.causes import cause
from netdiag.facts.sockets import Connection
from netdiag.model.facts import Facts, Socket
from netdiag.model.found import Found
from netdiag.model.path import Way
from netdiag.model.report import Cause, Confidence, Evidence, State, Step, Subject
from netdiag.path.kernel_drops import Scene
from netdiag.path.listening import takes

_OVERFLOWS, _REQUESTS_FULL = "TcpExt.ListenOverflows", "TcpExt.TCPReqQFullDrop"
_GREETING_PORTS = {
    21: "FTP",
    22: "SSH",
    25: "SMTP",
    110: "POP3",
    119: "NNTP",
    143: "IMAP",
    587: "SMTP",
    3306: "MySQL",
    5900: "VNC",
}
"""Ports whose protocols begin with the server's words (RFC 959, 4253, 5321, 1939, 3977, 9051; MySQL; RFC 6143)."""
_GREETING_PROGRAMS = {
    **dict.fromkeys(("sshd", "dropbear"), "SSH"),
    **dict.fromkeys(("vsftpd", "proftpd", "pure-ftpd"), "FTP"),
    **dict.fromkeys(("smtpd", "exim", "exim4", "sendmail"), "SMTP"),
    **dict.fromkeys(("mysqld", "mariadbd"), "MySQL"),
    **dict.fromkeys(("dovecot", "Xvnc"), ""),
}
_SILENT_PROGRAMS = frozenset(
    (
        *("httpd", "nginx", "apache2", "caddy", "haproxy", "envoy", "traefik", "lighttpd", "docker-proxy", "dockerd"),
        *("postgres", "redis-server", "memcached", "mongod", "etcd", "bird", "java"),
    )
)
"""Programs that wait for their clients to speak, whatever the port."""
SLOW_US = 1_000_000
"""From when on a first byte is late: a server that has nothing to look up sends it in milliseconds."""


class Speaks(enum.Enum):
    """Who begins, in the protocol of a server."""

    SERVER = "server"
    CLIENT = "client"
    UNKNOWN = "unknown"


class Followed(msgspec.Struct, frozen=True, kw_only=True):
    """A connection past its handshake.

    Attributes:
        waited_s: How long the first byte was waited for.
        first_byte_us: When it came; None where none did.
        closed: The server ended the connection instead.
        source_port: From where it was made.
        held: The connection on the server's side, shortly before its end; None where it was not found.
    """

    waited_s: float
    first_byte_us: int | None = None
    closed: bool = False
    source_port: int = 0
    held: Connection | None = None

    @property
    def unaccepted(self) -> bool:
        """Whether the kernel has opened it, and the program has not taken it."""
        return self.held is not None and self.held.state == "established" and not self.held.accepted

    @property
    def silent(self) -> bool:
        """Whether nothing came of it at all."""
        return self.first_byte_us is None and not self.closed


def held_by(rows: Sequence[Connection], way: Way, source_port: int) -> Connection | None:
    """The server's side of a connection; where its port was translated on the way, none is told."""
    fitting = [row for row in rows if (row.port, row.peer_port) == (way.end_port, source_port)]
    return fitting[0] if len(fitting) == 1 else None


def listener_of(facts: Facts, way: Way) -> Socket | None:
    """Who listens where a flow ends; None for nobody, or where that is not known."""
    rows = (facts.sockets.value or {}).get(way.destination.namespace, ())
    mine = [row for row in rows if (row.port, row.protocol) == (way.end_port, "tcp")]
    return next((row for row in mine if takes(row.address, way.destination.address)), None)


def speaks(way: Way, listener: Socket | None) -> tuple[Speaks, str]:
    """Who begins, as far as the program and the port tell, and the protocol's name."""
    program = listener.process if listener is not None else ""
    if program in _GREETING_PROGRAMS:
        return Speaks.SERVER, _GREETING_PROGRAMS[program]
    if program in _SILENT_PROGRAMS:
        return Speaks.CLIENT, ""
    name = _GREETING_PORTS.get(way.end_port or 0, "")
    return (Speaks.SERVER, name) if name else (Speaks.UNKNOWN, "")


def served_found(way: Way, followed: Followed, listener: Socket | None) -> Found | None:
    """What is to be said of a connection that opened; None where nothing is.

    A server that waits for its client is not slow: only one that has not even accepted the connection is, whatever it
    speaks, and one whose protocol lets it begin.
    """
    one = slow_cause(way, followed, listener)
    if one is None:
        return None
    return Found(
        check="path.served",
        state=State.FAIL,
        subject=Subject(host=way.destination.host, container=way.destination.container or None),
        summary=f"the connection is open, and the server is slow: {one.object['problem']}",
        evidence=one.evidence,
        cause=one,
        next=(
            Step(
                host=way.destination.host,
                command=f"cat /proc/{listener.pid}/wchan; ls -l /proc/{listener.pid}/fd",
                why=f"tells what {listener.process} (pid {listener.pid}) waits for",
            ),
        )
        if listener is not None and listener.pid is not None
        else (),
    )


def slow_cause(way: Way, followed: Followed, listener: Socket | None) -> Cause | None:
    """The stage in which a server keeps its client waiting; None where it does not, or nobody can tell."""
    begins, protocol = speaks(way, listener)
    who = f"{listener.process} (pid {listener.pid})" if listener is not None and listener.process else "the server"
    known = listener is not None and listener.process in _GREETING_PROGRAMS
    if followed.unaccepted and followed.silent:
        stage, problem = "accept", f"{who} has not accepted it within {followed.waited_s:g} s"
        sure = Confidence.PROVEN
    elif begins is not Speaks.SERVER:
        return None
    elif followed.silent:
        stage, problem = "first-byte", f"{who} said nothing within {followed.waited_s:g} s"
        sure = Confidence.PROVEN if known else Confidence.LIKELY
    elif followed.first_byte_us is not None and followed.first_byte_us >= SLOW_US:
        stage, problem = "first-byte", f"{who} said nothing for {followed.first_byte_us / 1e6:.1f} s"
        sure = Confidence.PROVEN
    else:
        return None
    begun = f" In {protocol or 'its protocol'} the server speaks first." if stage == "first-byte" else ""
    return cause(
        "service.slow-answer",
        host=way.destination.host,
        object={
            "kind": "stage",
            "stage": stage,
            "problem": problem,
            "address": way.destination.address,
            "port": way.end_port,
            "process": listener.process or None if listener is not None else None,
            "pid": listener.pid if listener is not None else None,
        },
        confidence=sure,
        explanation=(
            f"The connection to {way.destination.label()} {way.protocol}/{way.port} opens at once, so that the network"
            f" does its part; {problem}.{begun}"
        ),
        evidence=(Evidence("probe", f"connected; {problem}", {"first_byte_us": followed.first_byte_us}),),
    )


class Lookup(msgspec.Struct, frozen=True, kw_only=True):
    """What an sshd does with a client's address: who is asked for its name, and whether that server answers."""

    address: str
    server: str
    where: str


def lookup_found(way: Way, listener: Socket, lookup: Lookup) -> Found:
    """An sshd that greets at once, and asks for the client's name while it logs in: of a server that does not answer.

    Computed from its settings and from the same question: nobody logs in to find out.
    """
    who = f"{listener.process} (pid {listener.pid})"
    problem = f"{who} looks up the name of {lookup.address}, and {lookup.server} does not answer"
    one = cause(
        "service.slow-answer",
        host=way.destination.host,
        object={
            "kind": "stage",
            "stage": "reverse-lookup",
            "problem": problem,
            "address": way.destination.address,
            "port": way.end_port,
            "process": listener.process,
            "pid": listener.pid,
            "server": lookup.server,
        },
        confidence=Confidence.LIKELY,
        explanation=(
            f"The connection to {way.destination.label()} {way.protocol}/{way.port} opens and the server greets at once. While"
            f" somebody logs in, {problem} (UseDNS yes, {lookup.where}): the log-in hangs until that is given up."
        ),
        evidence=(
            Evidence("setting", f"{who}: UseDNS yes ({lookup.where})"),
            Evidence(
                "dns", f"{way.destination.label()} asks {lookup.server} for the name of {lookup.address}: no answer"
            ),
        ),
    )
    return Found(
        check="path.served",
        state=State.FAIL,
        subject=Subject(host=way.destination.host, container=way.destination.container or None),
        summary=f"the connection is open, and a log-in will hang: {problem}",
        evidence=one.evidence,
        cause=one,
        next=(
            Step(
                host=way.destination.host,
                command="",
                why=f"mend the name server {lookup.server}, or set UseDNS no ({lookup.where}) and reload sshd",
            ),
        ),
    )


def backlog_cause(scene: Scene, listener: Socket | None) -> Cause | None:
    """Why a request that came to its server's kernel is not answered: a queue of the listener is full.

    Args:
        scene: Of a stop at the end of the way.
        listener: The socket, read behind the burst.
    """
    moved, way = scene.moved, scene.way
    if not scene.stop.asked or way.protocol != "tcp" or listener is None:
        return None
    accepting = moved.follows(_OVERFLOWS)
    opening = moved.follows(_REQUESTS_FULL)
    if accepting is not None and listener.queue:
        sure, queue, key = accepting, "accept", _OVERFLOWS
        what = f"{listener.queue} connections wait to be accepted, which is all that it takes"
    elif opening is not None:
        sure, queue, key = opening, "syn", _REQUESTS_FULL
        what = "the connections that are being opened are as many as it takes"
    else:
        return None
    who = f"{listener.process} (pid {listener.pid})" if listener.process else "the server"
    return cause(
        "container.backlog",
        host=scene.host.name,
        object={
            "kind": "socket",
            "address": listener.address,
            "port": listener.port,
            "protocol": "tcp",
            "process": listener.process or None,
            "pid": listener.pid,
            "queue": queue,
            "waiting": listener.queue,
        },
        confidence=sure,
        explanation=(
            f"In {way.destination.label()} {who} listens on tcp/{listener.port}, and {what}: the kernel drops every new"
            " one."
        ),
        evidence=(
            Evidence(
                "socket", f"{way.destination.label()}: {listener.address} port {listener.port}, queue {listener.queue}"
            ),
            Evidence("counter", moved.text(key)),
        ),
    )
