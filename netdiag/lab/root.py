"""The lab's own root: Debian packages that are unpacked into a directory, never installed.

A lab host sees them over the machine's own /usr and /etc (see `netdiag.lab.init`). Nothing is configured, so no
service starts, no alternative changes and no account is made.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from netdiag.errors import LabToolMissing
from netdiag.lab import debian

PACKAGES = (
    *("docker.io", "iptables", "nftables", "iproute2", "busybox-static", "openssh-server", "openssh-client"),
    *("firewalld", "ufw", "ipset", "conntrack", "tcpdump", "ethtool", "dbus", "etcd-server", "etcd-client", "bird2"),
    *("iputils-ping", "procps", "fail2ban", "sudo", "csh", "fish", "libfaketime"),
)
"""What a lab host needs; apt adds what these need and the machine lacks."""

CHECKOUT = Path(__file__).resolve().parents[2]
ALTERNATIVES = tuple(f"{family}{tool}" for family in ("iptables", "ip6tables") for tool in ("", "-save", "-restore"))

Say = Callable[[str], None]


def in_checkout() -> bool:
    """Whether netdiag runs from its source tree rather than from an installed package."""
    return (CHECKOUT / "pyproject.toml").is_file()


def location() -> Path:
    """Where the lab's tools live: NETDIAG_LAB_ROOT, else ``.lab`` of the checkout, else below /var/cache."""
    named = os.environ.get("NETDIAG_LAB_ROOT")
    if named:
        return Path(named).absolute()
    return CHECKOUT / ".lab" if in_checkout() else Path("/var/cache/netdiag/lab")


def _complete_root() -> Path:
    """Where this version's root is once it is complete; another list of packages has another name."""
    digest = hashlib.sha256("\n".join(("3", *sorted(PACKAGES))).encode()).hexdigest()[:12]
    return location() / f"root-{digest}"


def find() -> Path:
    """The root that hosts are composed from.

    Raises:
        LabToolMissing: it has not been made yet, or by another version of netdiag; or we are not root.
    """
    if os.geteuid() != 0:
        raise LabToolMissing("a lab needs root (network namespaces and real engines): run it with sudo")
    root = _complete_root()
    if not root.is_dir():
        raise LabToolMissing(f"the lab's tools are not in {root.parent}: run netdiag lab install (it installs nothing)")
    return root


def install(say: Say) -> Path:
    """Download the packages that this machine lacks and unpack them; instant when it was done before.

    Args:
        say: receives progress, a line each.

    Raises:
        LabToolMissing: no apt, or not root.
        LabError: a download or an archive failed; the text is the tool's own last line.
    """
    with contextlib.suppress(LabToolMissing):
        return find()
    if os.geteuid() != 0:
        raise LabToolMissing("unpacking the lab's tools needs root: run it with sudo")
    debian.require()
    directory = location()
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory):
        with contextlib.suppress(LabToolMissing):  # somebody else made it while we waited
            return find()
        archives = debian.download(PACKAGES, directory / "archives", say)
        say(f"unpacking {len(archives)} packages into {directory}")
        fresh = directory / "unpacking"
        shutil.rmtree(fresh, ignore_errors=True)
        _compose(archives, fresh)
        fresh.rename(_complete_root())
        shutil.rmtree(directory / "archives")
    return find()


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a directory's lock, for as long as another process must not make the same thing there."""
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _compose(archives: list[Path], root: Path) -> None:
    """Unpack archives into a root that is laid out like a merged /usr."""
    debian.merge_usr(root)
    (root / "etc").mkdir()
    for archive in archives:
        debian.unpack(archive, root)
    # Installation scripts would have made these links.
    for name in ALTERNATIVES:
        if not Path("/usr/sbin", name).exists() and (root / "usr/sbin/xtables-nft-multi").exists():
            (root / "usr/sbin" / name).symlink_to("xtables-nft-multi")
    _configure_ufw(root)
    policy = root / "usr/share/polkit-1/actions/org.fedoraproject.FirewallD1.policy"
    if policy.parent.is_dir():
        policy.symlink_to("org.fedoraproject.FirewallD1.server.policy.choice")


def _configure_ufw(root: Path) -> None:
    """Lay out the rules that ufw's installation script copies; it is not enabled."""
    share = root / "usr/share/ufw"
    for source in (share / "ufw.conf", *share.glob("*.init"), *(share / "iptables").glob("*.rules")):
        if source.is_file():
            shutil.copy2(source, root / "etc/ufw" / source.name)
