"""The entry point of the image: run netdiag where the host's network, processes and files are, with our own libraries.

A container that was started with ``--privileged --pid host`` sees the host's first process and may enter its
namespaces. There every path is the host's own (firewalls' files, the engine's socket, keys, programs), so that netdiag
finds what it would find if it were installed there. The image stays within reach through a descriptor of its root
directory, ``/proc/PID/fd/N``: nothing is mounted, and nothing is written on the host. Such a path leads there for any
process, but ends with ours.

Run by the image's Python as ``python3 -I -S enter.py``, with the standard library only.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import NamedTuple, NoReturn

HOST_PID = 1
NAMESPACES = ("net", "uts", "ipc", "cgroup", "mnt")
"""What is entered, files last: the others are looked up in the container's /proc."""

ANYWHERE = frozenset({"analyze", "ask", "explain", "schema", "script"})
"""Commands that look at no host."""

SYSTEM_PATH = (
    *("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"),
    "/run/current-system/sw/bin",  # NixOS has its programs here
)
BESIDE = "usr/lib/netdiag/bin"
"""Wrappers of the image's programs, for hosts that lack them; the host's own come first."""

USAGE = "docker run --rm --privileged --net host --pid host netdiag COMMAND"


class Layout(NamedTuple):
    """Where the image has what runs netdiag; paths from its root."""

    loader: str
    libraries: str
    python: str


def main(words: list[str]) -> NoReturn:
    """Become netdiag, on the host where that can be."""
    found = layout()
    if os.environ.get("NETDIAG_VIEW") == "container":
        become("", found, words)
    reason, root = why_not_host(), ""
    if not reason:
        try:
            root = enter_host()
        except OSError as error:
            reason = f"the host's namespaces cannot be entered ({error.strerror})"
    if reason and looks_at_host(words):
        sys.stderr.write(
            f"netdiag: {reason}, so this would be about the container itself. Run it as: {USAGE} "
            f"(or with -e NETDIAG_VIEW=container, if the container is what you ask about)\n"
        )
        sys.exit(2)
    become(root, found, words)


def layout() -> Layout:
    """Where things are; to be asked before the host is entered."""
    libraries = next(path.parent for path in Path("/usr/lib").glob("*/libc.so.6"))
    loader = next(libraries.glob("ld-linux*.so.*"))
    return Layout(str(loader), str(libraries), str(Path(sys.executable).resolve()))


def looks_at_host(words: list[str]) -> bool:
    """Whether these arguments ask about a host, and not only for a text or about files."""
    command = next((word for word in words if not word.startswith("-")), None)
    return command is not None and command not in ANYWHERE and not {"-h", "--help"} & set(words)


def why_not_host() -> str:
    """Why the host cannot be entered from here; empty if it can."""
    try:
        if namespace(HOST_PID, "mnt") == namespace("self", "mnt"):
            return "this container does not see the host's processes (--pid host)"
    except OSError:
        return "this container may not look into the host's processes (--privileged)"
    return ""


def namespace(process: int | str, kind: str) -> int | None:
    """A namespace's number; None where the kernel has none of that kind (control groups before 4.6)."""
    try:
        return Path(f"/proc/{process}/ns/{kind}").stat().st_ino
    except FileNotFoundError:
        return None


def enter_host() -> str:
    """Enter the namespaces of the host's first process; gives the path under which the image's root is found then.

    Raises:
        OSError: one of them cannot be entered.
    """
    image = os.open("/", os.O_PATH | os.O_DIRECTORY)
    os.set_inheritable(image, True)
    here = Path.cwd()
    libc = ctypes.CDLL(None, use_errno=True)
    entries = [
        os.open(f"/proc/{HOST_PID}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
        for kind in NAMESPACES
        if namespace(HOST_PID, kind) != namespace("self", kind)
    ]
    for entry in entries:
        if libc.setns(entry, 0) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    try:
        os.chdir(here)  # docker run -w: a directory of the host
    except OSError:
        os.chdir("/")
    return f"/proc/{os.getpid()}/fd/{image}"


def become(root: str, found: Layout, words: list[str]) -> NoReturn:
    """Replace this process by netdiag: the interpreter and its libraries are the image's, whatever the host has."""
    beside = (f"{root}/{BESIDE}",) if root else ()
    # What starts another interpreter starts the wrapper, as the bare program would use the host's libraries.
    interpreter = f"{root}/{BESIDE}/python3" if root else found.python
    os.execve(  # noqa: S606 - there is no shell in the image
        root + found.loader,
        [
            *("netdiag", "--inhibit-cache", "--library-path", root + found.libraries, "--argv0", interpreter),
            *(root + found.python, "-I", f"{root}/usr/bin/netdiag", *words),
        ],
        {**os.environ, "PATH": ":".join((*SYSTEM_PATH, *beside))},
    )


if __name__ == "__main__":
    main(sys.argv[1:])
