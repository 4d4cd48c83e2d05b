"""The images that labs run: a root made of the machine's busybox, and one with a real sshd beside it."""

from __future__ import annotations

import io
import os
import platform
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from netdiag.errors import LabToolMissing
from netdiag.lab.docker_archive import ARCHITECTURES, compressed, pack
from netdiag.lab.topology import BUSYBOX_IMAGE, SSHD_IMAGE

_EPOCH = "2024-01-01T00:00:00Z"
_DIRECTORIES = ("bin", "etc", "tmp", "root", "var")
_SSH_DIRECTORIES = (
    "etc/ssh",
    "lib",
    "lib64",
    "root/.ssh",
    "run",
    "run/sshd",
    "usr",
    "usr/bin",
    "usr/sbin",
    "var/empty",
)
_SSH_PROGRAMS = ("usr/sbin/sshd", "usr/bin/ssh")
_SSHD_CONFIG = "PermitRootLogin prohibit-password\nPidFile none\n"
_SSH_CONFIG = (
    "BatchMode yes\nConnectTimeout 5\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n"
)
_LIBRARY = re.compile(r"^\s*(?:\S+ => )?(/\S+) \(0x[0-9a-f]+\)$", re.MULTILINE)


def archive(name: str, lab_root: Path) -> bytes:
    """A ``docker load`` archive of one of the lab's images.

    Raises:
        LabToolMissing: a program that goes into it is neither in the lab's root nor on this machine.
    """
    return _ARCHIVES[name](lab_root)


def busybox_archive(lab_root: Path) -> bytes:
    """A ``docker load`` archive of the image `BUSYBOX_IMAGE`; its id depends on the contents only."""
    return _archive(BUSYBOX_IMAGE, _layer(_busybox(lab_root), {}, ()), ("/bin/sh",))


def sshd_archive(lab_root: Path) -> bytes:
    """The image `SSHD_IMAGE`: busybox, Debian's sshd and ssh with their libraries, and keys of its own.

    Whoever runs the image may log in as root to whoever else does: its keys are made for this archive and no other.
    """
    files: dict[str, tuple[bytes, int]] = {
        "etc/ssh/sshd_config": (_SSHD_CONFIG.encode(), 0o644),
        "etc/ssh/ssh_config": (_SSH_CONFIG.encode(), 0o644),
    }
    for program in _SSH_PROGRAMS:
        path = _found(lab_root, program)
        files[program] = (path.read_bytes(), 0o755)
        for library in _libraries(lab_root, path):
            at = f"lib/{library.name}" if not library.name.startswith("ld-") else str(library).lstrip("/")
            files[at] = (library.read_bytes(), 0o755)
    host_key, _ = _key_pair(lab_root)
    own_key, public = _key_pair(lab_root)
    files["etc/ssh/ssh_host_ed25519_key"] = (host_key, 0o600)
    files["root/.ssh/id_ed25519"] = (own_key, 0o600)
    files["root/.ssh/authorized_keys"] = (public, 0o600)
    layer = _layer(_busybox(lab_root), files, _SSH_DIRECTORIES)
    return _archive(SSHD_IMAGE, layer, ("/usr/sbin/sshd", "-D", "-e"))


_ARCHIVES: Mapping[str, Callable[[Path], bytes]] = {BUSYBOX_IMAGE: busybox_archive, SSHD_IMAGE: sshd_archive}


def _found(lab_root: Path, program: str) -> Path:
    for path in (lab_root / program, Path("/") / program):
        if path.is_file():
            return path
    raise LabToolMissing(f"{program.rpartition('/')[2]} is missing: run netdiag lab install")


def _busybox(lab_root: Path) -> Path:
    for binary in (lab_root / "usr/bin/busybox", lab_root / "bin/busybox", Path("/bin/busybox")):
        if binary.is_file():
            return binary
    raise LabToolMissing("busybox is missing: run netdiag lab install")


def _libraries(lab_root: Path, program: Path) -> list[Path]:
    """The libraries of a program, those of the lab's root before the machine's."""
    directories = sorted({str(path.parent) for path in lab_root.glob("usr/lib/*/lib*.so*")})
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(directories)}
    listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True, env=environment).stdout
    return [Path(path) for path in _LIBRARY.findall(listed)]


def _key_pair(lab_root: Path) -> tuple[bytes, bytes]:
    """A fresh private key and its public half."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "key")
        program = _found(lab_root, "usr/bin/ssh-keygen")
        subprocess.run([str(program), "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
        return path.read_bytes(), path.with_suffix(".pub").read_bytes()


def _archive(name: str, layer: bytes, command: tuple[str, ...]) -> bytes:
    return pack(
        (name,),
        (compressed(layer, level=1),),
        architecture=ARCHITECTURES.get(platform.machine(), platform.machine()),
        created=_EPOCH,
        config={"Cmd": list(command), "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},
        history=("netdiag lab",),
    )


def _layer(binary: Path, files: Mapping[str, tuple[bytes, int]], directories: tuple[str, ...]) -> bytes:
    applets = subprocess.run([str(binary), "--list"], capture_output=True, text=True, check=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        for directory in (*_DIRECTORIES, *directories):
            entry = tarfile.TarInfo(directory)
            # sshd trusts neither a key nor a home that others might have written.
            private = directory in ("root/.ssh", "var/empty")
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if directory == "tmp" else 0o700 if private else 0o755
            layer.addfile(entry)
        _add(layer, "bin/busybox", binary.read_bytes(), 0o755)
        _add(layer, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nsshd:x:971:971::/var/empty:/bin/false\n")
        _add(layer, "etc/group", b"root:x:0:\nsshd:x:971:\n")
        for name, (content, mode) in files.items():
            _add(layer, name, content, mode)
        for applet in applets:
            if applet != "busybox":
                entry = tarfile.TarInfo(f"bin/{applet}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                layer.addfile(entry)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))
