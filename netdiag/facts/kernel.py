"""Kernel features, from what the kernel shows of itself; nothing is loaded to find out."""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Mapping

from netdiag.facts.features import FEATURES, FeatureSource
from netdiag.facts.identity import gather_release
from netdiag.facts.reading import text, texts
from netdiag.model.facts import Feature, FeatureState, Kernel, Section
from netdiag.model.wire import Gather, Request

_CONFIG = "/proc/config.gz"
_SET = re.compile(r"^CONFIG_(\w+)=([ym])$", re.MULTILINE)
_LARGEST_CONFIG_BYTES = 8 << 20
_GZIP_WINDOW = 31
"""zlib's number for "with a gzip header"."""


def gather_kernel() -> Gather[Section[Kernel]]:
    """Every feature of `FEATURES`: by configuration, lists of built-in parts and modules, and traces of use."""
    release = yield from gather_release()
    directory = f"/lib/modules/{release}"
    packed, files, modules = yield [
        Request("file", {"path": _CONFIG, "binary": True}),
        Request(
            "files",
            {
                "globs": [
                    f"/boot/config-{release}",
                    f"{directory}/config",
                    f"{directory}/modules.builtin",
                    "/proc/modules",
                ],
                "limit_bytes": _LARGEST_CONFIG_BYTES,
            },
        ),
        Request("file", {"path": f"{directory}/modules.dep", "limit_bytes": _LARGEST_CONFIG_BYTES}),
    ]
    read = texts(files)
    config, origin = _configuration(packed.data["bytes"] if packed.data is not None else b"", read, release, directory)
    present = yield from _witnesses()
    found = {
        source.name: _state(
            source,
            symbols=_symbols(config),
            origin=origin,
            builtin=_module_names(read.get(f"{directory}/modules.builtin", "")),
            loaded={line.split(" ", 1)[0] for line in read.get("/proc/modules", "").splitlines()},
            loadable=_module_names(text(modules)) if modules.data is not None else None,
            has_modules="/proc/modules" in read,
            present=present,
        )
        for source in FEATURES
    }
    return Section(value=Kernel(features=found))


def _witnesses() -> Gather[frozenset[str]]:
    paths = [source.witness for source in FEATURES if source.witness]
    answers = yield [Request("exists", {"paths": paths})]
    (answer,) = answers
    return frozenset(answer.data["existing"]) if answer.data is not None else frozenset()


def _configuration(packed: bytes, read: Mapping[str, str], release: str, directory: str) -> tuple[str, str]:
    """The kernel's configuration as text and where it came from; both empty where it shows none."""
    if packed:
        try:
            unpacked = zlib.decompressobj(_GZIP_WINDOW).decompress(packed, _LARGEST_CONFIG_BYTES)
            return unpacked.decode("utf-8", "replace"), _CONFIG
        except zlib.error:
            pass
    for path in (f"/boot/config-{release}", f"{directory}/config"):
        if read.get(path):
            return read[path], path
    return "", ""


def _symbols(config: str) -> dict[str, str]:
    return dict(_SET.findall(config))


def _module_names(listing: str) -> frozenset[str]:
    """Names of modules in modules.builtin or modules.dep, with underscores as the kernel has them."""
    names = (line.partition(":")[0].rpartition("/")[2].partition(".ko")[0] for line in listing.splitlines())
    return frozenset(name.replace("-", "_") for name in names if name)


def _state(
    source: FeatureSource,
    *,
    symbols: Mapping[str, str],
    origin: str,
    builtin: Collection[str],
    loaded: Collection[str],
    loadable: Collection[str] | None,
    has_modules: bool,
    present: Collection[str],
) -> Feature:
    chosen = next(((symbol, symbols[symbol]) for symbol in source.symbols if symbol in symbols), None)
    setting = f"CONFIG_{chosen[0]}={chosen[1]} in {origin}" if chosen is not None else ""
    why = "its file is not installed" if has_modules else "this kernel has no modules"
    # In the order of what each proves: what runs, what was compiled in, what could be loaded, what is not there.
    readings = (
        (source.module in loaded, FeatureState.LOADED, f"{source.module} in /proc/modules"),
        (chosen is not None and chosen[1] == "y", FeatureState.BUILTIN, setting),
        (source.module in builtin, FeatureState.BUILTIN, f"{source.module} in modules.builtin"),
        (source.witness in present, FeatureState.LOADED, f"{source.witness} exists"),
        (source.module in (loadable or ()), FeatureState.LOADABLE, f"{source.module} in modules.dep, not loaded"),
        (bool(origin) and chosen is None, FeatureState.MISSING, f"CONFIG_{source.symbols[0]} is not set in {origin}"),
        (chosen is not None, FeatureState.MISSING, f"{setting}, but {why}"),
        (
            loadable is not None and bool(builtin),
            FeatureState.MISSING,
            f"{source.module} is neither in modules.builtin nor in modules.dep",
        ),
        (True, FeatureState.UNKNOWN, "the kernel shows neither its configuration nor lists of its modules"),
    )
    state, evidence = next((state, evidence) for holds, state, evidence in readings if holds)
    return Feature(name=source.name, state=state, evidence=evidence)
