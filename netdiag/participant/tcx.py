"""The verb that lists the programs at TCX, the kernel's hooks before and behind traffic control (kernel 6.6).

Rtnetlink, and so tc(8), does not show them: they hang on the device itself. Asking changes and loads nothing.
Sources: linux/bpf.h, kernel/bpf/tcx.c (tcx_prog_query), kernel/bpf/mprog.c.
"""

import errno
import os
import socket
from typing import Any, Dict, List

from netdiag.participant import bpf
from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import UNSUPPORTED, VerbError, from_os_error
from netdiag.participant.netns import in_netns, namespace_of

_HOOKS = (("ingress", bpf.TCX_INGRESS), ("egress", bpf.TCX_EGRESS))
_TOO_OLD = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


def tcx_programs(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """The programs of a namespace's devices, in the order in which they run.

    Parameters: ``devices`` (their names), ``netns``. Data: ``programs``: {``device``, ``hook`` ("ingress" or "egress"),
    ``id``, ``link`` (the id of the link that holds it; 0 where none does), ``name`` (empty where it is gone)}. Errors:
    unsupported (a kernel before 6.6), missing (namespace), permission.
    """
    devices = [str(device) for device in params.get("devices") or ()]

    def work() -> Dict[str, Any]:
        return {"programs": [row for device in devices for row in _of(device)]}

    return in_netns(namespace_of(params), work, deadline)


def _of(device: str) -> List[Dict[str, Any]]:
    try:
        index = socket.if_nametoindex(device)
    except OSError:  # it has gone
        return []
    rows: List[Dict[str, Any]] = []
    for hook, where in _HOOKS:
        try:
            attached = bpf.attached(index, where)
        except OSError as error:
            if error.errno in _TOO_OLD:
                raise VerbError(UNSUPPORTED, "list programs at TCX: the kernel has none (6.6)")
            raise from_os_error(error, "list programs at TCX of " + device)
        for program, link in attached:
            rows.append({"device": device, "hook": hook, "id": program, "link": link, "name": _name(program)})
    return rows


def _name(program: int) -> str:
    try:
        descriptor = bpf.by_id(program)
    except OSError:
        return ""
    try:
        return bpf.name_of(descriptor)
    except OSError:
        return ""
    finally:
        os.close(descriptor)
