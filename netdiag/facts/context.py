"""What a section's reader may know when it starts, and the helpers that all readers share."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from netdiag.facts.netlink import Decoded
from netdiag.model.engine import Engine
from netdiag.model.facts import HOST, Absence, AbsenceKind, FeatureState, Kernel, Link, Namespace, Section
from netdiag.model.wire import Answer, Gather, Request

T = TypeVar("T")
Row = TypeVar("Row")

LOG_WORDS = (
    "swarm",
    "cluster",
    "raft",
    "memberlist",
    "gossip",
    "networkdb",
    "overlay",
    "vxlan",
    "ipvs",
    "ip_vs",
    "ingress",
    "libnetwork",
    "sandbox",
    "x509",
    "certificate",
    "agent.",
    "manager",
    "dispatcher",
    "join",
    "session",
    "iptables",
    "firewall",
    "bridge",
    "peer",
    "node",
    "network",
)
"""Words of the engine's log lines that say something about swarm or networking."""


def keep_line(line: str) -> bool:
    """Whether a line of the engine's log is kept when the caller has no classes of its own."""
    lower = line.lower()
    return any(word in lower for word in LOG_WORDS)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator chose, and what only the requester's shell knows.

    Attributes:
        docker_socket: The engine's socket; None is the usual one.
        load_modules: Ask also what may load a kernel module (``--load-modules``).
        let_remember: Send a packet also where a rule would remember its addresses (``--let-remember``).
        etcd: ETCD_* variables of the shell, for the datastore of Calico; never its user or password.
        user: As which user and group attempts are made; None: as the source's own program, where that is known.
        keep: Which lines of the engine's log are kept.
    """

    docker_socket: str | None = None
    load_modules: bool = False
    let_remember: bool = False
    etcd: Mapping[str, str] = msgspec.field(default_factory=dict)
    user: tuple[int, int] | None = None
    keep: Callable[[str], bool] = keep_line

    def elsewhere(self) -> Options:
        """The same for another host: what this shell says of its own engine and datastore is not so there."""
        return msgspec.structs.replace(self, docker_socket=None, etcd={})


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What the sections that a reader waits for have found; empty or None where they found nothing."""

    options: Options = msgspec.field(default_factory=Options)
    namespaces: Mapping[str, Namespace] = msgspec.field(default_factory=dict)
    links: Mapping[str, tuple[Link, ...]] = msgspec.field(default_factory=dict)
    kernel: Kernel | None = None
    engine: Engine | None = None

    def devices(self, namespace: str) -> dict[int, str]:
        """Interface indexes of one namespace and their names."""
        return {link.index: link.name for link in self.links.get(namespace, ())}

    def present(self, feature: str) -> bool:
        """Whether a kernel feature is built in or loaded, so that using it loads nothing."""
        found = self.kernel.features.get(feature) if self.kernel is not None else None
        return found is not None and found.state in (FeatureState.BUILTIN, FeatureState.LOADED)


def absence(answer: Answer) -> Absence:
    """Why a request gave nothing."""
    if answer.error is None:
        return Absence(kind=AbsenceKind.FAILED, text="an answer without data")
    return Absence(kind=answer.error.kind, text=answer.error.text)


def missing(text: str) -> Absence:
    """What would tell does not exist on this host."""
    return Absence(kind=AbsenceKind.MISSING, text=text)


def dump_request(namespace: Namespace, kind: int, body: bytes, *, timeout_s: float = 3.0) -> Request:
    """One rtnetlink dump in a namespace."""
    params: dict[str, Any] = {"protocol": 0, "type": kind, "body": base64.b64encode(body).decode("ascii")}
    return Request("netlink-dump", within(namespace, params), timeout_s)


def within(namespace: Namespace, params: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a request, in a namespace; the participant's own needs no setns."""
    return params if namespace.id == HOST else {**params, "netns": namespace.path}


def files_request(globs: Sequence[str], *, timeout_s: float = 2.0, limit_bytes: int | None = None) -> Request:
    """The text of every file that matches."""
    params: dict[str, Any] = {"globs": list(globs)}
    if limit_bytes is not None:
        params["limit_bytes"] = limit_bytes
    return Request("files", params, timeout_s)


def texts(answer: Answer) -> dict[str, str]:
    """The files of a ``files`` answer; none when it failed."""
    found = answer.data.get("files") if answer.data else None
    return {str(path): str(text) for path, text in found.items()} if isinstance(found, dict) else {}


def each_namespace(
    context: Context,
    ask: Callable[[Namespace], Sequence[Request]],
    read: Callable[[Namespace, Sequence[Answer]], tuple[T | None, Absence | None]],
) -> Gather[Section[dict[str, T]]]:
    """One round that asks the same of every namespace. ``read`` gives a value, a reason, or both (damaged)."""
    plan = [(namespace, list(ask(namespace))) for namespace in context.namespaces.values()]
    answers = list((yield [request for _, requests in plan for request in requests]))
    values: dict[str, T] = {}
    partial: dict[str, Absence] = {}
    for namespace, requests in plan:
        own, answers = answers[: len(requests)], answers[len(requests) :]
        value, reason = read(namespace, own)
        if value is not None:
            values[namespace.id] = value
        if reason is not None:
            partial[namespace.id] = reason
    if not values:
        reason = (
            partial.get(HOST) or next(iter(partial.values()), None) or missing("no network namespace could be read")
        )
        return Section(absent=reason, partial=partial)
    return Section(value=values, partial=partial)


def dump_each(
    context: Context, kind: int, body: bytes, decode: Callable[[bytes, Mapping[int, str]], Decoded[Row]]
) -> Gather[Section[dict[str, tuple[Row, ...]]]]:
    """One dump in every namespace, decoded with the names of its devices."""

    def read(namespace: Namespace, answers: Sequence[Answer]) -> tuple[tuple[Row, ...] | None, Absence | None]:
        return read_dump(answers[0], lambda data: decode(data, context.devices(namespace.id)))

    return each_namespace(context, lambda namespace: [dump_request(namespace, kind, body)], read)


def read_dump(answer: Answer, decode: Callable[[bytes], Decoded[Row]]) -> tuple[tuple[Row, ...] | None, Absence | None]:
    """The rows of one dump, and what was wrong with it."""
    if answer.data is None:
        return None, absence(answer)
    decoded = decode(answer.data["messages"])
    if decoded.error:
        return decoded.rows, Absence(kind=AbsenceKind.FAILED, text=decoded.error)
    if answer.data.get("interrupted"):
        text = "the table kept changing while it was read: entries may be missing or twice"
        return decoded.rows, Absence(kind=AbsenceKind.FAILED, text=text)
    return decoded.rows, None
