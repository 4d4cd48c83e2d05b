"""Options of iptables' targets: from the words behind ``-j`` to what becomes of the packet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from netdiag.firewall.netfilter import targets
from netdiag.firewall.netfilter.addresses import prefix_length, read_address, read_masked, read_network, read_number
from netdiag.firewall.netfilter.grammar import Option, read_port
from netdiag.firewall.netfilter.names import DSCP_CLASSES, TOS_NAMES
from netdiag.firewall.netfilter.rules import Decide, Jump, Pass, Return, Target, Verdict

_U32 = 0xFFFFFFFF
STANDARD: Mapping[str, Target] = {
    "ACCEPT": Decide(Verdict.ACCEPT),
    "DROP": Decide(Verdict.DROP),
    "RETURN": Return(),
    # What is answered to is answered for the packet that is dropped (xtables-addons, xt_TARPIT.c, xt_DELUDE.c).
    "TARPIT": Decide(Verdict.DROP),
    "DELUDE": Decide(Verdict.DROP),
    "STEAL": Decide(Verdict.DROP),
    "QUEUE": Decide(Verdict.UNKNOWN, "a program decides about it (QUEUE)"),
    "NFQUEUE": Decide(Verdict.UNKNOWN, "a program decides about it (NFQUEUE)"),
    "TPROXY": Decide(Verdict.UNKNOWN, "whether a proxy listens is not known (TPROXY)"),
    "SYNPROXY": Decide(Verdict.UNKNOWN, "the proxy answers for the destination (SYNPROXY)"),
    "TCPMSS": targets.ForgetLength(),
}
_PASSING = frozenset(
    [
        *("LOG", "NFLOG", "ULOG", "LOGMARK", "TRACE", "CHECKSUM", "CLASSIFY", "SECMARK", "CONNSECMARK", "AUDIT", "LED"),
        *("RATEEST", "TEE", "IDLETIMER", "ACCOUNT", "FLOWOFFLOAD", "TCPOPTSTRIP", "IPV4OPTSSTRIP"),
    ]
)
"""Targets that change nothing which a rule asks for."""
NO_TARGET = "no target that is modelled"
"""How the reason of a target that is not known ends."""
Build = Callable[[Sequence[Option], int], Target]


def _only(options: Sequence[Option]) -> Option:
    """The one option that says what to set. Raises ValueError for none, or several."""
    if len(options) != 1:
        raise ValueError("one option is wanted" if options else "an option is wanted")
    return options[0]


def _bits(name: str, text: str, limit: int) -> tuple[int, int]:
    """What is cleared and what is flipped behind it: value and mask of ``--set-…``, ``--and-…``, ``--or-…``, ``--xor-…``."""
    how = name.split("-")[2]
    if how in ("and", "or", "xor"):
        bits = read_number(text, limit)
        return {"and": (0, ~bits & limit), "or": (bits, bits), "xor": (bits, 0)}[how]
    value, mask = read_masked(text, limit)
    return value, mask | value if name == "--set-mark" else mask


def _mark(options: Sequence[Option], family: int) -> Target:  # noqa: ARG001
    name, values, _ = _only(options)
    return targets.SetMark(*_bits(name, values[0], _U32))


def _hash_mark(options: Sequence[Option], family: int) -> Target:  # noqa: ARG001
    return targets.ForgetMark()


def _connmark(options: Sequence[Option], family: int) -> Target:  # noqa: ARG001
    said = {option.name: option.values[0] if option.values else "" for option in options}
    one = said.pop("--mask", hex(_U32))
    packet = read_number(said.pop("--nfmask", one), _U32)
    connection = read_number(said.pop("--ctmask", one), _U32)
    shifted = [said.pop(name) for name in ("--left-shift-mark", "--right-shift-mark") if name in said]
    if len(said) != 1:
        raise ValueError("one of --set-mark, --save-mark, --restore-mark is wanted")
    ((name, text),) = said.items()
    if shifted:
        return targets.ForgetMark()
    if name not in ("--save-mark", "--restore-mark"):
        return targets.ConnMarkTarget("set", *_bits(name, text, _U32))
    whole = packet == connection == _U32
    return targets.ConnMarkTarget("save" if name == "--save-mark" else "restore", 0, packet, connection, whole)


def _set(options: Sequence[Option], family: int) -> Target:  # noqa: ARG001
    named = [option for option in options if option.name in ("--add-set", "--del-set", "--map-set")]
    if not named:
        raise ValueError("no set is said")
    if any(option.name == "--map-mark" for option in options):
        return targets.ForgetMark()
    return targets.ChangeSets(frozenset(option.values[0] for option in named if option.name != "--map-set"))


def _ecn(options: Sequence[Option], family: int) -> Target:  # noqa: ARG001
    return targets.ForgetEcn()


def _ct(options: Sequence[Option], family: int) -> Target:  # noqa: ARG001
    if any(option.name == "--notrack" for option in options):
        return targets.Untrack()
    return targets.Template()


def _untrack(options: Sequence[Option], family: int) -> Target:  # noqa: ARG001
    return targets.Untrack()


def _ttl(options: Sequence[Option], family: int) -> Target:  # noqa: ARG001
    name, values, _ = _only(options)
    number = read_number(values[0], 255)
    if name.endswith("-set"):
        return targets.SetTtl("set", number)
    return targets.SetTtl("inc" if name.endswith("-inc") else "dec", number)


def _tos(options: Sequence[Option], family: int) -> Target:  # noqa: ARG001
    name, values, _ = _only(options)
    named = TOS_NAMES.get(values[0].lower())
    return targets.SetTos(named, 0x3F) if named is not None else targets.SetTos(*_bits(name, values[0], 255))


def _dscp(options: Sequence[Option], family: int) -> Target:  # noqa: ARG001
    name, values, _ = _only(options)
    if name == "--set-dscp":
        return targets.SetTos(read_number(values[0], 63) << 2, 0xFC)
    if values[0].upper() not in DSCP_CLASSES:
        raise ValueError(f"no DSCP class: {values[0][:20]!r}")
    return targets.SetTos(DSCP_CLASSES[values[0].upper()] << 2, 0xFC)


def _reject(options: Sequence[Option], family: int) -> Target:
    """With which error it answers does not matter, but it has to be one (libipt_REJECT.c, libip6t_REJECT.c)."""
    for _, values, _ in options:
        known = _REJECTS[family]
        if not any(name.startswith(values[0].lower()) for name in known):
            raise ValueError(f"no such answer: {values[0][:40]!r}")
    return Decide(Verdict.REJECT)


def _split_port(text: str, family: int) -> tuple[str, str]:
    """``ADDRESS:PORT`` as its two parts, either of which may be empty."""
    if family == 6:
        if text.startswith("["):
            address, _, rest = text[1:].partition("]")
            return address, rest.removeprefix(":")
        return text, ""
    address, _, port = text.partition(":")
    return address, port


def _one_address(text: str, family: int) -> int | None:
    """The address, None for several. Raises ValueError."""
    low, dash, high = text.partition("-")
    first = read_address(low, family)
    return first if not dash or read_address(high, family) == first else None


def _one_port(text: str) -> int | None:
    """The port, None for several. Raises ValueError."""
    ports, slash, _ = text.partition("/")
    low, dash, high = ports.partition("-")
    first = read_port(low)
    return None if slash or (dash and read_port(high) != first) else first


def _dnat(options: Sequence[Option], family: int) -> Target:
    written = [option.values[0] for option in options if option.name == "--to-destination"]
    if not written:
        raise ValueError("--to-destination is wanted")
    if len(written) > 1:  # old spelling of several, of which the kernel chooses
        return targets.ToDestination(None, port=None, keeps_port=False)
    address, port = _split_port(written[0], family)
    return targets.ToDestination(
        address=_one_address(address, family) if address else None,
        keeps_address=not address,
        port=_one_port(port) if port else None,
        keeps_port=not port,
    )


def _snat(options: Sequence[Option], family: int) -> Target:
    written = [option.values[0] for option in options if option.name == "--to-source"]
    if not written:
        raise ValueError("--to-source is wanted")
    address, _ = _split_port(written[0], family)
    several = len(written) > 1 or not address
    return targets.ToSource(None if several else _one_address(address, family))


def _same(options: Sequence[Option], family: int) -> Target:  # noqa: ARG001
    return targets.ToDestination(None, port=None)


def _masquerade(options: Sequence[Option], family: int) -> Target:  # noqa: ARG001
    return targets.ToSource()


def _redirect(options: Sequence[Option], family: int) -> Target:  # noqa: ARG001
    written = [option.values[0] for option in options if option.name == "--to-ports"]
    return targets.Redirect(_one_port(written[0]) if written else None, not written)


def _netmap(options: Sequence[Option], family: int) -> Target:
    written = [option.values[0] for option in options if option.name == "--to"]
    if not written:
        raise ValueError("--to is wanted")
    network, mask = read_network(written[0], family)
    if prefix_length(mask, family) is None:
        raise ValueError("--to wants a network")
    return targets.MapNetwork(network, mask)


_REJECTS = {
    4: (
        *("icmp-net-unreachable", "icmp-host-unreachable", "icmp-proto-unreachable", "icmp-port-unreachable"),
        *("icmp-net-prohibited", "icmp-host-prohibited", "icmp-admin-prohibited", "tcp-reset", "echo-reply"),
        *("net-unreach", "host-unreach", "proto-unreach", "port-unreach", "net-prohib", "host-prohib", "tcp-rst"),
        "admin-prohib",
    ),
    6: (
        *("icmp6-no-route", "icmp6-adm-prohibited", "icmp6-addr-unreachable", "icmp6-port-unreachable", "tcp-reset"),
        *("icmp6-policy-fail", "icmp6-reject-route", "no-route", "adm-prohibited", "addr-unreach", "port-unreach"),
        *("policy-fail", "reject-route"),
    ),
}
_BUILDS: Mapping[str, Build] = {
    "REJECT": _reject,
    "MARK": _mark,
    "HMARK": _hash_mark,
    "SET": _set,
    "ECN": _ecn,
    "SAME": _same,
    "CONNMARK": _connmark,
    "CT": _ct,
    "NOTRACK": _untrack,
    "TTL": _ttl,
    "HL": _ttl,
    "TOS": _tos,
    "DSCP": _dscp,
    "DNAT": _dnat,
    "SNAT": _snat,
    "MASQUERADE": _masquerade,
    "REDIRECT": _redirect,
    "NETMAP": _netmap,
}


def read_target(name: str, options: Sequence[Option], family: int, *, goto: bool, is_chain: bool) -> Target:
    """What becomes of a packet that a rule matches. Raises ValueError for options that are not understood.

    Args:
        name: Behind ``-j`` or ``-g``.
        options: Behind it.
        family: 4 or 6.
        goto: Whether it is behind ``-g``.
        is_chain: Whether the table has a chain of this name.
    """
    if is_chain or goto:
        if options:
            raise ValueError(f"no option of a jump: {options[0].name}")
        return Jump(name, goto)
    standard = STANDARD.get(name)
    if standard is not None:
        return standard
    if name in _PASSING:
        return Pass(name)
    build = _BUILDS.get(name)
    if build is not None:
        return build(options, family)
    return Decide(Verdict.UNKNOWN, f"{name} is no chain of this table and {NO_TARGET}")
