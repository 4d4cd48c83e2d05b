"""A process that puts back what the kernel would keep: it waits for its owner's end, and undoes what that did not.

It is ready before the change, in a session of its own, deaf to what ends a terminal or a group, and holds nothing of
its owner but a pipe and what it is given. A ``kill -9`` of the owner or of its group closes the pipe; so does a normal
end. Started by exec, not by a bare fork: the owner has threads, and a fork would keep the memory of all of it.
"""

import os
import select
import shutil
import subprocess
import sys
from typing import List, NamedTuple, Sequence

from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import FAILED, TIMEOUT, UNSUPPORTED, VerbError, from_os_error

_END_S = 2.0

_SCRIPT = """
import os, signal, socket, sys
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGPIPE):
    signal.signal(number, signal.SIG_IGN)
os.chdir("/")
netfilter = socket.socket(16, 3, 12)
os.write(1, b"r")
os.close(1)
if not os.read(0, 1):
    words = sys.argv[1:]
    while words:
        kind = words.pop(0)
        try:
            if kind == "set":
                path, ours, before = words.pop(0), words.pop(0), words.pop(0)
                with open(path) as setting:
                    now = setting.read().strip()
                if now == ours:
                    with open(path, "w") as setting:
                        setting.write(before)
            else:
                netfilter.send(bytes.fromhex(words.pop(0)))
        except OSError:
            pass
"""


class Setting(NamedTuple):
    """A file of /proc/sys that is ``before`` again afterwards, unless somebody has made it other than ``ours``."""

    path: str
    ours: str
    before: str


class Guard:
    """The process; it has the network namespace of the thread that makes it."""

    def __init__(
        self, settings: Sequence[Setting], batches: Sequence[bytes], keep: Sequence[int], deadline: Deadline
    ) -> None:
        """Start it and wait until it is ready.

        ``settings`` are put back first, then the nf_tables ``batches`` are sent, each by itself. The descriptors in
        ``keep`` stay open in it. Raises VerbError when it cannot be started.
        """
        tried = "start the process that tidies up after a kill"
        program = sys.executable or shutil.which("python3")
        if not program:
            raise VerbError(UNSUPPORTED, tried + ": no Python interpreter is known")
        words: List[str] = []
        for setting in settings:
            words += ["set", setting.path, setting.ours, setting.before]
        for batch in batches:
            words += ["send", batch.hex()]
        try:
            self._process = subprocess.Popen(
                [program, "-I", "-S", "-c", _SCRIPT] + words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                close_fds=True,
                pass_fds=tuple(keep),
                start_new_session=True,
            )
        except OSError as error:
            raise from_os_error(error, tried)
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        self._pipe = stdin
        try:
            ready, _, _ = select.select([stdout], [], [], deadline.left())
            if not ready:
                raise VerbError(TIMEOUT, tried + ": it is not ready in time")
            if stdout.read(1) != b"r":
                raise VerbError(FAILED, tried + ": it ended at once")
        except BaseException:
            self._end()
            raise
        finally:
            stdout.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def close(self) -> None:
        """Send it home: its owner has undone everything itself."""
        try:
            os.write(self._pipe.fileno(), b"d")
        except OSError:  # it was killed
            pass
        self._end()

    def _end(self) -> None:
        self._pipe.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
