"""Commands that several checks give."""

from __future__ import annotations

from netdiag.shell import operand, shell_text


def rename(name: str) -> str:
    """Give a host another name."""
    return shell_text(["hostnamectl", "set-hostname", *operand(name)])


def carry_over(image: str, host: str) -> str:
    """Copy an image from the host where this runs to another one."""
    save, load = ["docker", "save", *operand(image)], ["ssh", *operand(host), "docker", "load"]
    return f"{shell_text(save)} | {shell_text(load)}"


def set_mtu(device: str, mtu_bytes: int) -> str:
    """Set how large the packets of a device may be."""
    return shell_text(["ip", "link", "set", "dev", device, "mtu", str(mtu_bytes)])
