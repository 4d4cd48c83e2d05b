"""The first process of a lab host: makes the namespaces, composes the root file system, reaps.

Run as a program (``python -I -S init.py``) with the standard library only, so that a host starts in some 60 ms. It
reads one JSON object (see `Plan`) from stdin and answers with one on stdout: ``{"pid": N}``, the process id of the
host's init as the caller sees it, once the host is complete, or ``{"error": text}``.

The init stays until it gets SIGTERM or SIGKILL or until the process behind the descriptor ``owner_fd`` ends: with a PID
namespace's init the kernel kills everything in the host, and with the last process go its mounts and its network.
SIGUSR1 makes it forget its owner, which turns a lab into a detached one.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import sys
from pathlib import Path
from typing import NoReturn, TypedDict

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET = (
    0x00020000,
    0x04000000,
    0x08000000,
    0x20000000,
    0x40000000,
)
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 0x1, 0x2, 0x4, 0x8, 0x20, 0x1000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
MNT_DETACH = 2

# Composed afresh for each host; everything else at the top of the machine's tree is shown as it is.
COMPOSED = frozenset({"bin", "sbin", "usr", "etc", "proc", "sys", "dev", "run", "tmp", "var", "lost+found", "boot"})
# Homes may hold what a host must not see or change (credentials, histories), and also the interpreter that we run on.
OVERLAID = ("usr", "etc", "root", "home")
# What one machine's administrator set up for that machine, and secrets; a host has a stock one or none.
PRIVATE = (
    *("etc/docker", "etc/containerd", "etc/netdiag", "etc/calico", "etc/cni", "etc/calicoctl.cfg"),
    *("etc/iptables", "etc/nftables.conf", "etc/nftables.d", "etc/firewalld", "etc/ufw", "etc/ipset.conf"),
    "etc/fail2ban",
    *("etc/sysconfig", "etc/sysctl.conf", "etc/sysctl.d", "etc/bird", "etc/etcd", "etc/ssh"),
    *("root/.docker", "root/.ssh", "root/.bash_history", "root/.bashrc", "root/.bash_profile", "root/.profile"),
)
# Accounts that the packages' installation scripts would have made: name, number, home.
ACCOUNTS = (
    ("sshd", 971, "/run/sshd"),
    ("messagebus", 972, "/nonexistent"),
    ("bird", 973, "/run/bird"),
    ("etcd", 974, "/var/lib/etcd"),
    ("docker", 975, "/nonexistent"),
)
# Kernel modules are the machine's: an engine asks for br_netfilter, which would filter the bridges of the machine too.
MODULE_TOOLS = ("usr/sbin/modprobe", "usr/sbin/insmod", "usr/sbin/rmmod")
VAR = (
    *("lib", "log", "tmp", "cache", "spool", "empty"),
    *("lib/netdiag", "lib/calico", "lib/bird", "lib/etcd", "lib/fail2ban"),
)
RUN = ("lock", "sshd", "bird", "dbus", "fail2ban", "docker/plugins")

libc = ctypes.CDLL(None, use_errno=True)


class Plan(TypedDict):
    """What the caller wants: paths are those of the machine."""

    hostname: str
    machine_id: str
    hosts: str
    """Text of /etc/hosts."""
    lab_root: str
    """Directory that holds the unpacked packages (``usr``, ``etc``)."""
    mount_point: str
    """An existing directory; the root is built on it, in the host's own mount namespace only."""
    binds: list[str]
    """Directories that a process in the host must find at their own path (interpreter, checkout)."""
    owner_fd: int
    """A pidfd; the host ends with that process."""


def checked(result: int, what: str) -> None:
    """Raise OSError with the kernel's errno when a C call answered -1."""
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: Path | str, kind: str | None, flags: int = 0, data: str | None = None) -> None:
    """Mount a file system; raises OSError that names both ends."""
    arguments = [part.encode() if part is not None else None for part in (source, str(target), kind)]
    checked(
        libc.mount(*arguments, ctypes.c_ulong(flags), data.encode() if data is not None else None),
        f"mount {source} on {target}",
    )


def bind(source: str | Path, root: Path) -> None:
    """Show a directory of the machine, and what is mounted below it, at its own path under root."""
    target = root / str(source).lstrip("/")
    target.mkdir(parents=True, exist_ok=True)
    mount(str(source), target, None, MS_BIND | MS_REC)


def compose(plan: Plan) -> None:
    """Build the host's root file system and make it the root of this mount namespace."""
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    store = Path(plan["mount_point"])
    mount("netdiag-lab", store, "tmpfs", MS_NOSUID, "mode=0755")
    # Behind a fixed path, because an overlay's option string has no room for ":" and "," in a checkout's name.
    packages = store / "packages"
    packages.mkdir()
    mount(plan["lab_root"], packages, None, MS_BIND)
    root = store / "root"
    root.mkdir()
    mount("netdiag-lab", root, "tmpfs", 0, "mode=0755")
    for name in sorted(os.listdir("/")):  # noqa: PTH208 - names are wanted, not paths
        source = Path("/") / name
        if source.is_symlink():
            (root / name).symlink_to(source.readlink())
        elif (
            name not in COMPOSED and name not in OVERLAID and source.is_dir() and not str(store).startswith(f"/{name}/")
        ):
            bind(source, root)
    for name in OVERLAID:
        overlay(name, root, store, packages)
    for name in PRIVATE:
        make_stock(root / name, packages / name)
    for name in MODULE_TOOLS:
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to("/usr/bin/false")
    system_directories(root)
    identity(plan, root)
    for path in plan["binds"]:
        bind(path, root)
    old = root / ".old"
    old.mkdir()
    checked(libc.pivot_root(str(root).encode(), str(old).encode()), "pivot_root")
    os.chdir("/")
    checked(libc.umount2(b"/.old", MNT_DETACH), "umount /.old")
    Path("/.old").rmdir()


def overlay(name: str, root: Path, store: Path, packages: Path) -> None:
    """Show a directory of the machine, the lab's packages over it, with changes kept in memory."""
    if not Path("/", name).is_dir():
        return
    upper, work = store / "upper" / name, store / "work" / name
    for directory in (upper, work, root / name):
        directory.mkdir(parents=True)
    lower = f"{packages}/{name}:/{name}" if (packages / name).is_dir() else f"/{name}"
    mount("overlay", root / name, "overlay", 0, f"lowerdir={lower},upperdir={upper},workdir={work}")


def make_stock(path: Path, packaged: Path) -> None:
    """Replace what the machine's administrator configured with the package's own, or with nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    if packaged.is_dir():
        shutil.copytree(packaged, path, symlinks=True)
    elif packaged.exists():
        shutil.copy2(packaged, path)


def system_directories(root: Path) -> None:
    """/proc, /sys, /dev, /run, /tmp and /var, as a host that has just booted has them."""
    for name, mode in (("run", 0o755), ("tmp", 0o1777), ("var", 0o755)):
        (root / name).mkdir()
        (root / name).chmod(mode)
    for name in VAR:
        (root / "var" / name).mkdir(parents=True, exist_ok=True)
    for name in RUN:
        (root / "run" / name).mkdir(parents=True, exist_ok=True)
    # Relative, so that they lead into this root also for a process outside that comes by /proc/PID/root.
    (root / "var/run").symlink_to("../run")
    (root / "var/lock").symlink_to("../run/lock")
    bind("/dev", root)
    if (root / "dev/shm").is_dir():
        mount("netdiag-lab", root / "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV)
    (root / "proc").mkdir()
    mount("proc", root / "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    protect_sysctls(root / "proc/sys")
    (root / "sys").mkdir()
    mount("sysfs", root / "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for path in ("/sys/fs/cgroup", "/sys/kernel/tracing"):
        if Path(path).is_dir() and os.path.ismount(path):
            bind(path, root)


def protect_sysctls(sys_tree: Path) -> None:
    """Let a host change only what is its own: settings below ``net`` belong to its network namespace, others do not.

    An engine raises kernel.keys.root_maxkeys, for one, and that is the machine's.
    """
    mount(str(sys_tree), sys_tree, None, MS_BIND)
    mount("none", sys_tree, None, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount(str(sys_tree / "net"), sys_tree / "net", None, MS_BIND)
    mount("none", sys_tree / "net", None, MS_BIND | MS_REMOUNT | MS_NOSUID | MS_NODEV | MS_NOEXEC)


def identity(plan: Plan, root: Path) -> None:
    """The host's own names, machine-id and the accounts that its services run as."""
    etc = root / "etc"
    texts = {
        "hostname": plan["hostname"] + "\n",
        "hosts": plan["hosts"],
        "machine-id": plan["machine_id"] + "\n",
        "resolv.conf": "# a lab host has no resolver outside\n",
    }
    for name, text in texts.items():
        (etc / name).unlink(missing_ok=True)
        (etc / name).write_text(text)
    passwd, group = (etc / "passwd").read_text(), (etc / "group").read_text()
    users = {line.partition(":")[0] for line in passwd.splitlines()}
    groups = {line.partition(":")[0] for line in group.splitlines()}
    new_users = [f"{name}:x:{n}:{n}::{home}:/usr/sbin/nologin\n" for name, n, home in ACCOUNTS if name not in users]
    new_groups = [f"{name}:x:{number}:\n" for name, number, _ in ACCOUNTS if name not in groups]
    (etc / "passwd").write_text(passwd + "".join(new_users))
    (etc / "group").write_text(group + "".join(new_groups))


def serve(owner_fd: int) -> NoReturn:
    """Reap until the owner or a signal ends us; never returns."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)
    poller = select.poll()
    poller.register(woken, select.POLLIN)
    poller.register(owner_fd, select.POLLIN)
    while True:
        for descriptor, _ in poller.poll():
            if descriptor == owner_fd:
                os._exit(0)
            received = os.read(woken, 512)
            if signal.SIGTERM in received:
                os._exit(0)
            if signal.SIGUSR1 in received:
                poller.unregister(owner_fd)
                os.close(owner_fd)
                owner_fd = -1
        reap()


def reap() -> None:
    """Take the exit status of every child that has ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def be_host(plan: Plan, report: int) -> NoReturn:
    """The init itself: compose the root, say so on the pipe, serve."""
    try:
        checked(libc.sethostname(plan["hostname"].encode(), len(plan["hostname"].encode())), "sethostname")
        compose(plan)
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.close(null)
        os.write(report, b"ok")
    except BaseException as error:  # noqa: BLE001 - whatever it is, the caller must hear of it
        os.write(report, (str(error) or type(error).__name__).encode())
        os._exit(1)
    os.close(report)
    serve(plan["owner_fd"])


def start() -> dict[str, object]:
    """Make the namespaces and the init; return what is told to the caller."""
    plan: Plan = json.load(sys.stdin)
    checked(
        libc.unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWPID),
        "unshare the namespaces of a host",
    )
    listen, report = os.pipe()
    child = os.fork()
    if not child:
        os.close(listen)
        be_host(plan, report)
    os.close(report)
    with os.fdopen(listen, "rb") as pipe:
        answer = pipe.read().decode(errors="replace")
    return {"pid": child} if answer == "ok" else {"error": answer or "the host's init ended before it was ready"}


if __name__ == "__main__":
    try:
        reply = start()
    except OSError as failure:
        reply = {"error": str(failure)}
    sys.stdout.write(json.dumps(reply))
