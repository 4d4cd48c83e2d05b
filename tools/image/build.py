"""Puts the image together: a layer of packages, which is kept, and a layer of netdiag itself, made anew each time."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path

import msgspec

from netdiag.lab import docker_archive
from netdiag.lab.docker_archive import ARCHITECTURES, Layer, compressed
from netdiag.lab.root import CHECKOUT, location, locked
from tools.image import contents, enter, inputs, layers
from tools.image.inputs import Say
from tools.image.layers import compile_modules, layer

EPOCH_S = 1_704_067_200
"""2024-01-01: the time of every file in the image, unless SOURCE_DATE_EPOCH is before it."""

_LAYER, _DIFF_ID = "layer.tar.gz", "diff-id"
_STEPS = ("the packages of Debian and of PyPI", "netdiag")


class Built(msgspec.Struct, frozen=True):
    """An image that was written."""

    file: Path
    tags: tuple[str, ...]
    bytes_: int
    digest: str
    """Of the file, so that two builds can be compared."""


def default_file() -> Path:
    """Where ``make image`` leaves the image."""
    return CHECKOUT / "dist" / f"netdiag-image-{_version()}.tar"


def build(file: Path, say: Say, *, fresh: bool = False) -> Built:
    """Build the image into a file.

    Args:
        file: what is written, at the end and in one step.
        say: receives progress, a line each.
        fresh: fetch the packages again, though those of an earlier build are there.

    Raises:
        LabToolMissing: this machine has no apt, or its Debian is too old.
        NotFetched: a registry could not be reached, or lacks something.
        LabError: something cannot be unpacked or compiled.
    """
    directory = _prepared(say, fresh=fresh)
    say("building netdiag's own layer")
    with tempfile.TemporaryDirectory(prefix="netdiag-image-") as temporary:
        root = Path(temporary, "root")
        contents.unpack_wheel(inputs.own_wheel(directory, Path(temporary)), root)
        contents.console(root, Path(enter.__file__))
        compile_modules(directory / "root", [root / "usr/lib/python3/dist-packages"])
        own = compressed(layer(root, _modified_s()))
    tags = (f"netdiag:{_version()}", "netdiag:latest")
    image = docker_archive.pack(
        tags,
        [Layer((directory / _LAYER).read_bytes(), (directory / _DIFF_ID).read_text(encoding="utf-8")), own],
        architecture=ARCHITECTURES.get(platform.machine(), platform.machine()),
        created=_created(),
        config=_config(),
        history=_STEPS,
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.write_bytes(image)
    partial.rename(file)
    return Built(file=file, tags=tags, bytes_=len(image), digest=hashlib.sha256(image).hexdigest())


def _prepared(say: Say, *, fresh: bool) -> Path:
    """The directory with the inputs and the lower layer; made if it is not there."""
    location().mkdir(parents=True, exist_ok=True)
    directory = location() / f"image-{_kind()}"
    with locked(location()):
        if fresh:
            inputs.clear(directory)
        if directory.is_dir():
            say(f"using the packages in {directory}")
            return directory
        unfinished = location() / "image-unfinished"
        inputs.clear(unfinished)
        inputs.fetch(unfinished, say)
        say("laying out the packages")
        contents.compose(inputs.fetched(unfinished), unfinished / "packages", unfinished / "root")
        compile_modules(unfinished / "root", [unfinished / "root/usr/lib"])
        lower = compressed(layer(unfinished / "root", _modified_s()))
        (unfinished / _LAYER).write_bytes(lower.blob)
        (unfinished / _DIFF_ID).write_text(lower.diff_id, encoding="utf-8")
        inputs.clear(unfinished / "packages")
        for outdated in location().glob("image-*"):
            if outdated != unfinished:
                inputs.clear(outdated)
        unfinished.rename(directory)
    return directory


def _kind() -> str:
    """Stands for what the lower layer depends on but the registries: the lists, and how they are used."""
    known = [platform.machine(), str(_modified_s()), *inputs.PACKAGES, *inputs.dependencies()]
    sources = [Path(str(module.__file__)).read_bytes() for module in (inputs, contents, layers, docker_archive)]
    return hashlib.sha256("\n".join(known).encode() + b"".join(sources)).hexdigest()[:12]


def _version() -> str:
    return msgspec.convert(inputs.project()["version"], str)


def _modified_s() -> int:
    return min(EPOCH_S, int(os.environ.get("SOURCE_DATE_EPOCH", EPOCH_S)))


def _created() -> str:
    """SOURCE_DATE_EPOCH, else the time of the checkout's commit, so that the same source is of the same time."""
    moment = int(os.environ.get("SOURCE_DATE_EPOCH") or _git("show", "-s", "--format=%ct", "HEAD") or EPOCH_S)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def _git(*words: str) -> str:
    """What git says of the checkout; empty where there is no git, or no repository."""
    try:
        done = subprocess.run(["git", "-C", str(CHECKOUT), *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _config() -> dict[str, object]:
    labels = {
        "title": "netdiag",
        "description": msgspec.convert(inputs.project()["description"], str),
        "version": _version(),
        "revision": _git("rev-parse", "HEAD"),
        "created": _created(),
        "base.name": "scratch",
    }
    return {
        "Entrypoint": ["/usr/bin/python3", "-I", "-S", "/usr/lib/netdiag/enter.py"],
        "Cmd": ["--help"],
        "Env": [f"PATH={':'.join(enter.SYSTEM_PATH[:6])}", "LANG=C.UTF-8"],
        "WorkingDir": "/",
        "Labels": {f"org.opencontainers.image.{key}": value for key, value in labels.items() if value},
    }
