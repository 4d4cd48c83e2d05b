"""What the host's own tools make of its saved rules, and what firewalld says of its two configurations.

Saved files are loaded in a scratch network namespace and listed there, so that running and saved rules are spelt by the
same tool. Nothing is loaded that could bring a kernel module in, unless the operator allows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from netdiag.facts.context import Context, absence, files_request
from netdiag.facts.saved_modules import Modules, modules_of, modules_request
from netdiag.firewall import saved_ufw as ufw
from netdiag.firewall.saved_commands import FILES
from netdiag.firewall.saved_sources import FIREWALLD, IPTABLES, NFTABLES, PERSISTENT, UFW
from netdiag.model.facts import Backend, FirewallSaved
from netdiag.model.firewall_diff import FirewalldTold, SavedLoad, SavedLoads
from netdiag.model.wire import Answer, Gather, Request

_TIMEOUT_S = 8.0
_ASKED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("zones", ("--list-all-zones",)),
    ("permanent_zones", ("--permanent", "--list-all-zones")),
    ("policies", ("--list-all-policies",)),
    ("permanent_policies", ("--permanent", "--list-all-policies")),
    ("direct", ("--direct", "--get-all-rules")),
    ("permanent_direct", ("--permanent", "--direct", "--get-all-rules")),
    ("default_zone", ("--get-default-zone",)),
)
_SETS = {PERSISTENT: "/etc/iptables/ipsets", IPTABLES: "/etc/sysconfig/ipset"}
_NFT_FILES = ("/etc/sysconfig/nftables.conf", "/etc/nftables.conf")
"""Red Hat's unit loads the first, Debian's the second; a host has one of them."""
_DEVICES = re.compile(r"\bdevices?\s*=?\s*(\{[^}$]*\}|[\"\w.@-]+)")
_ENGINE_SOCKET = ("/run/docker.soc[k]",)
"""As a pattern: it is then no error where it is not there."""
_DOS = "{} has DOS line ends: iptables-restore refuses such a file, so that nothing of it is loaded"
_INCLUDE = re.compile(r'^\s*include\s+"([^"]+)"', re.MULTILINE)


class _Plan(NamedTuple):
    """One load: what it is of, and the request, or the reason why it is not asked."""

    load: SavedLoad
    request: Request | None


def gather_loads(context: Context, saved: FirewallSaved, release: str) -> Gather[SavedLoads]:
    """Load everything that is saved where nobody uses it, and ask firewalld; two rounds."""
    version, there, engine = yield [
        Request("command", {"argv": ["iptables", "--version"]}, 2.0),
        modules_request(release),
        files_request(_ENGINE_SOCKET, limit_bytes=1),
    ]
    plain = _plain(version)
    plans = list(_plans(context, saved, plain, modules_of(there)))
    asked = _ASKED if any(service.name == FIREWALLD and service.active for service in saved.services) else ()
    answers = list(
        (
            yield [
                *(plan.request for plan in plans if plan.request is not None),
                *(Request("command", {"argv": ["firewall-cmd", *words]}, _TIMEOUT_S) for _, words in asked),
            ]
        )
    )
    loads = [plan.load if plan.request is None else _loaded(plan.load, answers.pop(0)) for plan in plans]
    # A socket is no file that could be read; that it cannot be says that it is there.
    sockets = engine.data.get("errors", {}) if engine.data is not None else {}
    told = _told(answers) if asked else None
    return SavedLoads(plain=plain, engine=bool(sockets), loads=tuple(loads), firewalld=told)


def _plain(answer: Answer) -> Backend | None:
    """Which variant the name iptables stands for; it was always legacy before 1.8.0."""
    if answer.data is None or answer.data["code"] != 0:
        return None
    return Backend.IPTABLES_NFT if "nf_tables" in answer.data["stdout"] else Backend.IPTABLES_LEGACY


def _plans(context: Context, saved: FirewallSaved, plain: Backend | None, modules: Modules) -> Iterator[_Plan]:
    found = {rules.path: rules.text for rules in saved.rules}
    backend = plain or Backend.IPTABLES_LEGACY
    for (mechanism, family), path in FILES.items():
        if path in found:
            raw = found[path].replace("\r", "")
            reason = _DOS.format(path) if raw != found[path] else ""
            load = SavedLoad(mechanism=mechanism, file=path, backend=backend, family=family, raw=raw, reason=reason)
            tool = "ip6tables" if family == 6 else "iptables"
            sets = found.get(_SETS[mechanism], "")
            steps = [{"argv": ["ipset", "restore"], "text": sets}] if sets.strip() else []
            steps.append({"argv": [f"{tool}-restore"], "text": raw})
            yield _plan(context, load, steps, f"{tool}-save", modules, also=sets)
    yield from _ufw_plans(context, found, backend, modules)
    for mechanism, path in _SETS.items():
        if path in found:
            load = SavedLoad(mechanism=mechanism, file=path, backend=Backend.IPSET, family=0, raw=found[path])
            steps = [{"argv": ["ipset", "restore"], "text": found[path]}]
            yield _plan(context, load, steps, "ipset save", modules)
    path = next((path for path in _NFT_FILES if path in found), "")
    if path:
        yield _nft_plan(context, path, found, modules)


def _ufw_plans(context: Context, found: Mapping[str, str], backend: Backend, modules: Modules) -> Iterator[_Plan]:
    for family in (4, 6):
        parts = ufw.fragments(found, family)
        if not parts or (family == 6 and not ufw.has_ipv6(found.get("/etc/default/ufw", "IPV6=yes"))):
            continue
        texts = ufw.steps(found, family)
        load = SavedLoad(mechanism=UFW, file="/etc/ufw", backend=backend, family=family, raw="\n".join(texts))
        tool = "ip6tables" if family == 6 else "iptables"
        steps = [{"argv": [f"{tool}-restore", "-n"], "text": text} for text in texts]
        yield _plan(context, load, steps, f"{tool}-save", modules)


def _nft_plan(context: Context, path: str, found: Mapping[str, str], modules: Modules) -> _Plan:
    raw = found[path]
    load = SavedLoad(mechanism=NFTABLES, file=path, backend=Backend.NFT_NATIVE, family=0, raw=raw)
    included = "\n".join(text for name, text in found.items() if "/nftables" in name and name != path)
    unseen = [name for name in _INCLUDE.findall(raw) if not _is_read(name, found)]
    if unseen and not modules.locked and not context.options.load_modules:
        reason = f"load {path} to compare it: it includes {unseen[0]}, which could load a kernel module"
        return _Plan(_because(load, f"{reason} (--load-modules)"), None)
    steps = [{"argv": ["nft", "-f", path]}]
    plan = _plan(context, load, steps, "nft -s list ruleset", modules, also=included)
    devices = [name for names in _DEVICES.findall(f"{raw}\n{included}") for name in re.findall(r"[\w.@-]+", names)]
    kind = next((kind for kind in ("dummy", "bridge", "veth") if context.present(kind)), "")
    if plan.request is None or not devices or not kind:
        return plan
    # A chain of the family netdev cannot be made without its device.
    params = {**plan.request.params, "devices": sorted(set(devices)), "device_kind": kind}
    return _Plan(load, Request("scratch-rules", params, _TIMEOUT_S))


def _is_read(pattern: str, found: Mapping[str, str]) -> bool:
    """Whether the files of an include are among those that were read."""
    start = pattern.partition("*")[0]
    return any(path.startswith(start) for path in found)


def _plan(
    context: Context, load: SavedLoad, steps: list[dict[str, Any]], lister: str, modules: Modules, also: str = ""
) -> _Plan:
    """Ask for a load, or say what it could load into the kernel."""
    missing = modules.missing(load.backend, load.family, load.raw + ("\n" + also if load.family == 0 else ""))
    if also and load.family:
        missing += modules.missing(Backend.IPSET, 0, also)
    features = {
        Backend.IPTABLES_NFT: ("nf_tables", "nft_compat"),
        Backend.IPTABLES_LEGACY: ("ip6_tables" if load.family == 6 else "ip_tables",),
        Backend.NFT_NATIVE: ("nf_tables",),
        Backend.IPSET: ("ip_set",),
    }[load.backend]
    missing = (*(name for name in features if not context.present(name)), *missing)
    if missing and not context.options.load_modules:
        words = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
        return _Plan(_because(load, f"load {load.file} to compare it: it could load {words} (--load-modules)"), None)
    params = {"steps": steps, "list": lister.split(), "may_load": True}
    return _Plan(load, Request("scratch-rules", params, _TIMEOUT_S))


def _loaded(load: SavedLoad, answer: Answer) -> SavedLoad:
    if answer.data is None:
        return _because(load, absence(answer).text)
    if answer.data["failed"] is not None:
        said = [line.strip() for line in answer.data["stderr"].splitlines() if line.strip()]
        # nft says first where a file was included from, then what is wrong in it.
        reason = next((line for line in said if "Error: " in line), said[0] if said else "no reason given")
        return _because(load, f"{load.file} does not load: {reason}")
    return msgspec.structs.replace(load, text=answer.data["stdout"])


def _because(load: SavedLoad, reason: str) -> SavedLoad:
    return msgspec.structs.replace(load, reason=" ".join(reason.split()))


def _told(answers: list[Answer]) -> FirewalldTold:
    said: dict[str, str] = {}
    failed: list[str] = []
    for (name, words), answer in zip(_ASKED, answers, strict=True):
        if answer.data is not None and answer.data["code"] == 0:
            said[name] = answer.data["stdout"]
        else:
            lines = answer.data["stderr"].strip().splitlines() if answer.data is not None else [absence(answer).text]
            failed.append(f"firewall-cmd {' '.join(words)}: {lines[0] if lines else 'no reason given'}")
    return FirewalldTold(failed=tuple(failed), **said)
