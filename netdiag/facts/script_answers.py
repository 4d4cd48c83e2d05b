"""A script's output as a participant: each request is answered from what was printed, or with the reason why not."""

from __future__ import annotations

import fnmatch
import gzip
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any

from netdiag.facts import script_engine
from netdiag.facts.script_text import Block, Recorded
from netdiag.model.facts import Absence, AbsenceKind
from netdiag.model.wire import Answer, Request, WireError

_NFT_PROTOCOL, _NFT_GETTABLE, _NFT_NEWTABLE = 12, 10 << 8 | 1, 10 << 8
_NFPROTO = {"inet": 1, "ip": 2, "arp": 3, "netdev": 5, "bridge": 7, "ip6": 10}
_TABLE = re.compile(r"^table (\w+) ", re.MULTILINE)
_NFT = "command nft -a list ruleset"
_SAVERS = (("iptables-save", 2), ("iptables-nft-save", 2), ("ip6tables-save", 10), ("ip6tables-nft-save", 10))
_MAGIC = re.compile(r"[*?\[]")


class ScriptHost:
    """Answers a participant's requests from a script's output; a carrier for `netdiag.host.drive`, but pure."""

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded
        self._values = _values(recorded.get("values"))
        self._verbs: dict[str, Callable[[dict[str, Any]], Answer]] = {
            "identity": self._identity,
            "clock": self._clock,
            "file": self._file,
            "files": self._files,
            "command": self._command,
            "namespaces": self._namespaces,
            "process-sockets": self._process_sockets,
            "netlink-dump": self._dump,
            "list-dir": self._list_dir,
            "docker-get": self._docker,
        }

    def ask(self, requests: Sequence[Request]) -> list[Answer]:
        """One answer for each request, in the same order."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Answer:
        verb = self._verbs.get(request.verb)
        return verb(request.params) if verb is not None else _not_given(request.verb)

    def _block(self, name: str, namespace: str = "") -> Block | Answer:
        """A block that has output; else the answer that says why not."""
        block = self._recorded.get(name, namespace)
        if block is None:
            return _not_given(name if not namespace else f"{name} in {namespace}")
        return _absent(block.absent) if block.absent is not None else block

    # --- the host ---

    def _identity(self, _params: dict[str, Any]) -> Answer:
        block = self._block("identity")
        if isinstance(block, Answer):
            return block
        said = dict(line.split("=", 1) for line in block.text.splitlines() if "=" in line)
        data = {name: said.get(name, "") for name in ("hostname", "kernel_release", "architecture")}
        return Answer(data={**data, "kernel_version": "", "python": "", "euid": _number(said.get("euid", ""), -1)})

    def _clock(self, _params: dict[str, Any]) -> Answer:
        block = self._block("clock")
        if isinstance(block, Answer):
            return block
        second = block.text.strip()
        if not re.fullmatch(r"[0-9]{1,12}", second):
            return _absent(Absence(kind=AbsenceKind.FAILED, text=f"clock: no number of seconds: {second[:40]!r}"))
        # It was read at some moment of that second.
        return Answer(data={"unix_ns": int(second) * 10**9 + 5 * 10**8, "monotonic_ns": 0, "adjtimex": None})

    def _namespaces(self, _params: dict[str, Any]) -> Answer:
        block = self._recorded.get("namespaces")
        rows: list[dict[str, Any]] = []
        own = 0
        for line in block.text.splitlines() if block is not None else ():
            path, _, inode = line.strip().rpartition(" ")
            if path == "own":
                own = _number(inode, 0)
            elif path.startswith("/"):
                rows.append({"inode": _number(inode, 0), "own": False, "paths": [path], "pids": [], "pid_count": 0})
        # A namespace that is the host's own is not listed twice; those of containers are not looked into.
        others = [row for row in rows if row["inode"] != own and self._looked_into(row["paths"][0])]
        host = {"inode": own, "own": True, "paths": ["/proc/self/ns/net"], "pids": [], "pid_count": 0}
        return Answer(data={"namespaces": [host, *others], "unreadable": 0})

    def _looked_into(self, path: str) -> bool:
        return any(namespace == path for _, namespace in self._recorded.blocks)

    def _process_sockets(self, _params: dict[str, Any]) -> Answer:
        block = self._block("process-sockets")
        if isinstance(block, Answer):
            return block
        rows = (line.split(" ", 2) for line in block.text.splitlines())
        sockets = {row[0]: [int(row[1]), row[2]] for row in rows if len(row) == 3 and row[1].isdigit()}
        return Answer(data={"sockets": sockets, "unreadable": 0})

    # --- files ---

    def _file(self, params: dict[str, Any]) -> Answer:
        block = self._block(f"file {params.get('path')}", str(params.get("netns") or ""))
        if isinstance(block, Answer):
            return block
        if params.get("binary"):
            # The script unpacks what is compressed; the reader expects it as it is on the host.
            return Answer(data={"bytes": gzip.compress(block.text.encode(), mtime=0), "truncated": False})
        return Answer(data={"text": block.text, "truncated": False})

    def _files(self, params: dict[str, Any]) -> Answer:
        namespace = str(params.get("netns") or "")
        if namespace:
            return _not_given(f"files in {namespace}")
        found: dict[str, str] = {}
        errors: dict[str, dict[str, str]] = {}
        for pattern in params.get("globs") or ():
            for path in self._matching(str(pattern)):
                block = self._recorded.get(f"file {path}")
                if path in self._values:
                    found[path] = self._values[path]
                elif block is None:
                    errors[path] = {"kind": "not-probed", "text": f"read {path}: the script's output does not hold it"}
                elif block.absent is not None:
                    errors[path] = {"kind": block.absent.kind.value, "text": f"read {block.absent.text}"}
                else:
                    found[path] = block.text
        return Answer(data={"files": found, "errors": errors, "truncated": []})

    def _matching(self, pattern: str) -> list[str]:
        if not _MAGIC.search(pattern):
            return [pattern]
        parts = pattern.split("/")
        recorded = (name[5:] for name, namespace in self._recorded.blocks if name.startswith("file ") and not namespace)
        return sorted(path for path in {*recorded, *self._values} if _matches(path.split("/"), parts))

    def _list_dir(self, params: dict[str, Any]) -> Answer:
        block = self._block(f"list-dir {params.get('path')}")
        if isinstance(block, Answer):
            return block
        rows = (line.partition(" ") for line in block.text.splitlines())
        entries = [{"name": name, "type": kind, "size_bytes": 0, "mtime_s": 0.0} for kind, _, name in rows if name]
        return Answer(data={"entries": entries, "truncated": False})

    # --- commands ---

    def _command(self, params: dict[str, Any]) -> Answer:
        words = " ".join(str(word) for word in params.get("argv") or ())
        block = self._block(f"command {words}", str(params.get("netns") or ""))
        if isinstance(block, Answer):
            return block
        return Answer(data={"stdout": block.text, "stderr": block.errors, "code": block.code, "program": ""})

    def _dump(self, params: dict[str, Any]) -> Answer:
        """No shell can send netlink; which families have nft tables is read from nft's own listing."""
        if (params.get("protocol"), params.get("type")) != (_NFT_PROTOCOL, _NFT_GETTABLE) or params.get("netns"):
            return _not_given("netlink-dump")
        listed = self._block(_NFT)
        if isinstance(listed, Block) and listed.code == 0:
            families = [_NFPROTO[name] for name in dict.fromkeys(_TABLE.findall(listed.text)) if name in _NFPROTO]
            return Answer(data={"messages": b"".join(map(_table_message, families)), "interrupted": False})
        # Without nft the tables of iptables are those that its own tool lists.
        families = [family for tool, family in _SAVERS if self._printed(f"command {tool} -c")]
        if isinstance(listed, Answer) and families:
            return Answer(data={"messages": b"".join(map(_table_message, families)), "interrupted": False})
        if isinstance(listed, Answer):
            return listed
        said = listed.errors.strip().partition("\n")[0] or f"exit code {listed.code}"
        kind = AbsenceKind.PERMISSION if "not permitted" in said else AbsenceKind.FAILED
        return _absent(Absence(kind=kind, text=f"nft list ruleset: {said}"))

    def _printed(self, name: str) -> bool:
        block = self._recorded.get(name)
        return block is not None and bool(block.text.strip())

    def _docker(self, params: dict[str, Any]) -> Answer:
        value, reason = script_engine.answer(self._recorded, str(params.get("path")))
        if reason is not None:
            return _absent(reason)
        return Answer(data={"status": 200, "json": value})


def _table_message(family: int) -> bytes:
    """A message that says that there is a table of a family: nlmsghdr and nfgenmsg, no attributes."""
    return struct.pack("<IHHIIBBH", 20, _NFT_NEWTABLE, 0, 0, 0, family, 0, 0)


def _matches(path: list[str], pattern: list[str]) -> bool:
    return len(path) == len(pattern) and all(
        fnmatch.fnmatchcase(part, one) for part, one in zip(path, pattern, strict=True)
    )


def _values(block: Block | None) -> dict[str, str]:
    """Files of one line: the path, a space, the value."""
    lines = block.text.splitlines() if block is not None else ()
    rows = (line.partition(" ") for line in lines if line.startswith("/"))
    return {path: f"{value}\n" for path, _, value in rows}


def _number(text: str, otherwise: int) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,20}", text) else otherwise


def _absent(reason: Absence) -> Answer:
    return Answer(error=WireError(reason.kind, reason.text))


def _not_given(what: str) -> Answer:
    return Answer(error=WireError(AbsenceKind.NOT_PROBED, f"{what}: the script's output does not hold it"))
