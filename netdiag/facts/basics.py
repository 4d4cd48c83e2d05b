"""Who the host is, what time it has, and its NICs."""

from __future__ import annotations

from netdiag.facts.context import Context, absence, files_request, texts
from netdiag.model.facts import HOST, Clock, Identity, Nic, Section
from netdiag.model.wire import Gather, Request

_STA_UNSYNC = 0x40
_TIME_ERROR = 5
_OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")
IDENTITY_FILES = (
    "/etc/machine-id",
    "/proc/sys/kernel/random/boot_id",
    "/proc/uptime",
    "/sys/class/dmi/id/sys_vendor",
    "/sys/class/dmi/id/product_name",
    *_OS_RELEASE,
)
"""What tells who a host is, besides uname."""
_NO_NIC = frozenset({"bridge", "veth", "vxlan", "tun", "dummy", "ifb", "ipip", "gre", "sit", "macvlan", "ipvlan"})


def gather_identity(_context: Context) -> Gather[Section[Identity]]:
    """Host name, machine id, kernel, distribution, platform."""
    answer, files = yield [Request("identity", {}, 1.0), files_request(IDENTITY_FILES)]
    if answer.data is None:
        return Section(absent=absence(answer))
    data, text = answer.data, texts(files)
    release: dict[str, str] = {}
    for path in _OS_RELEASE:
        release = release or _assignments(text.get(path, ""))
    uptime = text.get("/proc/uptime", "").split()
    return Section(
        value=Identity(
            hostname=data["hostname"],
            machine_id=text.get("/etc/machine-id", "").strip(),
            boot_id=text.get("/proc/sys/kernel/random/boot_id", "").strip(),
            kernel_release=data["kernel_release"],
            architecture=data["architecture"],
            distribution_id=release.get("ID", ""),
            distribution_version=release.get("VERSION_ID", ""),
            distribution_name=release.get("PRETTY_NAME", ""),
            dmi_vendor=text.get("/sys/class/dmi/id/sys_vendor", "").strip(),
            dmi_product=text.get("/sys/class/dmi/id/product_name", "").strip(),
            uptime_s=float(uptime[0]) if uptime else None,
            is_root=data["euid"] == 0,
            python=data["python"],
        )
    )


def _assignments(text: str) -> dict[str, str]:
    """NAME=value lines of a shell-like file (os-release(5)), quotes removed."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.lstrip().startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, value in pairs}


def gather_clock(_context: Context) -> Gather[Section[Clock]]:
    """The clock and whether the kernel calls it synchronised."""
    (answer,) = yield [Request("clock", {}, 1.0)]
    if answer.data is None:
        return Section(absent=absence(answer))
    quality = answer.data.get("adjtimex")
    synchronised = None
    if quality:
        synchronised = quality["state"] != _TIME_ERROR and not quality["status"] & _STA_UNSYNC
    return Section(
        value=Clock(
            unix_s=answer.data["unix_ns"] / 1e9,
            synchronised=synchronised,
            estimated_error_us=quality["esterror_us"] if quality else None,
        )
    )


def gather_nics(context: Context) -> Gather[Section[tuple[Nic, ...]]]:
    """Driver and offloads of the host's NICs; devices that software makes are left out."""
    links = context.links.get(HOST, ())
    names = [link.name for link in links if not link.loopback and link.kind not in _NO_NIC]
    answers = yield [Request("ethtool", {"device": name}, 1.0) for name in names]
    nics: list[Nic] = []
    refused = None
    for name, answer in zip(names, answers, strict=True):
        if answer.data is None:
            refused = refused or absence(answer)
            continue
        nics.append(Nic(name=name, driver=answer.data["driver"], offloads=dict(answer.data["features"])))
    if not nics and refused is not None:
        return Section(absent=refused)
    return Section(value=tuple(nics))
