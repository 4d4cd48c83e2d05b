"""Whose a socket is: packet filters ask for the user and group that opened it (xt_owner, nft's meta skuid and skgid).

They look at the credentials of the socket's file, which are those of the thread that opened it, by its file-system ids
(net/netfilter/xt_owner.c, nft_meta.c, net/socket.c). These belong to a thread alone (setfsuid(2)) and are put back at
once; the capabilities that go with them are those about files only (capabilities(7)).
"""

import contextlib
import ctypes
import os
from typing import Any, Dict, Iterator, Optional, Tuple

from netdiag.participant.errors import PERMISSION, VerbError

_libc = ctypes.CDLL(None, use_errno=True)
_ASKS = ctypes.c_uint(0xFFFFFFFF)
"""An id that nobody has: the call changes nothing and returns the one in use."""


@contextlib.contextmanager
def owned_socket(params: Dict[str, Any]) -> Iterator[int]:
    """Sockets that are opened inside belong to the user and group that the parameters name; gives that user's id.

    ``as_pid``: those of a process, as long as there is one; ``as_user`` and ``as_group``: numbers. Without either they
    belong to whom this process runs as. Raises VerbError permission where they cannot be taken.
    """
    wanted = _wanted(params)
    if wanted is None:
        yield os.geteuid()
        return
    before = int(_libc.setfsuid(_ASKS)), int(_libc.setfsgid(_ASKS))
    try:
        _take(*wanted)
        if (_libc.setfsuid(_ASKS), _libc.setfsgid(_ASKS)) != wanted:
            raise VerbError(PERMISSION, "open a socket as user {} and group {}".format(*wanted))
        yield wanted[0]
    finally:
        _take(*before)


def _take(user: int, group: int) -> None:
    _libc.setfsgid(ctypes.c_uint(group))
    _libc.setfsuid(ctypes.c_uint(user))


def _wanted(params: Dict[str, Any]) -> Optional[Tuple[int, int]]:
    if params.get("as_user") is not None:
        user = int(params["as_user"])
        return user, int(params["as_group"]) if params.get("as_group") is not None else user
    if not params.get("as_pid"):
        return None
    try:
        with open("/proc/{}/status".format(int(params["as_pid"])), encoding="utf-8", errors="replace") as status:
            rows = dict(line.split(":", 1) for line in status if ":" in line)
        return int(rows["Uid"].split()[3]), int(rows["Gid"].split()[3])
    except (OSError, KeyError, IndexError, ValueError):  # it has ended
        return None
