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
    "REJECT": Decide(Verdict.REJECT),
    "RETURN": Return(),
    "TARPIT": Decide(Verdict.DROP),
    "QUEUE": Decide(Verdict.UNKNOWN, "a program decides about it (QUEUE)"),
    "NFQUEUE": Decide(Verdict.UNKNOWN, "a program decides about it (NFQUEUE)"),
    "TPROXY": Decide(Verdict.UNKNOWN, "whether a proxy listens is not known (TPROXY)"),
    "SYNPROXY": Decide(Verdict.UNKNOWN, "the proxy answers for the destination (SYNPROXY)"),
    "TCPMSS": Pass("TCPMSS"),
}
VALUED = frozenset(
    [
        "--set-mark",
        "--set-xmark",
        "--and-mark",
        "--or-mark",
        "--xor-mark",
        "--mask",
        "--nfmask",
        "--ctmask",
        "--ttl-set",
        "--ttl-inc",
        "--ttl-dec",
        "--hl-set",
        "--hl-inc",
        "--hl-dec",
        "--set-tos",
        "--and-tos",
        "--or-tos",
        "--xor-tos",
        "--set-dscp",
        "--set-dscp-class",
        "--to-destination",
        "--to-source",
        "--to-ports",
        "--to-port",
        "--to",
        "--reject-with",
    ]
)
"""Options of targets that are nothing without a value."""
TARGET_OPTIONS = VALUED | frozenset(
    [
        "--log-level",
        "--log-prefix",
        "--log-tcp-sequence",
        "--log-tcp-options",
        "--log-ip-options",
        "--log-uid",
        "--nflog-group",
        "--nflog-prefix",
        "--nflog-range",
        "--nflog-size",
        "--nflog-threshold",
        "--ulog-nlgroup",
        "--ulog-prefix",
        "--ulog-cprange",
        "--ulog-qthreshold",
        "--set-mss",
        "--clamp-mss-to-pmtu",
        "--save-mark",
        "--restore-mark",
        "--notrack",
        "--zone",
        "--zone-orig",
        "--zone-reply",
        "--helper",
        "--ctevents",
        "--expevents",
        "--timeout",
        "--add-set",
        "--del-set",
        "--map-set",
        "--exist",
        "--set-class",
        "--queue-num",
        "--queue-balance",
        "--queue-bypass",
        "--queue-cpu-fanout",
        "--on-port",
        "--on-ip",
        "--tproxy-mark",
        "--random",
        "--random-fully",
        "--persistent",
        "--checksum-fill",
        "--gateway",
        "--selctx",
        "--type",
    ]
)
_PASSING = frozenset(
    "LOG NFLOG ULOG TRACE SET CHECKSUM CLASSIFY SECMARK CONNSECMARK AUDIT LED RATEEST TEE IDLETIMER NFACCT ACCOUNT FLOWOFFLOAD".split()  # noqa: SIM905 - one name a word
)
"""Targets that change nothing which a rule asks for."""
KNOWN = frozenset(STANDARD) | _PASSING
NO_TARGET = "no target that is modelled"
"""How the reason of a target that is not known ends."""
Build = Callable[[Sequence[Option], int], Target]


def _mark(options: Sequence[Option], family: int) -> Target:  # noqa: ARG001
    for name, values, _ in options:
        if name in ("--and-mark", "--or-mark", "--xor-mark"):
            bits = read_number(values[0], _U32)
            return targets.SetMark(
                *{"--and-mark": (0, ~bits & _U32), "--or-mark": (bits, bits), "--xor-mark": (bits, 0)}[name]
            )
        if name in ("--set-mark", "--set-xmark"):
            value, mask = read_masked(values[0], _U32)
            return targets.SetMark(value, mask | value if name == "--set-mark" else mask)
    raise ValueError("no mark is said")


def _connmark(options: Sequence[Option], family: int) -> Target:  # noqa: ARG001
    said = {option.name: option.values for option in options}
    for name, values in said.items():
        if name in ("--and-mark", "--or-mark", "--xor-mark"):
            bits = read_number(values[0], _U32)
            value, mask = {"--and-mark": (0, ~bits & _U32), "--or-mark": (bits, bits), "--xor-mark": (bits, 0)}[name]
            return targets.ConnMarkTarget("set", value, mask)
        if name in ("--set-mark", "--set-xmark"):
            value, mask = read_masked(values[0], _U32)
            return targets.ConnMarkTarget("set", value, mask | value if name == "--set-mark" else mask)
    mode = "save" if "--save-mark" in said else "restore" if "--restore-mark" in said else None
    if mode is None:
        raise ValueError("no mark is said")
    one = said.get("--mask", (hex(_U32),))[0]
    packet = read_number(said.get("--nfmask", (one,))[0], _U32)
    connection = read_number(said.get("--ctmask", (one,))[0], _U32)
    whole = packet == connection == _U32
    if mode == "save":
        return targets.ConnMarkTarget("save", 0, packet, connection, whole)
    return targets.ConnMarkTarget("restore", 0, packet, connection, whole)


def _ct(options: Sequence[Option], family: int) -> Target:  # noqa: ARG001
    if any(option.name == "--notrack" for option in options):
        return targets.Untrack()
    return targets.Template()


def _untrack(options: Sequence[Option], family: int) -> Target:  # noqa: ARG001
    return targets.Untrack()


def _ttl(options: Sequence[Option], family: int) -> Target:  # noqa: ARG001
    for name, values, _ in options:
        number = read_number(values[0], 255)
        if name.endswith("-set"):
            return targets.SetTtl("set", number)
        return targets.SetTtl("inc" if name.endswith("-inc") else "dec", number)
    raise ValueError("no TTL is said")


def _tos(options: Sequence[Option], family: int) -> Target:  # noqa: ARG001
    for name, values, _ in options:
        if name == "--set-tos":
            value, mask = (TOS_NAMES[values[0]], 0x3F) if values[0] in TOS_NAMES else read_masked(values[0], 255)
            return targets.SetTos(value, mask)
        bits = read_number(values[0], 255)
        return targets.SetTos(*{"--and-tos": (0, ~bits & 255), "--or-tos": (bits, bits), "--xor-tos": (bits, 0)}[name])
    raise ValueError("no type of service is said")


def _dscp(options: Sequence[Option], family: int) -> Target:  # noqa: ARG001
    for name, values, _ in options:
        if name == "--set-dscp":
            return targets.SetTos(read_number(values[0], 63) << 2, 0xFC)
        if values[0].upper() in DSCP_CLASSES:
            return targets.SetTos(DSCP_CLASSES[values[0].upper()] << 2, 0xFC)
    raise ValueError("no DSCP is said")


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


def _masquerade(options: Sequence[Option], family: int) -> Target:  # noqa: ARG001
    return targets.ToSource()


def _redirect(options: Sequence[Option], family: int) -> Target:  # noqa: ARG001
    written = [option.values[0] for option in options if option.name in ("--to-ports", "--to-port")]
    return targets.Redirect(_one_port(written[0]) if written else None, not written)


def _netmap(options: Sequence[Option], family: int) -> Target:
    written = [option.values[0] for option in options if option.name == "--to"]
    if not written:
        raise ValueError("--to is wanted")
    network, mask = read_network(written[0], family)
    if prefix_length(mask, family) is None:
        raise ValueError("--to wants a network")
    return targets.MapNetwork(network, mask)


_BUILDS: Mapping[str, Build] = {
    "MARK": _mark,
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
_PLAIN = frozenset({"ACCEPT", "DROP", "RETURN", "QUEUE"})
_REJECT = frozenset({"--reject-with"})


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
    if (name in _PLAIN and options) or (name == "REJECT" and any(option.name not in _REJECT for option in options)):
        raise ValueError(f"no option of {name}: {options[0].name}")
    standard = STANDARD.get(name)
    if standard is not None:
        return standard
    if name in _PASSING:
        return Pass(name)
    build = _BUILDS.get(name)
    if build is not None:
        return build(options, family)
    return Decide(Verdict.UNKNOWN, f"{name} is no chain of this table and {NO_TARGET}")
