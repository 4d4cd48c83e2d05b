"""Addresses, networks and ranges as iptables writes them, as numbers."""

from __future__ import annotations

import ipaddress
import re

_BITS = {4: 32, 6: 128}
_SHORT = re.compile(r"\d{1,3}(\.\d{1,3}){0,2}", re.ASCII)
_DOTTED = re.compile(r"(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})", re.ASCII)


def read_address(text: str, family: int) -> int:
    """The number of an address. Raises ValueError for none, or one of the other family.

    A part with a leading zero is octal, as iptables has it (libxtables/xtables.c, __numeric_to_ipaddr).
    """
    if family == 4 and (found := _DOTTED.fullmatch(text)):
        parts = found.groups()
        one, two, three, four = map(int if text[0] != "0" and ".0" not in text else _part, parts)
        if max(one, two, three, four) > 255:
            raise ValueError(f"{text!r} is no IPv4 address")
        return one << 24 | two << 16 | three << 8 | four
    if family == 6 and ":" in text and "%" not in text:
        return int(ipaddress.IPv6Address(text))
    raise ValueError(f"{text[:60]!r} is no IPv{family} address")


def _part(text: str) -> int:
    return int(text, 8) if len(text) > 1 and text[0] == "0" else int(text)


def show_address(number: int, family: int) -> str:
    """The address as text."""
    return str(ipaddress.IPv4Address(number) if family == 4 else ipaddress.IPv6Address(number))


def read_network(text: str, family: int) -> tuple[int, int]:
    """An address and its mask, from ``10.0.0.0/8``, ``10.0.0.0/255.0.0.0`` or an address alone.

    A mask need not be contiguous. Raises ValueError.
    """
    bits = _BITS[family]
    address, slash, width = text.partition("/")
    if not slash:
        mask = (1 << bits) - 1
    elif width[:1].isdigit() and "." not in width and ":" not in width:
        length = read_number(width, bits)
        mask = ((1 << length) - 1) << (bits - length)
    else:
        mask = read_address(width, family)
    if not mask:
        return 0, 0  # of which address does not matter then: iptables takes any/0
    # iptables itself takes 10/8 and 192.168/16 as networks.
    if family == 4 and address.count(".") != 3 and _SHORT.fullmatch(address):
        address += ".0" * (3 - address.count("."))
    return read_address(address, family) & mask, mask


def prefix_length(mask: int, family: int) -> int | None:
    """How many leading bits a mask has; None for one that is not contiguous."""
    bits = _BITS[family]
    width = mask.bit_count()
    return width if mask == ((1 << width) - 1) << (bits - width) else None


def read_range(text: str, family: int) -> tuple[int, int]:
    """``10.0.0.1-10.0.0.9``, or one address; one that ends before it begins is a range of none. Raises ValueError."""
    low, _, high = text.partition("-")
    first = read_address(low, family)
    return first, read_address(high, family) if high else first


def read_number(text: str, limit: int) -> int:
    """A number as strtoul reads it: decimal, 0x… or, with a leading zero, octal. Raises ValueError."""
    if text.isdigit() and text.isascii() and text[0] != "0" and len(text) < 11:
        number = int(text)
        if number <= limit:
            return number
    if len(text) > 20 or not re.fullmatch(r"0[xX][0-9a-fA-F]+|[0-9]+", text):
        raise ValueError(f"{text[:60]!r} is no number")
    if text[:2] in ("0x", "0X"):
        number = int(text, 16)
    else:
        number = int(text, 8) if len(text) > 1 and text[0] == "0" else int(text)
    if number > limit:
        raise ValueError(f"{text} is more than {limit}")
    return number


def read_masked(text: str, limit: int, full: int | None = None) -> tuple[int, int]:
    """``VALUE/MASK``, or a value alone with the whole mask. Raises ValueError."""
    value, slash, mask = text.partition("/")
    return read_number(value, limit), read_number(mask, limit) if slash else (limit if full is None else full)
