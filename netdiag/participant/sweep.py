"""The verb that removes what a killed trace left in a namespace, and nothing that a living one uses.

Only a table without an owner can be left: `netdiag.participant.nftables.SweptTable`. Its sign of life
(`netdiag.participant.life`) tells the living from the dead.
"""

import re
import socket
import struct
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from netdiag.participant import life, nf_log, nftables
from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import TIMEOUT, WITHHELD, VerbError, from_os_error
from netdiag.participant.netlink import HEADER, NETLINK_NETFILTER, netlink_dump
from netdiag.participant.netns import in_netns, namespace_of
from netdiag.participant.trace_events import attributes, word
from netdiag.participant.undo_guard import Setting

_DEVICE = re.compile(r"^netdiag-t[0-9]+$")
_MARK = re.compile("^" + nftables.RESTORE + r"([0-9]{1,2})-([A-Za-z0-9_]{1,64})$")
_GETTABLE, _GETCHAIN = 10 << 8 | 1, 10 << 8 | 4
_TABLE_F_OWNER = 2
_WAIT_S = 1.0
"""How long a trace that listens to legacy chains is waited for."""

Row = Tuple[int, Dict[int, bytes]]
"""Family and attributes of an object."""


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
    found = sorted(left_behind(_dump(_GETTABLE, deadline)))
    try:
        alive = life.living() if found else set()
    except OSError as error:
        raise from_os_error(error, "look for the owners of nft tables")
    busy = {name for _, name in found if name in alive}
    dead = [table for table in found if table[1] not in busy]
    group: Optional[nf_log.Group] = None
    if not only_say and any(_marks(table, deadline) for table in dead):
        try:
            group = nf_log.Group("put loggers back", deadline, _WAIT_S)
        except VerbError as error:
            # Any other error: no trace has the group, so none hears by the logger that is put back.
            if error.kind == TIMEOUT:
                busy |= {table[1] for table in dead if _marks(table, deadline)}
    try:
        removed = [line for table in dead if table[1] not in busy for line in _removed(table, deadline, only_say)]
    finally:
        if group is not None:
            group.close()
    devices = {name for _, name in socket.if_nameindex() if _DEVICE.match(name)}
    return {"removed": removed, "living": sorted(busy | devices)}


def _removed(table: Tuple[int, str], deadline: Deadline, only_say: bool) -> Iterator[str]:
    family, name = table
    for setting in _marks(table, deadline):
        if not _is_ours(setting):
            continue
        if not only_say:
            nftables.put_back(setting)
        yield "{} is {} again".format(setting.path.replace("/proc/sys/", "").replace("/", "."), setting.before)
    if only_say or nftables.remove(family, name, deadline):
        yield "nft table {} {}".format(_FAMILIES.get(family, str(family)), name)


_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}


def left_behind(tables: Sequence[Row]) -> Iterator[Tuple[int, str]]:
    """Family and name of every table that bears one of our names and has no owner, among those that the kernel lists."""
    for family, found in tables:
        name = word(found.get(1))
        flags = struct.unpack(">I", found[2])[0] if len(found.get(2, b"")) == 4 else 0
        if life.is_table_name(name) and not flags & _TABLE_F_OWNER:
            yield family, name


def _marks(table: Tuple[int, str], deadline: Deadline) -> List[Setting]:
    """The loggers that a table's chains say were changed, with what they were before."""
    marks = []
    for family, found in _dump(_GETCHAIN, deadline):
        mark = _MARK.match(word(found.get(3)))
        if mark is not None and (family, word(found.get(1))) == table:
            marks.append(Setting(nf_log.NF_LOG + mark.group(1), nf_log.LOGGER, mark.group(2)))
    return marks


def _is_ours(setting: Setting) -> bool:
    """Whether a logger is still what a trace has made it."""
    try:
        return nf_log.read_logger(setting.path) == setting.ours
    except OSError:
        return False


def _dump(kind: int, deadline: Deadline) -> List[Row]:
    """Every object of a dump."""
    answer = netlink_dump({"protocol": NETLINK_NETFILTER, "type": kind, "may_load": True}, deadline)
    data: bytes = answer["messages"]
    rows: List[Row] = []
    offset = 0
    while offset + HEADER.size + 4 <= len(data):
        length = struct.unpack_from("=I", data, offset)[0]
        if length < HEADER.size:
            break
        rows.append((data[offset + HEADER.size], attributes(data[offset + HEADER.size + 4 : offset + length])))
        offset += (length + 3) & ~3
    return rows
