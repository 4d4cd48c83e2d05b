"""Directories as layers: the same bytes for the same files, whoever unpacked them and when."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from netdiag.errors import LabError

_MODES = {"tmp": 0o1777, "root": 0o700}


def layer(directory: Path, modified_s: int) -> bytes:
    """A layer with a directory's content: all of root's, in order of name, every file of one time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(directory.rglob("*")):
            entry = tarfile.TarInfo(path.relative_to(directory).as_posix())
            entry.mtime = modified_s
            if path.is_symlink():
                entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, str(path.readlink()), 0o777
                archive.addfile(entry)
            elif path.is_dir():
                entry.type, entry.mode = tarfile.DIRTYPE, _MODES.get(entry.name, 0o755)
                archive.addfile(entry)
            else:
                content = path.read_bytes()
                entry.size, entry.mode = len(content), 0o755 if path.stat().st_mode & 0o100 else 0o644
                archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def compile_modules(root: Path, directories: Sequence[Path]) -> None:
    """Compile a root's Python modules with the root's own interpreter, once for all: they never change afterwards.

    Args:
        root: holds the interpreter.
        directories: what to compile, in that root or in one that will lie over it.
    """
    libraries = next(path.parent for path in (root / "usr/lib").glob("*/libc.so.6"))
    python = root / "usr/bin" / (root / "usr/bin/python3").readlink()
    interpreter = [str(next(libraries.glob("ld-linux*"))), "--inhibit-cache", "--library-path", str(libraries)]
    interpreter += ["--argv0", str(python), str(python), "-B", "-s", "-S", "-P", "-W", "ignore"]
    for directory in directories:
        # -B: what the compiler itself imports is compiled like the rest, and not on its own.
        # Not by time, which would be another one in each build; the paths that they name are those in the image.
        words = ["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
        places = ["-s", str(_root_of(directory)), "-p", "/", str(directory)]
        # The order of names in sets that are constants follows the hashes of strings.
        environment = {"PYTHONHASHSEED": "0", "PATH": "/usr/bin:/bin"}
        done = subprocess.run(
            [*interpreter, *words, *places], capture_output=True, text=True, check=False, env=environment
        )
        if done.returncode:
            raise LabError(f"{directory} does not compile: {(done.stdout or done.stderr).strip()}")


def _root_of(directory: Path) -> Path:
    """The root that a directory below /usr/lib of it belongs to."""
    return next(parent.parent for parent in directory.parents if parent.name == "usr")
