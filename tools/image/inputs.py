"""What the image is made from: Debian's packages and PyPI's wheels, fetched once and kept.

`fetch` is the only part that needs a network. What it fetched is kept below the lab's directory under a name that stands
for the lists below, so that the next build is made from the same files, and needs no network.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import msgspec

from netdiag.errors import LabError, LabToolMissing
from netdiag.lab import debian
from netdiag.lab.root import CHECKOUT

Say = Callable[[str], None]

PACKAGES = ("base-files", "python3", "iptables", "nftables", "ipset", "iproute2", "openssh-client")
"""Debian's; apt adds what they need."""

LEFT_OUT = {"scapy": "GPL-2.0-only, which a redistributor of both has to heed (NOTICE); only tests import it"}
"""Dependencies that are not in the image, and why."""

OLDEST = (3, 11)
_REQUIREMENT = re.compile(r"[A-Za-z0-9._-]+")


class NotFetched(LabError):
    """Something could not be had from a registry; the text is the tool's own last line."""


class Inputs(msgspec.Struct, frozen=True):
    """Files that the image is made from."""

    archives: tuple[Path, ...]
    """Debian's packages."""
    wheels: tuple[Path, ...]
    """The dependencies."""
    python: str
    """The version that Debian's package is of, such as ``3.11``."""


def project() -> dict[str, object]:
    """The project's own description, the table ``project`` of pyproject.toml."""
    described: dict[str, object] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return described


def dependencies() -> tuple[str, ...]:
    """The requirements that go into the image."""
    listed = msgspec.convert(project()["dependencies"], tuple[str, ...])
    return tuple(each for each in listed if _name(each) not in LEFT_OUT)


def _name(requirement: str) -> str:
    found = _REQUIREMENT.match(requirement)
    assert found is not None  # noqa: S101 - pyproject.toml is ours, and pip reads it too
    return found[0].lower()


def fetch(directory: Path, say: Say) -> None:
    """Fetch all inputs into a directory.

    Raises:
        LabToolMissing: no apt, or a Python that is too old.
        NotFetched: Debian's archive or PyPI could not be reached, or lacks something.
    """
    debian.require()
    try:
        archives = debian.download(PACKAGES, directory / "archives", say, complete=True)
        python, libc = _version(archives, "python3-minimal"), _version(archives, "libc6")
        say(f"downloading the wheels of {len(dependencies())} dependencies")
        _fetch_wheels(directory, python, int(libc[1]))
    except LabToolMissing:
        raise
    except LabError as error:
        raise NotFetched(str(error)) from error


def _fetch_wheels(directory: Path, python: tuple[str, str], libc_minor: int) -> None:
    if tuple(map(int, python)) < OLDEST:
        raise LabToolMissing(f"this distribution's python3 is {'.'.join(python)}; the image needs Debian 12 or newer")
    wheels = directory / "wheels"
    # Those of which PyPI has only the source are built here; they must not need a compiler.
    _pip("wheel", "--no-deps", "--wheel-dir", str(wheels), *_source_only())
    target = ["--only-binary=:all:", "--implementation", "cp", "--python-version", ".".join(python)]
    target += ["--abi", f"cp{''.join(python)}", "--abi", "abi3", "--abi", "none"]
    for minor in range(libc_minor, 16, -1):
        target += ["--platform", f"manylinux_2_{minor}_{platform.machine()}"]
    _pip("download", "--dest", str(wheels), "--find-links", str(wheels), *target, *dependencies())
    # What builds netdiag's own wheel, so that the next build does without a network.
    _pip("download", "--dest", str(directory / "build"), "--only-binary=:all:", *_build_requirements())


def fetched(directory: Path) -> Inputs:
    """What `fetch` left there."""
    archives = tuple(sorted((directory / "archives").glob("*.deb")))
    wheels = tuple(sorted((directory / "wheels").glob("*.whl")))
    return Inputs(archives=archives, wheels=wheels, python=".".join(_version(archives, "python3-minimal")))


def own_wheel(directory: Path, into: Path) -> Path:
    """Build netdiag's wheel from the checkout, without a network, by what `fetch` left in a directory."""
    found = ["--no-index", "--find-links", str(directory / "build")]
    _pip("wheel", "--no-deps", "--wheel-dir", str(into), *found, str(CHECKOUT))
    return next(into.glob("netdiag-*.whl"))


def _source_only() -> list[str]:
    return [each for each in dependencies() if _name(each) == "python-etcd"]


def _build_requirements() -> list[str]:
    described = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    return msgspec.convert(described["build-system"]["requires"], list[str])


def _version(archives: list[Path] | tuple[Path, ...], package: str) -> tuple[str, str]:
    """The first two numbers of a package's version, from its archive's name (NAME_EPOCH%3aVERSION_ARCHITECTURE.deb)."""
    for archive in archives:
        found = re.match(rf"{re.escape(package)}_(?:\d+%3a)?(\d+)\.(\d+)", archive.name)
        if found is not None:
            return found[1], found[2]
    raise LabError(f"apt gave no {package}: the image cannot be made on this distribution")


def _pip(*words: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C.UTF-8"})
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or [done.stderr.strip()]
        raise LabError(f"pip {words[0]} failed: {lines[-1]}")


def clear(directory: Path) -> None:
    """Remove a directory and what is in it, if it is there."""
    shutil.rmtree(directory, ignore_errors=True)
