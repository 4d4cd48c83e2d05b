"""Verbs that read files and directories. Nothing here ever blocks on what it opens: FIFOs, devices, sockets."""

import glob
import os
import stat
from typing import Any, Dict, List

from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import FAILED, UNSUPPORTED, VerbError, from_os_error
from netdiag.participant.netns import in_netns, namespace_of, thread_path

LIMIT_BYTES = 4 << 20
"""How much of one file is read when the request does not say."""
FILES_LIMIT = 20000
"""How many files one request may match."""


def file(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """One regular file's text.

    Parameters: ``path``; ``netns`` (optional; for /proc/net and /proc/sys/net, while /sys belongs to whoever mounted it
    and is refused); ``limit_bytes``; ``binary``. Data: ``text`` (UTF-8, what is none is replaced), or ``bytes`` when
    ``binary`` is true; ``truncated``, ``mtime_s``. Errors: missing, permission, unsupported (not a regular
    file), timeout.
    """
    path = str(params["path"])
    limit = int(params.get("limit_bytes") or LIMIT_BYTES)
    netns = namespace_of(params)
    _refuse_sysfs(path, netns)
    answer = in_netns(netns, lambda: _read(path, limit, deadline), deadline)
    if not params.get("binary"):
        answer["text"] = answer.pop("bytes").decode("utf-8", "replace")
    return answer


def file_tail(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """The end of one regular file, from a whole line on: for logs that may be long.

    Parameters: ``path``, ``limit_bytes``. Data: ``text``, ``truncated`` (there was more before it), ``mtime_s``.
    Errors: missing, permission, unsupported (not a regular file), timeout.
    """
    limit = int(params.get("limit_bytes") or LIMIT_BYTES)
    answer = _read(str(params["path"]), limit, deadline, tail=True)
    kept = answer.pop("bytes")
    if answer["truncated"]:
        kept = kept.partition(b"\n")[2]
    answer["text"] = kept.decode("utf-8", "replace")
    return answer


def files(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """The text of every file that matches one of the patterns; one that cannot be read does not spoil the others.

    Parameters: ``globs`` (a list of shell patterns; a path without wildcards that does not exist is an error of that
    path); ``netns`` and ``limit_bytes`` (per file) as for ``file``. Data: ``files``: path -> text; ``errors``: path ->
    {``kind``, ``text``}; ``truncated``: paths that were longer than the limit. Errors, of all: unsupported, timeout, and
    those of ``netns``.
    """
    patterns = [str(pattern) for pattern in params["globs"]]
    limit = int(params.get("limit_bytes") or LIMIT_BYTES)
    netns = namespace_of(params)
    for pattern in patterns:
        _refuse_sysfs(pattern, netns)
    return in_netns(netns, lambda: _read_all(patterns, limit, deadline), deadline)


def _read_all(patterns: List[str], limit: int, deadline: Deadline) -> Dict[str, Any]:
    texts: Dict[str, str] = {}
    errors: Dict[str, Dict[str, str]] = {}
    truncated: List[str] = []
    for pattern in patterns:
        deadline.require("read " + pattern)
        # glob follows the thread's /proc, and answers are named as they were asked for.
        opened = thread_path(pattern)
        paths = sorted(glob.glob(opened)) if glob.has_magic(pattern) else [opened]
        for path in paths:
            shown = path if opened == pattern else path.replace("/proc/thread-self/net/", "/proc/net/", 1)
            if len(texts) + len(errors) >= FILES_LIMIT:
                raise VerbError(FAILED, "read {}: more than {} files".format(pattern, FILES_LIMIT))
            try:
                answer = _read(path, limit, deadline)
            except VerbError as error:
                errors[shown] = {"kind": error.kind, "text": error.text}
                continue
            texts[shown] = answer["bytes"].decode("utf-8", "replace")
            if answer["truncated"]:
                truncated.append(shown)
    return {"files": texts, "errors": errors, "truncated": truncated}


def _refuse_sysfs(path: str, netns: str) -> None:
    if netns and path.startswith("/sys/"):
        raise VerbError(UNSUPPORTED, "read {} in {}: sysfs shows the namespace that mounted it".format(path, netns))


def _read(path: str, limit: int, deadline: Deadline, tail: bool = False) -> Dict[str, Any]:
    tried = "read " + path
    deadline.require(tried)
    try:
        # Without O_NONBLOCK opening a FIFO waits for a writer for ever.
        descriptor = os.open(thread_path(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        raise from_os_error(error, tried)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise VerbError(UNSUPPORTED, tried + ": not a regular file")
        skipped = tail and status.st_size > limit
        if skipped:
            os.lseek(descriptor, status.st_size - limit, os.SEEK_SET)
        chunks: List[bytes] = []
        size = 0
        # One byte more than the limit, to know whether there was more.
        while size <= limit:
            chunk = os.read(descriptor, min(1 << 20, limit + 1 - size))
            if not chunk:
                break
            chunks.append(chunk)
            size += len(chunk)
            deadline.require(tried)
    except OSError as error:
        raise from_os_error(error, tried)
    finally:
        os.close(descriptor)
    data = b"".join(chunks)
    return {
        "bytes": data[:limit],
        "truncated": skipped or len(data) > limit,
        "mtime_s": status.st_mtime,
    }


_TYPES = (
    (stat.S_ISREG, "file"),
    (stat.S_ISDIR, "directory"),
    (stat.S_ISLNK, "link"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISFIFO, "fifo"),
)


def list_dir(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """What a directory holds, by name only: no content is read, no link followed.

    Parameters: ``path``; ``depth`` (default 1: the directory's own entries); ``limit`` (default 1000 entries). Data:
    ``entries``: a list of {``name`` (relative to path), ``type`` (file, directory, link, socket, fifo, other),
    ``size_bytes``, ``mtime_s``}; ``truncated``. Errors: missing, permission.
    """
    root = str(params["path"])
    depth = int(params.get("depth") or 1)
    limit = int(params.get("limit") or 1000)
    entries: List[Dict[str, Any]] = []
    pending = [("", 1)]
    while pending:
        relative, level = pending.pop(0)
        deadline.require("list " + root)
        directory = os.path.join(root, relative) if relative else root
        try:
            names = sorted(os.listdir(directory))
        except OSError as error:
            if not relative:
                raise from_os_error(error, "list " + root)
            continue
        for name in names:
            if len(entries) >= limit:
                return {"entries": entries, "truncated": True}
            path = os.path.join(relative, name)
            try:
                status = os.lstat(os.path.join(root, path))
            except OSError:
                continue
            kind = next((word for is_type, word in _TYPES if is_type(status.st_mode)), "other")
            entries.append({"name": path, "type": kind, "size_bytes": status.st_size, "mtime_s": status.st_mtime})
            if kind == "directory" and level < depth:
                pending.append((path, level + 1))
    return {"entries": entries, "truncated": False}
