"""Kernel features from what the kernel and its module directory say, loading nothing.

Evidence in this order: a loaded module, the configuration, modules.builtin, modules.dep, a file of /proc that only the
feature makes. Creating a device proves one as well, but loads its module: it is the last resort, and only where no
module can be loaded (or the operator allows it).
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from typing import NamedTuple

from netdiag.facts.context import Context, files_request, missing, texts
from netdiag.facts.features import FEATURES, FeatureSpec, Part
from netdiag.model.facts import Feature, FeatureState, Kernel, Section
from netdiag.model.wire import Answer, Gather, Request

_RELEASE = "/proc/sys/kernel/osrelease"
_MODULES = "/proc/modules"
_DISABLED = "/proc/sys/kernel/modules_disabled"
_TAINTED = "/proc/sys/kernel/tainted"
_CONFIG_GZ = "/proc/config.gz"
_WORST = (
    FeatureState.MISSING,
    FeatureState.UNKNOWN,
    FeatureState.LOADABLE,
    FeatureState.LOADED,
    FeatureState.BUILTIN,
)


class Evidence(NamedTuple):
    """What was read; None for what could not be."""

    config: Mapping[str, str] | None
    config_path: str
    loaded: frozenset[str]
    builtin: frozenset[str] | None
    loadable: frozenset[str] | None
    files: Mapping[str, str]


def gather_kernel(context: Context) -> Gather[Section[Kernel]]:
    """Every feature of `FEATURES` with its state and the evidence for it."""
    proofs = sorted({part.proof[0] for feature in FEATURES for part in feature.parts if part.proof[0]})
    first, packed = yield [
        files_request([_RELEASE, _MODULES, _DISABLED, _TAINTED, *proofs]),
        Request("file", {"path": _CONFIG_GZ, "binary": True}, 2.0),
    ]
    files = texts(first)
    release = files.get(_RELEASE, "").strip()
    if not release:
        return Section(absent=missing(f"read {_RELEASE}: nothing there"))
    lib = f"/lib/modules/{release}"
    config_path = f"/boot/config-{release}"
    paths = [config_path, f"{lib}/config", f"{lib}/modules.builtin", f"{lib}/modules.dep"]
    (second,) = yield [files_request(paths, limit_bytes=16 << 20)]
    disk = texts(second)
    config = _unpacked(packed)
    shown = _CONFIG_GZ
    if config is None:
        shown = next((path for path in paths[:2] if path in disk), "")
        config = disk.get(shown)
    evidence = Evidence(
        config=_settings(config) if config is not None else None,
        config_path=shown,
        loaded=frozenset(line.split()[0] for line in files.get(_MODULES, "").splitlines() if line),
        builtin=_names(disk.get(paths[2])),
        loadable=_names(disk.get(paths[3])),
        files=files,
    )
    features = {feature.name: judge(feature, evidence) for feature in FEATURES}
    cannot_load = _MODULES not in files or files.get(_DISABLED, "").strip() == "1"
    if cannot_load or context.options.load_modules:
        features.update((yield from _created(features)))
    return Section(value=Kernel(features=features, taints=files.get(_TAINTED, "").strip()))


def _created(features: Mapping[str, Feature]) -> Gather[dict[str, Feature]]:
    """Settle what is unknown by creating a device in a scratch namespace."""
    open_questions = [
        feature for feature in FEATURES if feature.device_kind and features[feature.name].state is FeatureState.UNKNOWN
    ]
    if not open_questions:
        return {}
    answers = yield [
        Request("create-device", {"kind": feature.device_kind, "may_load": True}, 2.0) for feature in open_questions
    ]
    settled: dict[str, Feature] = {}
    for feature, answer in zip(open_questions, answers, strict=True):
        if answer.data is None:
            continue
        if answer.data["created"]:
            text = f"a device of kind {feature.device_kind} was created in a scratch namespace"
            settled[feature.name] = Feature(name=feature.name, state=FeatureState.LOADED, evidence=text)
        elif answer.data["errno"] == 95:  # EOPNOTSUPP: the kernel does not know the kind
            text = f"create a device of kind {feature.device_kind}: {answer.data['text']}"
            settled[feature.name] = Feature(name=feature.name, state=FeatureState.MISSING, evidence=text)
    return settled


def judge(feature: FeatureSpec, evidence: Evidence) -> Feature:
    """One feature's state: that of its worst part."""
    found = [_part(part, evidence) for part in feature.parts]
    state, text = min(found, key=lambda item: _WORST.index(item[0]))
    return Feature(name=feature.name, state=state, evidence=text)


def _part(part: Part, evidence: Evidence) -> tuple[FeatureState, str]:
    for module in part.modules:
        if module in evidence.loaded:
            return FeatureState.LOADED, f"{module} in {_MODULES}"
    configured = ""
    for symbol in part.symbols:
        value = (evidence.config or {}).get(symbol, "")
        if value == "y":
            return FeatureState.BUILTIN, f"CONFIG_{symbol}=y in {evidence.config_path}"
        if value == "m":
            configured = configured or f"CONFIG_{symbol}=m in {evidence.config_path}"
    for module in part.modules:
        if module in (evidence.builtin or ()):
            return FeatureState.BUILTIN, f"{module} in modules.builtin"
    path, word = part.proof
    if path in evidence.files and word in evidence.files[path]:
        return FeatureState.LOADED, f"{path} shows {word or 'it'}"
    for module in part.modules:
        if module in (evidence.loadable or ()):
            return FeatureState.LOADABLE, f"{module} in modules.dep, not loaded"
    return _without(part, evidence, configured)


def _without(part: Part, evidence: Evidence, configured: str) -> tuple[FeatureState, str]:
    """The state of a part that nothing shows."""
    if configured:
        if evidence.loadable is None:
            return FeatureState.UNKNOWN, f"{configured}, and no modules.dep to look for the module in"
        return (
            FeatureState.MISSING,
            f"{configured}, but no such module below /lib/modules (a package of extra modules?)",
        )
    if evidence.config is not None:
        return FeatureState.MISSING, f"CONFIG_{part.symbols[0]} is not set in {evidence.config_path}"
    if part.modules and evidence.builtin is not None and evidence.loadable is not None:
        return FeatureState.MISSING, f"{part.modules[0]} neither in modules.builtin nor in modules.dep"
    return FeatureState.UNKNOWN, "no kernel configuration and no module directory can be read"


def _unpacked(answer: Answer) -> str | None:
    """The text of /proc/config.gz; None when it is not there or damaged."""
    packed = answer.data.get("bytes") if answer.data else None
    if not isinstance(packed, bytes):
        return None
    try:
        return gzip.decompress(packed).decode("utf-8", "replace")
    except (OSError, EOFError, zlib.error):
        return None


def _settings(text: str) -> dict[str, str]:
    """CONFIG_NAME=value lines, without CONFIG_."""
    lines = (line[7:].split("=", 1) for line in text.splitlines() if line.startswith("CONFIG_") and "=" in line)
    return {name: value.strip() for name, value in lines}


def _names(text: str | None) -> frozenset[str] | None:
    """Module names of a modules.builtin or modules.dep, with underscores as /proc/modules has them."""
    if text is None:
        return None
    paths = (line.split(":", 1)[0] for line in text.splitlines())
    return frozenset(path.rpartition("/")[2].split(".ko", 1)[0].replace("-", "_") for path in paths)
