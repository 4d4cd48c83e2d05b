"""The verb that has this host's own tools read saved rules and say them back, in a namespace that nobody uses.

What two texts mean is best said by the tool that loads them: spellings, defaults and orders of options then agree.
Nothing of it reaches the host: the network namespace is new and empty, and it dies with the thread that made it.
"""

import errno
import os
import struct
from typing import Any, Dict, List, Tuple

from netdiag.participant.commands import find_program, run_bounded
from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import FAILED, MISSING, UNSUPPORTED, WITHHELD, VerbError
from netdiag.participant.netlink import (
    IFLA_IFNAME,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    NETLINK_ROUTE,
    NLA_F_NESTED,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REQUEST,
    RTM_NEWLINK,
    attribute,
    open_netlink,
    request,
)
from netdiag.participant.netns import in_scratch_netns

_XTABLES = tuple(tool + variant for tool in ("iptables", "ip6tables") for variant in ("", "-legacy", "-nft"))
LOADERS = (
    *((tool + "-restore",) for tool in _XTABLES),
    *((tool + "-restore", "-n") for tool in _XTABLES),
    ("ipset", "restore"),
    ("nft", "-f", "-"),
)
"""What may load a text, which it reads from its standard input."""
FILE_LOADER = ("nft", "-f")
"""What may load a file by its path: an nft file may include others, and its messages name the file and the line."""
LISTERS = (*((tool + "-save",) for tool in _XTABLES), ("nft", "-s", "list", "ruleset"), ("ipset", "save"))
"""What says afterwards what is there."""


def scratch_rules(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """Load saved rules in a scratch network namespace, and list what they became there.

    Parameters: ``steps`` (list of {"argv", "text"}: argv of `LOADERS`, or `FILE_LOADER` with an absolute path and no
    text), ``list`` (argv of `LISTERS`), ``devices`` (names of devices that the rules hang on: they are made there, of the
    kind ``device_kind``), ``may_load`` (the modules of all that the rules name are there, or may be
    loaded). A step that fails ends the work. Data: ``failed`` (number of the step, from 0, or None), ``argv`` of
    what ran last, its ``code`` and ``stderr``; ``stdout`` (the listing, empty when a step failed). Errors: unsupported
    (not in the tables), withheld, missing (no such tool), permission, timeout.
    """
    steps = [([str(word) for word in step["argv"]], str(step.get("text") or "")) for step in params["steps"]]
    lister = [str(word) for word in params["list"]]
    for argv, text in steps:
        if tuple(argv) not in LOADERS and not _loads_file(argv, text):
            raise VerbError(UNSUPPORTED, "run {}: it is no loader of saved rules".format(" ".join(argv)))
    if tuple(lister) not in LISTERS:
        raise VerbError(UNSUPPORTED, "run {}: it does not list rules".format(" ".join(lister)))
    if not params.get("may_load"):
        raise VerbError(WITHHELD, "load saved rules to compare them: it could load kernel modules")
    devices, kind = [str(name) for name in params.get("devices") or ()], str(params.get("device_kind") or "dummy")
    programs = {name: _program(name) for name in [argv[0] for argv, _ in steps] + [lister[0]]}

    def work() -> Dict[str, Any]:
        for name in devices:
            _make_device(name, kind, deadline)
        return _work(steps, lister, programs, deadline)

    return in_scratch_netns(work, deadline)


def _loads_file(argv: List[str], text: str) -> bool:
    return len(argv) == 3 and tuple(argv[:2]) == FILE_LOADER and os.path.isabs(argv[2]) and not text


def _make_device(name: str, kind: str, deadline: Deadline) -> None:
    """A device of the name that rules ask for; which kind it is makes no difference to them."""
    tried = "make a device {} in a scratch namespace".format(name)
    info = attribute(IFLA_INFO_KIND, kind.encode("ascii") + b"\0")
    body = struct.pack("=BxHiII", 0, 0, 0, 0, 0)  # struct ifinfomsg, nothing asked for
    body += attribute(IFLA_IFNAME, name.encode() + b"\0") + attribute(IFLA_LINKINFO | NLA_F_NESTED, info)
    with open_netlink(NETLINK_ROUTE, tried, 1 << 16, False) as sock:
        answer = request(
            sock, RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, body, deadline, tried
        )
    if answer["errno"] != 0 and answer["errno"] != errno.EEXIST:
        raise VerbError(FAILED, "{}: {}".format(tried, answer["text"]))


def _program(name: str) -> str:
    program = find_program(name)
    if program is None:
        raise VerbError(MISSING, "run {}: no such tool on this host".format(name))
    return program


def _work(
    steps: List[Tuple[List[str], str]], lister: List[str], programs: Dict[str, str], deadline: Deadline
) -> Dict[str, Any]:
    answer: Dict[str, Any] = {"failed": None, "stdout": ""}
    for number, (argv, text) in enumerate([*steps, (lister, "")]):
        # The legacy tools take turns by a file of the host; here there is nobody to take turns with.
        done = run_bounded(
            [programs[argv[0]]] + argv[1:], deadline, text=text, environment={"XTABLES_LOCKFILE": os.devnull}
        )
        answer.update(argv=argv, code=done["code"], stderr=done["stderr"])
        if done["code"] != 0:
            answer["failed"] = number
            return answer
        answer["stdout"] = done["stdout"]
    return answer
