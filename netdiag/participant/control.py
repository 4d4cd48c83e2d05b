"""The verb that asks BIRD's control socket a question."""

import os
import re
import socket
from typing import Any, Dict

from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import UNSUPPORTED, VerbError, from_os_error

LIMIT_BYTES = 16 << 20
_QUESTION = re.compile(r"^show [ -~]*$")
_SOCKET = re.compile(r"^bird6?[A-Za-z0-9_.-]*\.ctl$")
END = r"^(0000|[89][0-9]{3})( |$)"
"""How BIRD ends an answer: 0000, or a run-time (8xxx) or syntax (9xxx) error (BIRD's manual, "Remote control")."""


def unix_ask(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """Send one line to BIRD's control socket and read until its answer ends.

    Parameters: ``path`` (a socket whose name is bird*.ctl); ``send`` (one line that begins with "show "); ``until``
    (optional pattern of the answer's last line, default `END`); ``limit_bytes``. Data: ``text`` (greeting and answer,
    as they came), ``truncated``. Errors: unsupported (another socket, another line), missing, permission, timeout.
    """
    path, line = str(params["path"]), str(params["send"]).rstrip("\n")
    limit = int(params.get("limit_bytes") or LIMIT_BYTES)
    if not _SOCKET.match(os.path.basename(path)):
        raise VerbError(UNSUPPORTED, "ask {}: only BIRD's control socket is asked".format(path))
    if not _QUESTION.match(line):
        raise VerbError(UNSUPPORTED, "ask {}: only lines that begin with show are sent".format(path))
    tried = "ask {}: {}".format(path, line)
    last = re.compile(str(params.get("until") or END), re.MULTILINE)
    text = ""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        try:
            stream.settimeout(deadline.require(tried))
            stream.connect(path)
            stream.sendall(line.encode("ascii") + b"\n")
            while len(text) < limit:
                stream.settimeout(deadline.require(tried))
                chunk = stream.recv(65536)
                text += chunk.decode("utf-8", "replace")
                # The pattern must match a whole line, so only what ends in a newline is looked at.
                complete = text[: text.rfind("\n") + 1]
                if not chunk or last.search(complete[-4096:]):
                    break
        except OSError as error:
            raise from_os_error(error, tried)
    return {"text": text[:limit], "truncated": len(text) >= limit}
