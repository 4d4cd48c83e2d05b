"""The image that labs run: a root made of the machine's busybox, the same bytes for every engine."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

from netdiag.errors import LabToolMissing
from netdiag.lab.topology import BUSYBOX_IMAGE

_EPOCH = "2024-01-01T00:00:00Z"


def busybox_archive(lab_root: Path) -> bytes:
    """A ``docker load`` archive of the image `BUSYBOX_IMAGE`; its id depends on the contents only.

    Raises:
        LabToolMissing: there is no static busybox in the lab's root and on this machine.
    """
    for binary in (lab_root / "usr/bin/busybox", lab_root / "bin/busybox", Path("/bin/busybox")):
        if binary.is_file():
            break
    else:
        raise LabToolMissing("busybox is missing: run netdiag lab install")
    layer = _layer(binary)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": _EPOCH,
        "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": [{"created": _EPOCH, "created_by": "netdiag lab"}],
    }
    config_bytes = json.dumps(config).encode()
    config_name = f"{hashlib.sha256(config_bytes).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [BUSYBOX_IMAGE], "Layers": ["layer.tar"]}]
    return _tar({config_name: config_bytes, "layer.tar": layer, "manifest.json": json.dumps(manifest).encode()})


def _layer(binary: Path) -> bytes:
    applets = subprocess.run([str(binary), "--list"], capture_output=True, text=True, check=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for directory in ("bin", "etc", "tmp", "root", "var"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if directory == "tmp" else 0o755
            archive.addfile(entry)
        _add(archive, "bin/busybox", binary.read_bytes(), 0o755)
        _add(archive, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        _add(archive, "etc/group", b"root:x:0:\n")
        for applet in applets:
            if applet != "busybox":
                entry = tarfile.TarInfo(f"bin/{applet}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(entry)
    return buffer.getvalue()


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            _add(archive, name, content)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))
