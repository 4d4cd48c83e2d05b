"""Bundles on disk."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from netdiag.errors import BundleError, UsageError
from netdiag.facts import bundle as format_
from netdiag.facts import script_bundle
from netdiag.facts.bundle import Bundle
from netdiag.facts.script_text import is_script

PACKED_LIMIT_BYTES = 64 << 20


def write_bundle(path: Path, bundle: Bundle) -> int:
    """Write a bundle, readable by its owner only; returns its size in bytes.

    The file appears whole or not at all. Raises UsageError when the place cannot be written.
    """
    data = format_.encode(bundle)
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    except OSError as error:
        raise UsageError(f"write {path}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise UsageError(f"write {path}: {error.strerror}") from error
    return len(data)


def read_bundle(path: Path) -> Bundle:
    """A bundle from a file: one that netdiag wrote, or what the script for another admin's host printed.

    Raises BundleError, in one line that names the file, for whatever is wrong with it.
    """
    try:
        with path.open("rb") as file:
            data = file.read(PACKED_LIMIT_BYTES + 1)
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}") from error
    if len(data) > PACKED_LIMIT_BYTES:
        raise BundleError(f"{path}: more than {PACKED_LIMIT_BYTES >> 20} MiB; no bundle of netdiag is so large")
    if is_script(data):
        return script_bundle.decode(data, str(path))
    return format_.decode(data, str(path))
