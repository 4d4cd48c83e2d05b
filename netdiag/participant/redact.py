"""What of the Docker Engine's answers may leave the host.

Environment variables, labels, command lines, mounts' options and registry credentials hold secrets in practice. They
are removed here, on the host, before an answer is made, so that no later mistake can write them anywhere.
"""

import re
from typing import Any, Dict

_DROPPED = frozenset(
    "Env Args Command Cmd Entrypoint Secrets Configs JoinTokens UnlockKey CAConfig Healthcheck Health LogConfig "
    "LogPath Mounts Privileges PluginSpec GraphDriver Tmpfs Volumes".split()
)
"""Keys that are dropped wherever they stand."""

_KEPT_BELOW = {
    "Config": frozenset("Hostname Domainname Image Labels NetworkDisabled ExposedPorts".split()),
    "HostConfig": frozenset(
        "NetworkMode PortBindings PublishAllPorts Dns DnsOptions DnsSearch ExtraHosts Privileged CapAdd CapDrop "
        "RestartPolicy Links".split()
    ),
    "ContainerSpec": frozenset("Image Hostname DNSConfig Hosts".split()),
}
"""Objects of which only these keys are kept."""

_DOCKERS_OWN = ("com.docker.", "org.projectcalico.")
_OPTION_NAMES = frozenset(("encrypted", "parent", "macvlan_mode", "ipvlan_mode", "ipvlan_flag"))
_OPTION_KEYS = frozenset(("Labels", "Options", "DriverOpts", "DriverConfig"))
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/@\s]+@")
_BARE_USERINFO = re.compile(r"^[^/@\s:]+:[^/@\s]+@")


def redact(value: Any) -> Any:
    """The engine's answer without what may be secret. Lists and objects are copied, the argument is not changed."""
    if isinstance(value, dict):
        return {key: _member(key, item) for key, item in value.items() if key not in _DROPPED}
    if isinstance(value, list):
        return [redact(item) for item in value]
    if isinstance(value, str):
        return mask_userinfo(value)
    return value


def _member(key: str, item: Any) -> Any:
    if key in _OPTION_KEYS:
        return _options(item)
    kept = _KEPT_BELOW.get(key)
    if kept is not None and isinstance(item, dict):
        item = {name: inner for name, inner in item.items() if name in kept}
    if key in ("HttpProxy", "HttpsProxy", "HTTPProxy", "HTTPSProxy") and isinstance(item, str):
        return _BARE_USERINFO.sub("***@", mask_userinfo(item))  # a proxy may be given without a scheme
    return redact(item)


def _options(item: Any) -> Any:
    """Labels and driver options: those of the engine itself; an operator's own may say anything."""
    if not isinstance(item, dict):
        return None  # an engine's own labels come as a list of "name=value"
    kept: Dict[str, Any] = {}
    for name, inner in item.items():
        if name.startswith(_DOCKERS_OWN) or name in _OPTION_NAMES:
            kept[name] = redact(inner)
    return kept


def mask_userinfo(text: str) -> str:
    """``text`` with the user and password of every URL in it replaced by ``***``."""
    return _USERINFO.sub(r"\g<scheme>***@", text)
