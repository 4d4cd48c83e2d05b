"""Archives that ``docker load`` and OCI tools read: the same bytes from the same layers and configuration.

The blobs lie where the OCI image layout has them (image-spec, image-layout.md), and ``manifest.json`` names them for
engines that know only the older form (docker save before 25).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""What images call a processor, by what the kernel calls it."""

_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


class Layer(NamedTuple):
    """A layer as an archive holds it."""

    blob: bytes
    """The tar archive, compressed with gzip."""
    diff_id: str
    """The digest of the tar archive itself, by which engines know a layer that they have."""


def compressed(tar: bytes, level: int = 6) -> Layer:
    """A layer from its tar archive; the same bytes at any time."""
    return Layer(gzip.compress(tar, compresslevel=level, mtime=0), f"sha256:{hashlib.sha256(tar).hexdigest()}")


def pack(
    tags: Sequence[str],
    layers: Sequence[Layer],
    *,
    architecture: str,
    created: str,
    config: Mapping[str, Any],
    history: Sequence[str],
) -> bytes:
    """An image as one file.

    Args:
        tags: its names, such as ``netdiag:0.1.0``.
        layers: the lowest first.
        architecture: one of the values of `ARCHITECTURES`.
        created: RFC 3339, shown by ``docker images``.
        config: what a container gets (``Entrypoint``, ``Env``, ``Labels`` …).
        history: what made each layer, a line each.
    """
    blobs: dict[str, bytes] = {}

    def add(content: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    described = [add(layer.blob, _LAYER_TYPE) for layer in layers]
    whole = {
        "architecture": architecture,
        "os": "linux",
        "created": created,
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": created, "created_by": line} for line in history],
    }
    described_config = add(_json(whole), _CONFIG_TYPE)
    manifest = {"schemaVersion": 2, "mediaType": _MANIFEST_TYPE, "config": described_config, "layers": described}
    described_manifest = add(_json(manifest), _MANIFEST_TYPE)
    names = [{"io.containerd.image.name": _full(tag), "org.opencontainers.image.ref.name": tag} for tag in tags]
    index = {"schemaVersion": 2, "manifests": [{**described_manifest, "annotations": name} for name in names]}
    older = {"Config": _place(described_config), "RepoTags": list(tags), "Layers": [_place(each) for each in described]}
    files = {
        **dict(sorted(blobs.items())),
        "index.json": _json(index),
        "manifest.json": _json([older]),
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _place(description: Mapping[str, Any]) -> str:
    return f"blobs/{description['digest'].replace(':', '/')}"


def _full(tag: str) -> str:
    """A name as containerd spells it: with its registry and, for a name of one word, the library of that."""
    return f"docker.io/{tag}" if "/" in tag.partition(":")[0] else f"docker.io/library/{tag}"


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
