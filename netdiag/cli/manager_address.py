"""Managers as operators type them: ``ADDR``, ``ADDR:PORT``, ``NAME:PORT``, ``[V6]:PORT``."""

from __future__ import annotations

import ipaddress

from netdiag.errors import UsageError
from netdiag.swarm.ports import CONTROL_PORT


def split_manager(given: str) -> tuple[str, int]:
    """The host part and the port of one ``--manager``.

    Raises:
        UsageError: No host, or a port that is none.
    """
    text = given.strip()
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") > 1:
        host, port = text, ""
    else:
        host, _, port = text.partition(":")
    if not host:
        raise UsageError(f"--manager {given!r}: no address; give ADDRESS or ADDRESS:PORT, IPv6 as [ADDRESS]:PORT")
    if not port:
        if text.endswith(":"):
            raise UsageError(f"--manager {given!r}: a port is missing after the colon")
        return host, CONTROL_PORT
    if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise UsageError(f"--manager {given!r}: {port!r} is no port; give a number from 1 to 65535")
    return host, int(port)


def is_address(host: str) -> bool:
    """Whether it is an IP address already, so that nothing needs to be resolved."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
