"""A network namespace as a kernel to compare with: devices whose frames we write, rules loaded, counters read.

Run as root in a namespace of its own; nothing of it outlives the namespace but what `clean` takes away.
"""

import fcntl
import ipaddress
import itertools
import os
import socket
import struct
import subprocess
import sys

from netdiag.firewall.save_text import parse_save
from netdiag.model.trace import TracePath
from tests.lab.random_rules import BASES, MAC, PROTOCOLS


def say(*words):
    sys.stderr.write(" ".join(map(str, words)) + "\n")
    sys.stderr.flush()


def run(*argv, text=None):
    return subprocess.run(argv, input=text, capture_output=True, text=True, check=False)


def restore(tool, family, rules):
    said = run(f"ip{'6' if family == 6 else ''}tables-{tool}-restore", text=rules)
    return (said.stderr or f"exit code {said.returncode}") if said.returncode else ""


def counters(tool, family):
    text = run(f"ip{'6' if family == 6 else ''}tables-{tool}-save", "-c").stdout
    return {
        (table, chain.name, rule.number): rule
        for table, chains in parse_save(text).tables.items()
        for chain in chains.values()
        for rule in chain.rules
    }, text


def tap(name):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1002))
    return fd


def guard(devices):
    """Answers of this host would count as well, what the kernel itself sends (at the priority 7, TC_PRIO_CONTROL), and
    what others send to this host.
    """
    into = " ".join(f'iifname != "{name}"' for name in (*devices, "lo"))
    said = run(
        "nft",
        f"""table inet guard {{
            chain out {{ type filter hook output priority -450; meta priority != 0:5 drop; }}
            chain in {{ type filter hook prerouting priority -450; {into} drop; }}
        }}""",
    )
    assert not said.returncode, said.stderr


_IDENTIFIERS = itertools.count(1)  # so that no echo request belongs to the flow of another


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def built(packet, family):
    """The bytes of an IP packet as it is described."""
    source, destination = (ipaddress.ip_address(each).packed for each in (packet.source, packet.destination))
    number = PROTOCOLS.get(packet.proto) or int(packet.proto)
    size = packet.length - (20 if family == 4 else 40)
    if packet.proto == "tcp":
        names = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"]
        flags = sum(1 << names.index(name) for name in packet.tcp_flags.split(",") if name != "none")
        head = struct.pack("!HHIIBBHHH", packet.sport, packet.dport, 1000, 0, 0x50, flags, 1000, 0, 0)
    elif packet.proto == "udp":
        head = struct.pack("!HHHH", packet.sport, packet.dport, size, 0)
    elif packet.proto in ("icmp", "icmpv6"):
        head = struct.pack("!BBHHH", packet.icmp_type, 0, 0, next(_IDENTIFIERS) % 65536, 1)
    else:
        head = struct.pack("!II", 0x100, 1)
    body = bytearray(head.ljust(size, b"\0"))
    place = {"tcp": 16, "udp": 6, "icmp": 2, "icmpv6": 2}.get(packet.proto)
    if place is not None:
        pseudo = b"" if packet.proto == "icmp" else source + destination + struct.pack("!II", size, number)
        body[place : place + 2] = struct.pack("!H", checksum(pseudo + bytes(body)) or 0xFFFF)
    if family == 6:
        return struct.pack("!IHBB", 6 << 28, size, number, packet.ttl) + source + destination + bytes(body)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, packet.length, 7, 0x4000, packet.ttl, number, 0) + source + destination
    return ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + bytes(body)


def send(packet, family, fd, mac):
    """Send a packet: from this host by a raw socket, else as a frame to the device of this descriptor and address."""
    data = built(packet, family)
    if packet.path is TracePath.OUT:
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        with socket.socket(kind, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, 5)
            try:
                raw.sendto(data, (packet.destination, 0))
            except PermissionError:
                return  # a rule dropped it
            except OSError as error:
                say(packet, error)
        return
    to = bytes.fromhex(mac.replace(":", ""))
    if packet.destination == "224.0.0.1":
        to = bytes.fromhex("01005e000001")
    elif family == 4 and packet.path is TracePath.IN and packet.destination.endswith(".255"):
        to = b"\xff" * 6
    source = bytes.fromhex((packet.mac or MAC).replace(":", ""))
    os.write(fd, to + source + (b"\x08\x00" if family == 4 else b"\x86\xdd") + data)


def flush_conntrack():
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as netlink:
        netlink.send(struct.pack("=IHHIIBBH", 20, 1 << 8 | 2, 5, 1, 0, 0, 0, 0))
        netlink.recv(4096)


def empty(tool, family):
    """Tables without rules, which accept."""
    rules = "".join(
        f"*{table}\n{''.join(f':{base} ACCEPT [0:0]{chr(10)}' for base in bases)}COMMIT\n"
        for table, bases in BASES.items()
    )
    restore(tool, family, rules)


def drain(fd):
    try:
        while os.read(fd, 65536):
            pass
    except BlockingIOError:
        return
