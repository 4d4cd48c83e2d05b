"""Debian packages as files: apt says which are needed and fetches them, and they are unpacked without being installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from netdiag.errors import LabError, LabToolMissing

MERGED = ("bin", "sbin", "lib", "lib64")
"""Directories that are links into /usr on a Debian of today."""


def require() -> None:
    """Raise LabToolMissing where packages can be neither fetched nor unpacked."""
    for tool in ("apt-get", "dpkg-deb", "tar"):
        if shutil.which(tool) is None:
            raise LabToolMissing(f"{tool} is missing: what is unpacked are Debian packages, run it on Debian or Ubuntu")


def download(
    packages: Sequence[str], archives: Path, say: Callable[[str], None], *, complete: bool = False
) -> list[Path]:
    """Fetch packages and what they depend on into a directory of our own; gives the archives, in order of name.

    Args:
        packages: their names.
        archives: where they go; it is made.
        say: receives progress, a line each.
        complete: fetch all that a machine with nothing installed would need, not only what this one lacks.

    Raises:
        LabError: apt failed; the text is its own last line.
    """
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    listed = any(Path("/var/lib/apt/lists").glob("*Packages*"))
    if not listed:
        _update(say)
    command = ["apt-get", "-q", "-y", "--download-only", "--no-install-recommends"]
    command += ["-o", f"Dir::Cache::archives={archives}", "-o", "DPkg::Lock::Timeout=300"]
    # An account of apt's own downloads by default, and cannot write below a checkout in a home.
    command += ["-o", "APT::Sandbox::User=root"]
    if complete:
        nothing = archives / "nothing-installed"
        nothing.touch()
        # Nothing of this machine is read or changed but the lists, so that no lock is needed and any user can do it.
        command += ["-o", f"Dir::State::status={nothing}", "-o", "Debug::NoLocking=true"]
    say(f"downloading {'all' if complete else 'what this machine lacks'} of {len(packages)} packages")
    try:
        _run([*command, "install", *packages])
    except LabError:
        if not listed:
            raise
        _update(say)  # lists that are weeks old name versions that the archive no longer has
        _run([*command, "install", *packages])
    return sorted(archives.glob("*.deb"))


def _update(say: Callable[[str], None]) -> None:
    say("reading the package lists (apt-get update)")
    _run(["apt-get", "-q", "update"])


def merge_usr(root: Path) -> None:
    """Make a directory that packages can be unpacked into, laid out like a merged /usr."""
    for name in MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")


def unpack(archive: Path, root: Path) -> None:
    """Unpack one package's files; its scripts never run. LabError if it does not unpack."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE) as reader:
        command = ["tar", "-x", "--keep-directory-symlink", "-C", str(root)]
        done = subprocess.run(command, stdin=reader.stdout, capture_output=True, text=True, check=False)
    if done.returncode or reader.returncode:
        raise LabError(f"{archive.name} does not unpack: {_last_line(done.stderr)}")


def _run(command: list[str]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise LabError(f"{' '.join(command[:1])} failed: {_last_line(done.stderr or done.stdout)}")


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "it gave no reason"
