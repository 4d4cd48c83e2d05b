"""Who the host is, and what its clock shows."""

from __future__ import annotations

import shlex

from netdiag.facts.reading import absent, text, texts
from netdiag.model.facts import Clock, Identity, Section
from netdiag.model.wire import Gather, Request

_OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")
_FILES = (
    *_OS_RELEASE,
    "/etc/machine-id",
    "/proc/sys/kernel/random/boot_id",
    "/proc/uptime",
    "/sys/class/dmi/id/sys_vendor",
    "/sys/class/dmi/id/product_name",
)
_UNSYNCHRONISED = 0x40
"""STA_UNSYNC of adjtimex(2)."""


def gather_identity() -> Gather[Section[Identity]]:
    """Names, kernel, distribution and platform."""
    who, files = yield [Request("identity"), Request("files", {"globs": list(_FILES)})]
    if who.data is None:
        return absent(who)
    read = texts(files)
    release = os_release(read.get(_OS_RELEASE[0]) or read.get(_OS_RELEASE[1], ""))
    uptime = read.get("/proc/uptime", "").split()
    return Section(
        value=Identity(
            hostname=who.data["hostname"],
            machine_id=read.get("/etc/machine-id", "").strip(),
            boot_id=read.get("/proc/sys/kernel/random/boot_id", "").strip(),
            kernel_release=who.data["kernel_release"],
            architecture=who.data["architecture"],
            distribution_id=release.get("ID", ""),
            distribution_version=release.get("VERSION_ID", ""),
            distribution_name=release.get("PRETTY_NAME", ""),
            dmi_vendor=read.get("/sys/class/dmi/id/sys_vendor", "").strip(),
            dmi_product=read.get("/sys/class/dmi/id/product_name", "").strip(),
            uptime_s=float(uptime[0]) if uptime and uptime[0].replace(".", "", 1).isdigit() else None,
            is_root=who.data["euid"] == 0,
            python=who.data["python"],
        )
    )


def os_release(content: str) -> dict[str, str]:
    """The assignments of an os-release(5) file."""
    found: dict[str, str] = {}
    for line in content.splitlines():
        name, equals, value = line.strip().partition("=")
        if not equals or name.startswith("#"):
            continue
        try:
            words = shlex.split(value)
        except ValueError:
            words = [value]
        found[name] = words[0] if words else ""
    return found


def gather_clock() -> Gather[Section[Clock]]:
    """What the clock shows, and whether the kernel takes it for synchronised."""
    (answer,) = yield [Request("clock")]
    if answer.data is None:
        return absent(answer)
    quality = answer.data["adjtimex"]
    return Section(
        value=Clock(
            unix_s=answer.data["unix_ns"] / 1e9,
            synchronised=None if quality is None else not quality["status"] & _UNSYNCHRONISED,
            estimated_error_us=None if quality is None else quality["esterror_us"],
        )
    )


def gather_release() -> Gather[str]:
    """The kernel's release alone, for readers that look for its files."""
    (answer,) = yield [Request("file", {"path": "/proc/sys/kernel/osrelease"})]
    return text(answer).strip()
