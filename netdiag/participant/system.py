"""Verbs about the host itself: who it is, its clock, its network namespaces, whose sockets are whose."""

import ctypes
import os
import platform
import re
import socket
import sys
import time
from typing import Any, Dict, List

from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import PERMISSION, VerbError

PIDS_LISTED = 256
"""How many process ids are listed per namespace; the count is always the whole."""


def identity(_params: Dict[str, Any], _deadline: Deadline) -> Dict[str, Any]:
    """Who this host says it is.

    Parameters: none. Data: ``hostname``, ``kernel_release`` and ``kernel_version`` (uname), ``architecture``,
    ``euid`` (int), ``python`` ("3.11.7"). Errors: none.
    """
    uname = os.uname()
    return {
        "hostname": socket.gethostname(),
        "kernel_release": uname.release,
        "kernel_version": uname.version,
        "architecture": uname.machine,
        "euid": os.geteuid(),
        "python": platform.python_version(),
    }


class _Timeval(ctypes.Structure):
    _fields_ = [("tv_sec", ctypes.c_long), ("tv_usec", ctypes.c_long)]


class _Timex(ctypes.Structure):
    """struct timex of <sys/timex.h>; padded because the kernel may write more than is named here."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time", _Timeval),
        ("tick", ctypes.c_long),
        ("reserved", ctypes.c_long * 32),
    ]


def clock(_params: Dict[str, Any], _deadline: Deadline) -> Dict[str, Any]:
    """This host's clock and what the kernel knows of its quality (adjtimex(2) with nothing to set).

    Parameters: none. Data: ``unix_ns``, ``monotonic_ns`` (read back to back), and ``adjtimex``: ``state`` (5 is
    TIME_ERROR: not synchronised), ``status`` (bit 0x40 is STA_UNSYNC), ``esterror_us``, ``maxerror_us``; or None
    when the kernel refused. Errors: none.
    """
    timex = _Timex()
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    quality = None
    if state >= 0:
        quality = {
            "state": state,
            "status": int(timex.status),
            "esterror_us": int(timex.esterror),
            "maxerror_us": int(timex.maxerror),
        }
    # time_ns() would be Python 3.7.
    return {
        "unix_ns": int(time.time() * 1e9),
        "monotonic_ns": int(time.monotonic() * 1e9),
        "adjtimex": quality,
    }


NAMESPACE_DIRECTORIES = ("/run/docker/netns", "/var/run/docker/netns", "/run/netns", "/var/run/netns")


def namespaces(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """Every network namespace in use: by a process, or kept by a bind mount.

    Parameters: ``directories`` (optional) lists more directories that hold namespace mounts. Data: ``namespaces``, a
    list of {``inode``, ``own`` (the participant's own), ``paths`` (what setns takes; mounts first, then
    /proc/PID/ns/net of the smallest process id), ``pids`` (smallest first, at most 256), ``pid_count``}, ordered by
    smallest process id; ``unreadable``: how many processes could not be looked at. Errors: timeout.
    """
    found: Dict[int, Dict[str, Any]] = {}
    own = os.stat("/proc/self/ns/net")
    unreadable = 0

    def entry(inode: int) -> Dict[str, Any]:
        fresh = {"inode": inode, "own": inode == own.st_ino, "paths": [], "pids": [], "pid_count": 0}
        return found.setdefault(inode, fresh)

    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        path = "/proc/{}/ns/net".format(pid)
        try:
            inode = os.stat(path).st_ino
        except PermissionError:
            unreadable += 1
            continue
        except OSError:
            continue  # the process has ended, which is no news
        row = entry(inode)
        row["pid_count"] += 1
        if len(row["pids"]) < PIDS_LISTED:
            row["pids"].append(pid)
    seen = set()
    for directory in list(NAMESPACE_DIRECTORIES) + [str(item) for item in params.get("directories") or []]:
        real = os.path.realpath(directory)
        if real in seen:
            continue
        seen.add(real)
        for path in _listed(real):
            deadline.require("list network namespaces in " + real)
            try:
                status = os.stat(path)
            except OSError:
                continue
            # What is left after an unmount is an empty plain file on another file system.
            if status.st_dev == own.st_dev:
                entry(status.st_ino)["paths"].append(path)
    rows = sorted(found.values(), key=lambda row: row["pids"][0] if row["pids"] else sys.maxsize)
    for row in rows:
        if row["pids"]:
            row["paths"].append("/proc/{}/ns/net".format(row["pids"][0]))
    return {"namespaces": rows, "unreadable": unreadable}


def _listed(directory: str) -> List[str]:
    try:
        return [os.path.join(directory, name) for name in sorted(os.listdir(directory))]
    except OSError:
        return []


_SOCKET_LINK = re.compile(r"^socket:\[(\d+)\]$")


def process_sockets(_params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """Which process holds which socket, from the links in /proc/PID/fd.

    Parameters: none. Data: ``sockets``: socket inode (as text) -> [process id, command name]; the smallest process
    id wins when several share one. ``unreadable``: how many processes could not be looked at. Errors: permission (no
    process but our own could be), timeout.
    """
    sockets: Dict[str, List[Any]] = {}
    unreadable = 0
    read = 0
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        deadline.require("list the sockets of every process")
        directory = "/proc/{}/fd".format(pid)
        try:
            names = os.listdir(directory)
        except PermissionError:
            unreadable += 1
            continue
        except OSError:
            continue
        read += 1
        command = None
        for name in names:
            try:
                match = _SOCKET_LINK.match(os.readlink(directory + "/" + name))
            except OSError:
                continue
            if match and match.group(1) not in sockets:
                if command is None:
                    command = _command_name(pid)
                sockets[match.group(1)] = [pid, command]
    if unreadable and read <= 1:
        raise VerbError(PERMISSION, "read /proc/PID/fd: not allowed for {} processes".format(unreadable))
    return {"sockets": sockets, "unreadable": unreadable}


def _command_name(pid: int) -> str:
    try:
        with open("/proc/{}/comm".format(pid), "rb") as file:
            return file.read(64).decode("utf-8", "replace").rstrip("\n")
    except OSError:
        return ""
