"""Who may change the logger of nf_log in a namespace: whoever has NFLOG group 0 there.

Legacy chains are heard only when the logger is nfnetlink_log, a setting that outlives who makes it. The group has one
holder in a namespace, only root can be that, and the kernel takes it back with the last descriptor: so it is the lock
under which the setting is changed and put back. Sources: net/netfilter/nf_log.c, nfnetlink_log.c.
"""

import errno
import struct
import time
from typing import List

from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import TIMEOUT, UNSUPPORTED, VerbError, from_errno
from netdiag.participant.netlink import (
    NETLINK_NETFILTER,
    NLM_F_ACK,
    NLM_F_REQUEST,
    attribute,
    open_netlink,
    request,
)

NF_LOG = "/proc/sys/net/netfilter/nf_log/"
LOGGER = "nfnetlink_log"
"""What a trace sets a logger to; anything else is somebody's later choice and stays."""
_CONFIG = 4 << 8 | 1
_BIND, _COPY_PACKET = 1, 2
_COPY_BYTES = 131
"""How much of a packet a trace asks for: odd enough to tell a trace from another program in the kernel's list."""
_SURE_S = 0.1
"""How long somebody who has the group may need until the list shows what he asks for."""


class Group:
    """NFLOG group 0 of the calling thread's namespace, with a socket that receives what it reports."""

    def __init__(self, tried: str, deadline: Deadline, wait_s: float) -> None:
        """Take it; another trace is waited for.

        Raises VerbError: timeout (another trace has it for longer), unsupported (another program has it, or the kernel
        has no nfnetlink_log), permission.
        """
        # Opening it loads nfnetlink_log, where it is a module; only then is the logger known by its name.
        self.sock = open_netlink(NETLINK_NETFILTER, tried, 4 << 20, False)
        try:
            self._take(tried, deadline, wait_s)
            # Each message at once, with the packet's first bytes.
            mode = attribute(2, struct.pack(">IBx", _COPY_BYTES, _COPY_PACKET)) + attribute(5, struct.pack(">I", 1))
            number = self._ask(mode, deadline, tried)
            if number:
                raise from_errno(number, tried)
        except BaseException:
            self.sock.close()
            raise

    def fileno(self) -> int:
        """The descriptor; as long as any copy of it is open nobody else has the group."""
        return self.sock.fileno()

    def close(self) -> None:
        """Give it back."""
        self.sock.close()

    def _take(self, tried: str, deadline: Deadline, wait_s: float) -> None:
        start_s = time.monotonic()
        while True:
            number = self._ask(attribute(1, bytes([_BIND])), deadline, tried)
            if not number:
                return
            if number in (errno.EINVAL, errno.EOPNOTSUPP):
                raise VerbError(UNSUPPORTED, tried + ": the kernel has no nfnetlink_log")
            if number not in (errno.EBUSY, errno.EPERM):
                raise from_errno(number, tried)
            waited_s = time.monotonic() - start_s
            if waited_s > _SURE_S and not _is_a_trace_s():
                raise VerbError(UNSUPPORTED, tried + ": another program (ulogd?) has NFLOG group 0")
            if waited_s > min(wait_s, deadline.left()):
                raise VerbError(TIMEOUT, tried + ": another trace does so already")
            # The kernel gives no notice of a group that becomes free.
            time.sleep(0.01)

    def _ask(self, body: bytes, deadline: Deadline, tried: str) -> int:
        head = struct.pack(">BBH", 0, 0, 0)
        answer = request(self.sock, _CONFIG, NLM_F_REQUEST | NLM_F_ACK, head + body, deadline, tried)
        return int(answer["errno"])


def changed_meanwhile() -> str:
    """Which logger is no longer what a trace has set it to, in words; empty when both are."""
    for path in logger_paths():
        now = read_logger(path)
        if now != LOGGER:
            name = path.replace("/proc/sys/", "").replace("/", ".")
            return "somebody has set {} to {} meanwhile".format(name, now)
    return ""


def logger_paths() -> List[str]:
    """The settings that name the loggers of IPv4 and IPv6."""
    return [NF_LOG + family for family in ("2", "10")]


def read_logger(path: str) -> str:
    """The logger that a setting names. Raises OSError."""
    with open(path) as setting:
        return setting.read().strip()


def _is_a_trace_s() -> bool:
    """Whether the kernel's list says of the group's holder what a trace asks for; also when there is no list."""
    try:
        with open("/proc/thread-self/net/netfilter/nfnetlink_log") as listed:
            rows = [line.split() for line in listed]
    except OSError:
        return True
    found = [row for row in rows if len(row) > 4 and row[0] == "0"]
    return not found or found[0][3:5] == [str(_COPY_PACKET), str(_COPY_BYTES)]
