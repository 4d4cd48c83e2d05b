"""Faults between hosts: links, MTU, routes, neighbours, addresses, sysctls."""

from __future__ import annotations

from netdiag.errors import LabError, UsageError
from netdiag.lab.faults import HOST, INTERFACE, Fault, Kind, Parameter, Values, Work
from netdiag.lab.topology import FABRIC


def _port(work: Work, values: Values) -> str:
    """The fabric's end of a host's cable."""
    for uplink in work.site.host(values["host"]).uplinks:
        if uplink.interface == values["interface"]:
            return uplink.port
    raise UsageError(f"interface={values['interface']}: {values['host']} has no such cable")


def _link_down(work: Work, values: Values) -> None:
    host, interface = values["host"], values["interface"]
    if values["side"] == FABRIC:
        port = _port(work, values)
        work.run(FABRIC, ["ip", "link", "set", port, "down"], undo=["ip", "link", "set", port, "up"])
        return
    # The kernel forgets an interface's routes when it goes down; those that it does not make itself come back by hand.
    routes = work.run(host, ["ip", "-4", "route", "show", "dev", interface]).stdout.splitlines()
    added = [f"route replace {line} dev {interface}\n" for line in routes if "proto kernel" not in line]
    if added:
        work.run(host, ["true"], undo=["ip", "-batch", "-"], undo_stdin="".join(added))
    work.run(host, ["ip", "link", "set", interface, "down"], undo=["ip", "link", "set", interface, "up"])


def _set_mtu(work: Work, host: str, interface: str, mtu: str) -> None:
    before = work.site.host(host).path(f"/sys/class/net/{interface}/mtu")
    try:
        old = before.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise UsageError(f"interface={interface}: {host} has no such interface") from error
    set_to = ["ip", "link", "set", interface, "mtu"]
    work.run(host, [*set_to, mtu], undo=[*set_to, old])


def _mtu(work: Work, values: Values) -> None:
    _set_mtu(work, values["host"], values["interface"], values["mtu"])


def _mtu_blackhole(work: Work, values: Values) -> None:
    chosen = values["hosts"].split(",") if "hosts" in values else list(work.site.hosts)
    for name in chosen:
        for uplink in work.site.host(name).uplinks[:1]:
            # The fabric's end drops what is larger than it can take, with no ICMP: a veth is not a router.
            _set_mtu(work, FABRIC, uplink.port, values["path_mtu"])
            _set_mtu(work, name, uplink.interface, values["host_mtu"])
            # A veth hands an unsegmented packet on whatever its size; real NICs put frames on the wire.
            offload = ["ethtool", "-K", uplink.interface, "tso"]
            work.run(name, [*offload, "off", "gso", "off"], undo=[*offload, "on", "gso", "on"])


def _route(work: Work, values: Values) -> None:
    host, action, to = values["host"], values["action"], values["to"]
    where = [*(["via", values["via"]] if "via" in values else []), *(["dev", values["dev"]] if "dev" in values else [])]
    exact = ["ip", "route", "show", "exact", to]
    if action == "delete":
        lines = work.run(host, exact).stdout.splitlines()
        if not lines:
            raise LabError(f"{host} has no route to exactly {to}")
        for line in lines:
            work.run(host, ["ip", "route", "delete", *line.split()], undo=["ip", "route", "replace", *line.split()])
        return
    if action == "add" and not where:
        raise UsageError("action=add needs via=ADDRESS or dev=INTERFACE")
    route = [*([] if action == "add" else [action]), to, *where]
    work.run(host, ["ip", "route", "add", *route], undo=["ip", "route", "delete", *route])


def _neighbour(work: Work, values: Values) -> None:
    host, address, dev = values["host"], values["address"], values["interface"]
    entry = [address, "dev", dev]
    work.run(
        host,
        ["ip", "neighbour", "replace", *entry, "lladdr", values["lladdr"], "nud", "permanent"],
        undo=["ip", "neighbour", "delete", *entry],
    )


def _address(work: Work, values: Values) -> None:
    entry = [values["address"], "dev", values["interface"]]
    work.run(values["host"], ["ip", "address", "add", *entry], undo=["ip", "address", "delete", *entry])


def _route_source(work: Work, values: Values) -> None:
    """The address is one of the host's own; the network's route then prefers it."""
    host, to, dev = values["host"], values["to"], values["interface"]
    entry = [values["address"], "dev", dev]
    before = work.run(host, ["ip", "-4", "route", "show", "exact", to, "dev", dev]).stdout.split()
    if not before:
        raise LabError(f"{host} has no route to exactly {to} on {dev}")
    work.run(host, ["ip", "address", "add", *entry], undo=["ip", "address", "delete", *entry])
    source = values["address"].partition("/")[0]
    work.run(
        host,
        ["ip", "route", "replace", to, "dev", dev, "proto", "kernel", "scope", "link", "src", source],
        undo=["ip", "route", "replace", *before, "dev", dev],
    )


def _vxlan(work: Work, values: Values) -> None:
    """Made in the host's namespace, as another program's is, and perhaps moved on; the number stays taken there."""
    host, name, netns = values["host"], values["name"], values.get("netns")
    made = ["ip", "link", "add", name, "type", "vxlan", "id", values["vni"], "dstport", values["port"]]
    if netns is None:
        gone, there = ["ip", "link", "delete", name], ["ip", "link", "show", name]
        work.run(host, made, undo=gone, only_if=there)
        return
    inside = ["ip", "-n", netns, "link"]
    work.run(host, ["ip", "netns", "add", netns], undo=["ip", "netns", "delete", netns])
    work.run(host, made, undo=[*inside, "delete", name], only_if=[*inside, "show", name])
    work.run(host, ["ip", "link", "set", name, "netns", netns])


def _sysctl(work: Work, values: Values) -> None:
    host, key = values["host"], values["key"]
    if not key.replace("/", ".").startswith("net."):
        raise UsageError(f"key={key}: only what is below net belongs to a host")
    old = work.run(host, ["sysctl", "-n", key]).stdout.strip()
    work.run(host, ["sysctl", "-qw", f"{key}={values['value']}"], undo=["sysctl", "-qw", f"{key}={old}"])


def _bytes(name: str, help: str, default: str | None = None) -> Parameter:  # noqa: A002 - as in Parameter
    return Parameter(name, Kind.NUMBER, help, default=default, required=default is None, low=68, high=65535)


FAULTS = (
    Fault(
        "link-down",
        "A link that is down.",
        (
            HOST,
            INTERFACE,
            Parameter("side", Kind.CHOICE, "which end of the cable", default="host", choices=("host", FABRIC)),
        ),
        _link_down,
        "host=worker side=fabric",
    ),
    Fault(
        "mtu",
        "Another MTU on one interface of a host, or on a port of the fabric.",
        (HOST, _bytes("mtu", "bytes"), INTERFACE),
        _mtu,
        "host=worker mtu=1400",
    ),
    Fault(
        "mtu-blackhole",
        "Hosts with a large MTU over a fabric that passes less and sends no ICMP.",
        (
            Parameter("hosts", Kind.TEXT, "which hosts, with commas between; all if not given"),
            _bytes("host_mtu", "MTU of the hosts", "9000"),
            _bytes("path_mtu", "MTU of the fabric", "1500"),
        ),
        _mtu_blackhole,
        "hosts=manager,worker",
    ),
    Fault(
        "route",
        "A route that is gone, that leads nowhere, or that leads elsewhere.",
        (
            HOST,
            Parameter(
                "action",
                Kind.CHOICE,
                "what is done",
                required=True,
                choices=("delete", "blackhole", "unreachable", "prohibit", "add"),
            ),
            Parameter("to", Kind.PREFIX, "destination, or default", required=True),
            Parameter("via", Kind.ADDRESS, "gateway, for add"),
            Parameter("dev", Kind.TEXT, "interface, for add"),
        ),
        _route,
        "host=worker action=blackhole to=10.71.0.1/32",
    ),
    Fault(
        "neighbour",
        "A static neighbour entry with a wrong link address.",
        (
            HOST,
            Parameter("address", Kind.ADDRESS, "the neighbour", required=True),
            Parameter("lladdr", Kind.TEXT, "the wrong address", default="02:00:00:00:00:99"),
            INTERFACE,
        ),
        _neighbour,
        "host=worker address=10.71.0.1",
    ),
    Fault(
        "address",
        "One more address on a host; another host's makes it a duplicate.",
        (HOST, Parameter("address", Kind.PREFIX, "address with prefix length", required=True), INTERFACE),
        _address,
        "host=worker address=10.71.0.1/24",
    ),
    Fault(
        "route-source",
        "A second address of a host, from which it sends into a network.",
        (
            HOST,
            Parameter("address", Kind.PREFIX, "address with prefix length", required=True),
            Parameter("to", Kind.PREFIX, "the network, as its route names it", default="10.71.0.0/24"),
            INTERFACE,
        ),
        _route_source,
        "host=worker address=10.71.0.12/32",
    ),
    Fault(
        "vxlan",
        "A foreign VXLAN device, perhaps of an overlay's own number and port.",
        (
            HOST,
            Parameter("vni", Kind.NUMBER, "its number", required=True, low=1, high=2**24 - 1),
            Parameter("port", Kind.NUMBER, "its UDP port", default="4789", low=1, high=65535),
            Parameter("name", Kind.TEXT, "what it is called", default="foreign0"),
            Parameter("netns", Kind.TEXT, "make a namespace of this name and move it there"),
        ),
        _vxlan,
        "host=worker vni=77",
    ),
    Fault(
        "sysctl",
        "A kernel setting of a host's network.",
        (
            HOST,
            Parameter("key", Kind.TEXT, "such as net.ipv4.ip_forward", required=True),
            Parameter("value", Kind.TEXT, "what it is set to", required=True),
        ),
        _sysctl,
        "host=worker key=net.ipv4.ip_forward value=0",
    ),
)
