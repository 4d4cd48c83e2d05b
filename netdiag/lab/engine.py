"""The engine of a host: a real dockerd with the host's own directories, started and stopped like a service."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
from pathlib import Path

from netdiag.errors import LabError
from netdiag.lab.cgroups import group_name
from netdiag.lab.host import DOCKER_SOCKET, Host
from netdiag.lab.process import Process, end

LOG = "var/log/docker.log"
_READY = "run/netdiag-lab-ready"


def start(host: Host, timeout_s: float = 30.0) -> None:
    """Start a host's engine and wait until its API answers.

    Raises:
        LabError: it ended, or was not ready in time; the text has the last line of its log.
    """
    if running(host) is not None:
        return
    # Left by an engine that was killed; a new one would wait 15 s for the containerd of that id.
    for stale in ("run/docker.pid", "run/docker/containerd/containerd.pid"):
        host.path(stale).unlink(missing_ok=True)
    ready_path = host.path(_READY)
    ready_path.unlink(missing_ok=True)
    alive, held = os.pipe()
    with (
        os.fdopen(alive, "rb", buffering=0) as alive_end,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready,
        host.path(LOG).open("a", encoding="utf-8") as log,
    ):
        ready.bind(str(ready_path))
        try:
            starter = host.popen(
                _command(host),
                env={"NOTIFY_SOCKET": f"/{_READY}"},
                stdout=log,
                stderr=log,
                pass_fds=(held,),
            )
        finally:
            os.close(held)
        starter.wait()
        poller = select.poll()
        poller.register(ready, select.POLLIN)
        # dockerd holds the other end of this pipe for as long as it lives.
        poller.register(alive_end, select.POLLHUP)
        events = poller.poll(timeout_s * 1000)
    ready_path.unlink(missing_ok=True)
    if not events:
        raise LabError(f"the engine of {host.name} is not ready after {timeout_s:g} s: {last_log_line(host)}")
    if running(host) is None:
        raise LabError(f"the engine of {host.name} does not start: {last_log_line(host)}")


def _command(host: Host) -> list[str]:
    daemon = [
        "dockerd",
        "--storage-driver=vfs",  # the host's root is an overlay already, and images here are tiny
        "--exec-opt=native.cgroupdriver=cgroupfs",
        f"--cgroup-parent=/{group_name(host.lab, host.name)}",
    ]
    # In a session of its own and a child of the host's init: the engine outlives whoever starts it.
    return ["setsid", "--fork", *daemon]


def running(host: Host) -> Process | None:
    """The engine's process, asked of the kernel at its socket; None if nobody listens there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(str(host.path(DOCKER_SOCKET)))
        except OSError:
            return None
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid = struct.unpack("3i", credentials)[0]
    with contextlib.suppress(LabError):
        return Process.of(pid)
    return None


def stop(host: Host, *, kill: bool = False, timeout_s: float = 30.0) -> None:
    """Stop a host's engine, with its containers' shims if it is stopped cleanly; wait until it has ended.

    Args:
        host: whose engine.
        kill: as in ``kill -9``: containers and their networks stay as they are.
        timeout_s: a clean stop may take so many seconds, as containers are stopped too.

    Raises:
        LabError: it does not end.
    """
    process = running(host)
    host.close()
    if process is None:
        return
    end([process], timeout_s, signal.SIGKILL if kill else signal.SIGTERM)


def last_log_line(host: Host) -> str:
    """The engine's own last words."""
    path: Path = host.path(LOG)
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return lines[-1] if lines else "its log is empty"
