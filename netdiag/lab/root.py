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
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from netdiag.errors import LabError, LabToolMissing

PACKAGES = (
    *("docker.io", "iptables", "nftables", "iproute2", "busybox-static", "openssh-server", "openssh-client"),
    *("firewalld", "ufw", "ipset", "conntrack", "tcpdump", "ethtool", "dbus", "etcd-server", "etcd-client", "bird2"),
    *("iputils-ping", "procps", "fail2ban", "sudo", "csh", "fish", "libfaketime"),
)
"""What a lab host needs; apt adds what these need and the machine lacks."""

CHECKOUT = Path(__file__).resolve().parents[2]
ALTERNATIVES = tuple(f"{family}{tool}" for family in ("iptables", "ip6tables") for tool in ("", "-save", "-restore"))
MERGED = ("bin", "sbin", "lib", "lib64")

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
    for tool in ("apt-get", "dpkg-deb", "tar"):
        if shutil.which(tool) is None:
            raise LabToolMissing(f"{tool} is missing: the lab's tools are Debian packages, run it on Debian or Ubuntu")
    directory = location()
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory):
        with contextlib.suppress(LabToolMissing):  # somebody else made it while we waited
            return find()
        archives = _download(directory, say)
        say(f"unpacking {len(archives)} packages into {directory}")
        fresh = directory / "unpacking"
        shutil.rmtree(fresh, ignore_errors=True)
        _unpack(archives, fresh)
        fresh.rename(_complete_root())
        shutil.rmtree(directory / "archives")
    return find()


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download(directory: Path, say: Say) -> list[Path]:
    """Fetch what apt would install; the archives go to a directory of our own."""
    archives = directory / "archives"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    if not any(Path("/var/lib/apt/lists").glob("*Packages*")):
        say("reading the package lists (apt-get update)")
        _run(["apt-get", "-q", "update"])
    say(f"downloading what this machine lacks of {len(PACKAGES)} packages")
    command = ["apt-get", "-q", "-y", "--download-only", "--no-install-recommends"]
    command += ["-o", f"Dir::Cache::archives={archives}", "-o", "DPkg::Lock::Timeout=300"]
    # An account of apt's own downloads by default, and cannot write below a checkout in a home.
    command += ["-o", "APT::Sandbox::User=root"]
    _run([*command, "install", *PACKAGES])
    return sorted(archives.glob("*.deb"))


def _unpack(archives: list[Path], root: Path) -> None:
    """Unpack archives into a root that is laid out like a merged /usr."""
    for name in MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    (root / "etc").mkdir()
    for archive in archives:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE) as reader:
            unpack = ["tar", "-x", "--keep-directory-symlink", "-C", str(root)]
            done = subprocess.run(unpack, stdin=reader.stdout, capture_output=True, text=True, check=False)
        if done.returncode or reader.returncode:
            raise LabError(f"{archive.name} does not unpack: {_last_line(done.stderr)}")
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


def _run(command: list[str]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise LabError(f"{' '.join(command[:1])} failed: {_last_line(done.stderr or done.stdout)}")


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "it gave no reason"
