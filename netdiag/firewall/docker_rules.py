"""Rules of the Docker Engine and of its swarm mode: which are theirs by their form alone, and what they serve.

In chains that everybody uses the engine's rules have no comment and few, fixed forms. A rule of another form that
names a bridge of the engine is the operator's.

Sources: recordings of 20.10.24; moby integration/network/bridge/iptablesdoc and nftablesdoc (generated), daemon/
libnetwork/drivers/overlay (matchVXLAN, programMangle, programInput), daemon/libnetwork/service_linux.go.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from netdiag.firewall.clues import Clues, plain_address
from netdiag.firewall.engine_view import EngineView, published_as
from netdiag.model.facts import HOST
from netdiag.model.firewall import Owner

ENCRYPTION_MARK = 0xD0C4E3
"""The mark of packets that a swarm's encrypted networks encrypt (moby drivers/overlay/encryption.go)."""

_U32 = re.compile(r"@(?:0xc|12)&0xffffff00=(0x[0-9a-f]+|[0-9]+)$", re.IGNORECASE)
_BYTECODE = re.compile(r",21 1 0 ([0-9]{1,8}),6 0 0 0,6 0 0 4294967295$")
_SET = re.compile(r"^docker-ext-bridges-v[46]$")
# Unpublished ports, internal networks (both ways), the second stage of isolation, containers that must not talk.
_OWN_DROPS = (("!-i", "-o"), ("!-s", "-o"), ("!-d", "-i"), ("-o",), ("-i", "-o"))
_PER_BRIDGE = re.compile(r"^(filter-forward|nat-postrouting)-(in|out)__(.+)$")
_NFT_COMMENTS = {
    "ICC": "traffic between its containers",
    "UNPUBLISHED PORT DROP": "unpublished ports",
    "OUTGOING": "outgoing traffic",
    "MASQUERADE": "masquerading",
}


def vni_of(rule: Clues) -> int | None:
    """The VNI that a rule asks for, by xt_u32 or by xt_bpf."""
    found = _U32.search(rule.matches.get("--u32", ""))
    if found:
        return int(found[1], 0) >> 8
    found = _BYTECODE.search(rule.matches.get("--bytecode", ""))
    return int(found[1]) if found else None


def owner_by_form(chain: str, rule: Clues, namespace: str, view: EngineView) -> Owner | None:
    """Docker or swarm where a rule in a chain that everybody uses has a form of theirs, else None."""
    if rule.comments:
        return None
    if namespace != HOST:
        return Owner.SWARM if _in_sandbox(chain, rule, namespace, view) else None
    if _encrypts(chain, rule):
        return Owner.SWARM
    incoming, outgoing = rule.matches.get("-i", ""), rule.matches.get("-o", "")
    not_in, not_out = rule.matches.get("!-i", ""), rule.matches.get("!-o", "")
    bridge = incoming or outgoing or not_in or not_out
    ours = view.is_bridge(bridge)
    if chain == "FORWARD":
        mine = (
            (ours and rule.asks("-i", "!-o") and incoming == not_out and rule.target == "ACCEPT")
            or (ours and rule.asks("-i", "-o") and incoming == outgoing and rule.target in ("ACCEPT", "DROP"))
            or (ours and rule.asks("-o", "--ctstate") and rule.target == "ACCEPT")
            or (rule.asks("--match-set", "--ctstate") and all(_SET.match(name) for name in rule.sets))
        )
    elif chain == "POSTROUTING":
        translates = rule.target in ("MASQUERADE", "SNAT")
        mine = translates and (
            (ours and (rule.asks("-s", "!-o") or rule.asks("-o", "--src-type")))
            or (rule.asks("-s", "-d", "-p", "--dport") and rule.matches["-s"] == rule.matches["-d"])
        )
    elif chain == "PREROUTING":
        local = rule.asks("-d", "!-i", "-p", "--dport") and not_in == "lo"
        loopback = local and rule.matches["-d"].startswith("127.") and _publishes(rule, view)
        direct = ours and (rule.asks("-d", "!-i") or rule.asks("-d", "!-i", "-p", "--dport"))
        mine = rule.target == "DROP" and (direct or loopback)
    else:
        mine = False
    return Owner.DOCKER if mine else None


def is_foreign_in_own_chain(chain: str, rule: Clues) -> bool:
    """Whether a rule in one of the engine's chains is not the engine's: its own have no comment and name a bridge."""
    if rule.comments or rule.target == "REJECT":
        return True
    devices = {"-i", "-o", "!-i", "!-o"} & set(rule.matches)
    of_bridges = bool(devices) or any(_SET.match(name) for name in rule.sets)
    if rule.target == "ACCEPT":
        return not of_bridges and chain != "DOCKER-INGRESS"
    return rule.target == "DROP" and not (any(rule.asks(*form) for form in _OWN_DROPS) or "--match-set" in rule.matches)


def serves(chain: str, rule: Clues, callers: Sequence[Clues], view: EngineView) -> str:
    """What a rule of the engine serves."""
    if chain in ("DOCKER_OUTPUT", "DOCKER_POSTROUTING") or rule.calls in ("DOCKER_OUTPUT", "DOCKER_POSTROUTING"):
        return "name server of containers"
    if rule.target == "DNAT":
        return _published(rule, view)
    address, port = rule.matches.get("-d", ""), rule.matches.get("--dport", "")
    if rule.target == "DROP" and chain in ("PREROUTING", "raw-PREROUTING"):
        if address.startswith("127."):
            return _published(rule, view)
        return f"direct access from outside to {_whose(address, view)}"
    if address and port and rule.target in ("ACCEPT", "MASQUERADE"):
        return _container_port(address, port, rule.matches.get("-p", ""), view)
    network = _network(chain, rule, view)
    if "ISOLATION" in chain:
        return _isolation(chain, rule, callers, view)
    return network and ", ".join(filter(None, (f"network {network}", _purpose(chain, rule))))


def serves_swarm(chain: str, rule: Clues, view: EngineView) -> str:
    """What a rule of swarm mode serves."""
    vni = vni_of(rule)
    if vni is not None:
        network = view.network_of_vni(vni)
        return f"encrypted network {network.name}" if network else f"encrypted network with VNI {vni}"
    if chain in ("enc-in", "enc-out") or _encrypts(chain, rule):
        return "encrypted networks"
    protocol = rule.matches.get("-p", "")
    address = rule.matches.get("-d", "") or rule.matches.get("-s", "")
    inside = rule.target in ("ACCEPT", "DROP") and address
    port = rule.matches.get("--dport", "") or rule.matches.get("--sport", "")
    if port and not inside:
        service = view.service_publishing(port, protocol) or view.service_at(address)
        return f"published port {port}/{protocol}" + (f" of service {service}" if service else "")
    service = view.service_at(address)
    if inside:
        return "ingress network, only published ports" + (f" of service {service}" if service else "")
    network = view.network_of_address(address) if address else None
    if service or network:
        return f"service {service}" if service else f"network {network.name}" if network else ""
    return "routing mesh"


def _encrypts(chain: str, rule: Clues) -> bool:
    """The engine's own forms of "encrypt what leaves for this VNI" and "drop what came in clear"."""
    if chain == "INPUT":
        return vni_of(rule) is not None and "--pol" in rule.matches and rule.target in ("DROP", "ACCEPT")
    mark = rule.options.get("--set-xmark", "") or rule.options.get("--set-mark", "")
    sets = mark.partition("/")[0].lower() in (hex(ENCRYPTION_MARK), str(ENCRYPTION_MARK))
    if chain != "OUTPUT" or rule.target != "MARK":
        return False
    return (sets and vni_of(rule) is not None) or hex(ENCRYPTION_MARK) in rule.matches.get("--mark", "").lower()


def _in_sandbox(chain: str, rule: Clues, namespace: str, view: EngineView) -> bool:
    """The forms of swarm mode in the namespaces of its load balancers and of its tasks."""
    balancer = namespace == "ingress" or namespace.startswith("lb:")
    if balancer and rule.target == "MARK":
        return rule.asks("-d") or rule.asks("-p", "--dport")
    if balancer and rule.target == "SNAT":
        return "--ipvs" in rule.matches
    address = rule.matches.get("-d", "") or rule.matches.get("-s", "")
    network = view.network_of_address(address) if address else None
    if not namespace.startswith("container:") or network is None or not network.ingress:
        return False
    own, port = ("-d", "--dport") if chain in ("INPUT", "PREROUTING") else ("-s", "--sport")
    return (
        (chain == "PREROUTING" and rule.target == "REDIRECT" and rule.asks(own, "-p", port))
        or (chain in ("INPUT", "OUTPUT") and rule.target == "ACCEPT" and rule.asks(own, "-p", port, "--ctstate"))
        or (chain in ("INPUT", "OUTPUT") and rule.target == "DROP" and rule.asks(own, "-p"))
    )


def _publishes(rule: Clues, view: EngineView) -> bool:
    return view.container_publishing(rule.matches.get("--dport", ""), rule.matches.get("-p", "")) is not None


def _whose(address: str, view: EngineView) -> str:
    container = view.container_at(address)
    return f"container {container.name}" if container else plain_address(address)


def _published(rule: Clues, view: EngineView) -> str:
    port, protocol = rule.matches.get("--dport", ""), rule.matches.get("-p", "")
    to = rule.options.get("--to-destination", "")
    container = view.container_at(to.rpartition(":")[0].strip("[]")) or view.container_publishing(port, protocol)
    host = rule.matches.get("-d", "")
    whose = f" of container {container.name}" if container else f" (to {to})" if to else ""
    return f"published port {host}{':' if host else ''}{port}/{protocol}{whose}"


def _container_port(address: str, port: str, protocol: str, view: EngineView) -> str:
    container = view.container_at(address)
    outer = published_as(container, port, protocol) if container else ""
    if outer:
        return f"published port {outer}/{protocol} of {_whose(address, view)}"
    return f"port {port}/{protocol} of {_whose(address, view)}"


def _network(chain: str, rule: Clues, view: EngineView) -> str:
    per_bridge = _PER_BRIDGE.match(chain) or _PER_BRIDGE.match(rule.calls)
    devices = [rule.matches.get(name, "") for name in ("-o", "-i", "!-o", "!-i")]
    for device in ([per_bridge[3]] if per_bridge else []) + devices:
        if device and view.is_bridge(device):
            return view.network_of_device(device)
    for name in ("-s", "-d", "!-s", "!-d"):
        network = view.network_of_address(rule.matches.get(name, "")) if name in rule.matches else None
        if network:
            return network.name
    return per_bridge[3] if per_bridge else ""


def _purpose(chain: str, rule: Clues) -> str:
    told = [_NFT_COMMENTS[comment] for comment in rule.comments if comment in _NFT_COMMENTS]
    if told:
        return told[0]
    if rule.target in ("MASQUERADE", "SNAT"):
        return "masquerading"
    incoming, outgoing = rule.matches.get("-i", ""), rule.matches.get("-o", "")
    if incoming and incoming == outgoing:
        return "traffic between its containers"
    if rule.target == "DROP" and chain == "DOCKER" and outgoing and outgoing == rule.matches.get("!-i"):
        return "unpublished ports"
    return "internal" if rule.target == "DROP" and chain == "DOCKER-INTERNAL" else ""


def _isolation(chain: str, rule: Clues, callers: Sequence[Clues], view: EngineView) -> str:
    own = _network(chain, rule, view)
    if not own:
        return "isolation between networks"
    # The first stage asks where the packet comes from, the second where it goes.
    source = view.network_of_device(callers[0].matches.get("-i", "")) if callers else ""
    return f"isolation of network {own} from network {source}" if source else f"network {own}, isolation"
