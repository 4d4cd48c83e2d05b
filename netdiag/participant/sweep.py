"""The verb that removes what a killed trace left in a namespace, and nothing that a living one uses.

Only a table without an owner can be left: `netdiag.participant.nftables.SweptTable`. Its holder, an abstract socket of
its name in the same namespace, tells the living from the dead.
"""

import errno
import re
import socket
import struct
from typing import Any, Dict, Iterator, List, Tuple

from netdiag.participant import nftables
from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import WITHHELD, VerbError, from_os_error
from netdiag.participant.netlink import HEADER, NETLINK_NETFILTER, netlink_dump
from netdiag.participant.netns import in_netns, namespace_of
from netdiag.participant.trace_events import attributes, word
from netdiag.participant.undo_guard import Setting

NF_LOG = "/proc/sys/net/netfilter/nf_log/"
LOGGER = "nfnetlink_log"
"""What a trace sets a logger to; anything else is somebody's later choice and stays."""
_NAME = re.compile(r"^netdiag-[0-9a-f]{8}$")
_DEVICE = re.compile(r"^netdiag-t[0-9]+$")
_MARK = re.compile("^" + nftables.RESTORE + r"([0-9]{1,2})-([A-Za-z0-9_]{1,64})$")
_GETTABLE, _GETCHAIN = 10 << 8 | 1, 10 << 8 | 4
_TABLE_F_OWNER = 2


def firewall_sweep(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """Remove every nft table that a trace left behind, and put the loggers back that it had changed.

    Parameters: ``netns``; ``only_say`` (remove nothing); ``may_load`` (listing tables could load nf_tables). Data:
    ``removed`` (one line for each thing), ``living`` (names of tables and devices that a running trace uses). Errors:
    withheld, permission, missing, timeout, failed.
    """
    if not params.get("may_load"):
        raise VerbError(WITHHELD, "look for what a trace left: it could load nf_tables")
    only_say = bool(params.get("only_say"))
    return in_netns(namespace_of(params), lambda: sweep(deadline, only_say), deadline)


def sweep(deadline: Deadline, only_say: bool = False) -> Dict[str, Any]:
    """`firewall_sweep` in the calling thread's namespace."""
    removed: List[str] = []
    living: List[str] = []
    for family, name in sorted(_tables(deadline)):
        holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            # Bound by us it says to others that somebody is at it.
            holder.bind(b"\0" + name.encode("ascii"))
            removed += _removed(family, name, deadline, only_say)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise from_os_error(error, "look for the owner of the nft table " + name)
            living.append(name)
        finally:
            holder.close()
    living += [name for _, name in socket.if_nameindex() if _DEVICE.match(name)]
    return {"removed": removed, "living": sorted(set(living))}


def _removed(family: int, name: str, deadline: Deadline, only_say: bool) -> Iterator[str]:
    for setting in _settings(family, name, deadline):
        if not only_say:
            nftables.put_back(setting)
        yield "{} is {} again".format(setting.path.replace("/proc/sys/", "").replace("/", "."), setting.before)
    if only_say or nftables.remove(family, name, deadline):
        yield "nft table {} {}".format(_FAMILIES.get(family, str(family)), name)


_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}


def _tables(deadline: Deadline) -> Iterator[Tuple[int, str]]:
    """Family and name of every table that bears one of our names and has no owner."""
    for family, found in _dump(_GETTABLE, deadline):
        name = word(found.get(1))
        flags = struct.unpack(">I", found[2])[0] if len(found.get(2, b"")) == 4 else 0
        if _NAME.match(name) and not flags & _TABLE_F_OWNER:
            yield family, name


def _settings(family: int, table: str, deadline: Deadline) -> Iterator[Setting]:
    """The loggers that a table's chains say were changed, as far as they are still what we made them."""
    for chain_family, found in _dump(_GETCHAIN, deadline):
        mark = _MARK.match(word(found.get(3)))
        if mark is None or chain_family != family or word(found.get(1)) != table:
            continue
        setting = Setting(NF_LOG + mark.group(1), LOGGER, mark.group(2))
        try:
            with open(setting.path) as found_setting:
                if found_setting.read().strip() == LOGGER:
                    yield setting
        except OSError:
            continue


def _dump(kind: int, deadline: Deadline) -> List[Tuple[int, Dict[int, bytes]]]:
    """Family and attributes of every object of a dump."""
    answer = netlink_dump({"protocol": NETLINK_NETFILTER, "type": kind, "may_load": True}, deadline)
    data: bytes = answer["messages"]
    rows: List[Tuple[int, Dict[int, bytes]]] = []
    offset = 0
    while offset + HEADER.size + 4 <= len(data):
        length = struct.unpack_from("=I", data, offset)[0]
        if length < HEADER.size:
            break
        rows.append((data[offset + HEADER.size], attributes(data[offset + HEADER.size + 4 : offset + length])))
        offset += (length + 3) & ~3
    return rows
