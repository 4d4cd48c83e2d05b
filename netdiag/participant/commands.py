"""The verb that runs a command: only from a published table of commands that change nothing, and never a shell."""

import os
import shutil
import signal
import subprocess
from typing import Any, Dict, List, Optional, Sequence, Tuple

from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import MISSING, UNSUPPORTED, WITHHELD, VerbError, from_os_error
from netdiag.participant.netns import in_netns, namespace_of

LIMIT_BYTES = 64 << 20
"""How much output of one command is kept."""

EXACT = True
LEADING = False

READ_ONLY_COMMANDS = (
    # argv that is allowed; whether it must match exactly or may be followed by options; what running it may load
    (("iptables-save",), LEADING, "ip_tables or nf_tables"),
    (("iptables-legacy-save",), LEADING, "ip_tables"),
    (("iptables-nft-save",), LEADING, "nf_tables"),
    (("ip6tables-save",), LEADING, "ip6_tables or nf_tables"),
    (("ip6tables-legacy-save",), LEADING, "ip6_tables"),
    (("ip6tables-nft-save",), LEADING, "nf_tables"),
    (("iptables", "--version"), EXACT, ""),
    (("nft", "list", "ruleset"), EXACT, "nf_tables"),
    (("nft", "-a", "list", "ruleset"), EXACT, "nf_tables"),
    (("nft", "-j", "list", "ruleset"), EXACT, "nf_tables"),
    (("nft", "-j", "-a", "list", "ruleset"), EXACT, "nf_tables"),
    (("nft", "--version"), EXACT, ""),
    (("ipset", "save"), EXACT, "ip_set"),
    (("ipset", "list"), EXACT, "ip_set"),
    # Never without "nokeys": the keys of encrypted networks are secrets. An ip(8) that is too old for it refuses.
    (("ip", "-s", "xfrm", "state", "list", "nokeys"), EXACT, "xfrm_user"),
    (("ip", "-s", "xfrm", "policy", "list"), EXACT, "xfrm_user"),
    (("ip", "-V"), EXACT, ""),
    (("bridge", "vlan"), EXACT, ""),
    (("bridge", "-j", "vlan"), EXACT, ""),
    (("journalctl", "-u", "docker"), LEADING, ""),
    (("journalctl", "-u", "docker.service"), LEADING, ""),
    (("systemctl", "is-active"), LEADING, ""),
    (("systemctl", "is-enabled"), LEADING, ""),
    # ufw lists chains with iptables, which loads the tables that are not there.
    (("ufw", "status"), LEADING, "ip_tables or nf_tables"),
    (("firewall-cmd", "--state"), EXACT, ""),
    (("firewall-cmd", "--get-default-zone"), EXACT, ""),
    (("firewall-cmd", "--get-active-zones"), EXACT, ""),
    (("firewall-cmd", "--list-all-zones"), EXACT, ""),
    (("firewall-cmd", "--permanent", "--list-all-zones"), EXACT, ""),
    (("firewall-cmd", "--list-all-policies"), EXACT, ""),
    (("firewall-cmd", "--permanent", "--list-all-policies"), EXACT, ""),
    (("firewall-cmd", "--direct", "--get-all-rules"), EXACT, ""),
    (("firewall-cmd", "--permanent", "--direct", "--get-all-rules"), EXACT, ""),
)
"""Every command that a participant runs, and nothing else.

Where the third column is not empty, running it may load that kernel module; the request must then carry
``may_load``: the caller knows that the module is there already, or the operator allows loading it.
"""

_OPTIONS: Dict[str, Tuple[Tuple[str, ...], Tuple[str, ...]]] = {
    "iptables": (("-c", "--counters"), ("-t", "--table")),
    "journalctl": (
        ("--no-pager", "-q", "--quiet", "--utc", "-r", "--reverse"),
        ("-n", "--lines", "-o", "--output", "-S", "--since", "-U", "--until", "-p", "--priority", "-g", "--grep"),
    ),
    "systemctl": (("-q", "--quiet"), ()),
    "ufw": (("verbose", "numbered"), ()),
}
"""What may follow a leading argv, per tool: plain words, and options that take a value."""

_SYSTEM_DIRECTORIES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""Searched after PATH: the administrator's tools are often not in an ordinary user's."""


def command(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """Run one command of `READ_ONLY_COMMANDS` with LC_ALL=C and nothing on its standard input.

    Parameters: ``argv`` (list); ``netns`` (optional); ``may_load`` (see there). Data: ``stdout`` (text), ``stderr``
    (text), ``code`` (negative: the signal that ended it), ``program`` (path that ran). Errors: unsupported (not in the
    table), withheld (it could load a module), missing (no such tool), timeout (it and its children were killed).
    """
    argv = [str(word) for word in params["argv"]]
    loads = allowed(argv)
    if loads is None:
        raise VerbError(UNSUPPORTED, "run {}: not in the table of read-only commands".format(" ".join(argv)))
    program = find_program(argv[0])
    if program is None:
        raise VerbError(MISSING, "run {}: no such tool on this host".format(argv[0]))
    if loads and not params.get("may_load"):
        raise VerbError(WITHHELD, "run {}: it could load the kernel module {}".format(" ".join(argv), loads))
    return in_netns(namespace_of(params), lambda: run_bounded([program] + argv[1:], deadline), deadline)


def allowed(argv: Sequence[str]) -> Optional[str]:
    """None when the table does not have ``argv``; else the module that running it may load, or ""."""
    for words, exact, loads in READ_ONLY_COMMANDS:
        if tuple(argv[: len(words)]) != words:
            continue
        rest = list(argv[len(words) :])
        if not rest or (not exact and _harmless(words[0], rest)):
            return loads
    return None


def _harmless(tool: str, rest: List[str]) -> bool:
    name = "iptables" if tool.endswith("-save") else tool
    plain, valued = _OPTIONS[name]
    position = 0
    while position < len(rest):
        word = rest[position]
        option, equals, _ = word.partition("=")
        if word in plain or (equals and option in valued and option.startswith("--")):
            position += 1
        elif word in valued and position + 1 < len(rest):
            position += 2
        elif name == "systemctl" and not word.startswith("-"):
            position += 1
        else:
            return False
    return True


def find_program(name: str) -> Optional[str]:
    """Where a tool is: in PATH, else in the system's own directories; None when nowhere."""
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(_SYSTEM_DIRECTORIES))


def run_bounded(
    argv: List[str], deadline: Deadline, text: str = "", environment: Optional[Dict[str, str]] = None
) -> Dict[str, Any]:
    """Run a program to its end or to the deadline; then it and all that it started are killed.

    ``text`` is what it reads from its standard input; ``environment`` is added to ours.
    """
    tried = "run " + " ".join(argv)
    deadline.require(tried)
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE if text else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(os.environ, LC_ALL="C", LANG="C", **(environment or {})),
            start_new_session=True,  # a process group of its own, so that killing reaches its children
        )
    except OSError as error:
        raise from_os_error(error, tried)
    try:
        stdout, stderr = process.communicate(text.encode("utf-8") if text else None, timeout=deadline.left())
    except subprocess.TimeoutExpired:
        deadline.require(tried)
        raise
    finally:
        _kill_group(process)
    return {
        "stdout": stdout[:LIMIT_BYTES].decode("utf-8", "replace"),
        "stderr": stderr[:LIMIT_BYTES].decode("utf-8", "replace"),
        "code": process.returncode,
        "program": argv[0],
    }


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    if process.returncode is not None:
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except OSError:
        process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
