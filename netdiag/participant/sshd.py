"""The verb that tells whether an sshd looks up the names of its clients; nothing else of its settings is told."""

import os
import re
from typing import Any, Dict, List, Optional

from netdiag.participant.deadline import Deadline
from netdiag.participant.dns import open_etc, text_at
from netdiag.participant.errors import from_os_error

_CONFIG, _DIRECTORY = "sshd_config", "sshd_config.d"
_KEY = "usedns"
_OPTION = re.compile(r" -o ?usedns[ =](\w+) ", re.IGNORECASE)


def sshd_lookup(params: Dict[str, Any], _deadline: Deadline) -> Dict[str, Any]:
    """Whether an sshd resolves its clients' addresses while they log in (UseDNS).

    Its command line is read, then /etc/ssh/sshd_config of its own root with what that includes from sshd_config.d; the
    first value counts (sshd_config(5)), and no symbolic link is followed. Parameters: ``pid``. Data: ``use_dns``: "yes",
    "no", or "" where nothing says (the default is no since OpenSSH 6.8), ``where`` (what says it, "" for nothing).
    Errors: missing (the process has ended), permission.
    """
    pid = int(params["pid"])
    try:
        with open("/proc/{}/cmdline".format(pid), "rb") as file:
            # A daemon writes its title over its arguments: the same words, with spaces between.
            words = file.read(65536).replace(b"\0", b" ").decode("utf-8", "replace").split()
    except OSError as error:
        raise from_os_error(error, "read the command line of process {}".format(pid))
    value = _of_words(words)
    if value is not None:
        return {"use_dns": value, "where": "its command line"}
    etc = open_etc(pid, "read the settings of process {}".format(pid))
    try:
        return _of_files(etc)
    finally:
        os.close(etc)


def _of_words(words: List[str]) -> Optional[str]:
    """The value of ``-o UseDNS=VALUE``, in whichever spelling."""
    found = _OPTION.search(" " + " ".join(words) + " ")
    return found.group(1).lower() if found else None


def _of_line(line: str) -> Optional[str]:
    words = line.split("#", maxsplit=1)[0].replace("=", " ").split()
    return words[1].strip('"').lower() if len(words) > 1 and words[0].lower() == _KEY else None


def _of_files(etc: int) -> Dict[str, Any]:
    try:
        ssh = os.open("ssh", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=etc)
    except OSError:
        return {"use_dns": "", "where": ""}
    try:
        for line in text_at(ssh, _CONFIG).splitlines():
            value = _of_line(line)
            if value is not None:
                return {"use_dns": value, "where": "/etc/ssh/" + _CONFIG}
            words = line.split("#")[0].split()
            if words and words[0].lower() == "include":
                for pattern in words[1:]:
                    found = _of_included(ssh, pattern)
                    if found is not None:
                        return found
    finally:
        os.close(ssh)
    return {"use_dns": "", "where": ""}


def _of_included(ssh: int, pattern: str) -> Optional[Dict[str, Any]]:
    """The first value in the files of sshd_config.d; what is included from elsewhere is not looked at.

    Of wildcards only one at the beginning is understood, as distributions write it.
    """
    head, _, name = pattern.rpartition("/")
    if head not in ("/etc/ssh/" + _DIRECTORY, _DIRECTORY):
        return None
    try:
        directory = os.open(_DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=ssh)
    except OSError:
        return None
    try:
        for each in sorted(os.listdir(directory)):
            if each != name and not (name[:1] == "*" and each.endswith(name[1:]) and each[:1] != "."):
                continue
            for line in text_at(directory, each).splitlines():
                value = _of_line(line)
                if value is not None:
                    return {"use_dns": value, "where": "/etc/ssh/{}/{}".format(_DIRECTORY, each)}
    finally:
        os.close(directory)
    return None
