"""A network namespace that is held by a thread of this process alone, and what may be made in it.

It has no name and no file: with the thread, so also with the process after a kill -9, the kernel takes it away and all
that is in it. Whatever is made is made by a thread that has just entered it and has seen that it is there.
"""

import contextlib
import os
import threading
from typing import Any, Callable, Dict, List, Sequence, Tuple, TypeVar, Union

from netdiag.participant.commands import find_program, run_bounded
from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import FAILED, MISSING, UNSUPPORTED, VerbError
from netdiag.participant.netns import call_within, enter, in_scratch_netns
from netdiag.participant.scratch_rules import LOADERS
from netdiag.participant.trace import trace_several

_START_S = 5.0
BUILDERS = (
    ("ip", "-force", "-batch", "-"),
    ("ip", "-6", "-force", "-batch", "-"),
    ("bridge", "-force", "-batch", "-"),
)
_HARMLESS = ("File exists",)
"""What ip says of that which the kernel has made by itself."""

T = TypeVar("T")


class ScratchHost:
    """A new, empty network namespace; `close` it, or let the process end."""

    def __init__(self) -> None:
        """Make it. Raises VerbError: permission, or failed."""
        self.path = ""
        """The file that names the namespace while it is there."""
        self._end = threading.Event()
        self._ready = threading.Event()
        self._failed: List[VerbError] = []
        self._thread = threading.Thread(target=self._hold, name="netdiag-scratch-host", daemon=True)
        self._thread.start()
        if not self._ready.wait(_START_S):
            raise VerbError(FAILED, "create a scratch network namespace: no answer")
        if self._failed:
            raise self._failed[0]

    def close(self) -> None:
        """Let it go."""
        self._end.set()
        self._thread.join(_START_S)

    def _hold(self) -> None:
        try:
            in_scratch_netns(self._wait, Deadline(365 * 86400.0))
        except VerbError as error:
            self._failed.append(error)
        finally:
            self._ready.set()

    def _wait(self) -> None:
        self.path = "/proc/{}/ns/net".format(os.readlink("/proc/thread-self"))
        self._ready.set()
        self._end.wait()

    def _inside(self, function: Callable[[], T], deadline: Deadline) -> T:
        def body() -> T:
            enter(self.path)
            return function()

        return call_within(body, deadline, "in a scratch network namespace")

    def build(self, argv: Sequence[str], lines: Sequence[str], deadline: Deadline) -> List[str]:
        """Have one of `BUILDERS` run lines; one that fails is told with the reason, and the others go on.

        Raises VerbError: unsupported (none of them), missing (no such tool), timeout.
        """
        if tuple(argv) not in BUILDERS:
            raise VerbError(UNSUPPORTED, "run {}: it builds no host".format(" ".join(argv)))
        if not lines:
            return []
        done = self._run(argv, "\n".join(lines) + "\n", deadline)
        return list(_failed_lines(lines, str(done["stderr"])))

    def set_all(self, values: Sequence[Tuple[str, str]], deadline: Deadline) -> List[str]:
        """Write settings below /proc/sys; those that cannot be written are told. What is so already is left alone."""

        def work() -> List[str]:
            failed = []
            for path, value in values:
                # The calling thread's namespace is what /proc/sys/net shows it.
                try:
                    with open("/proc/sys/" + path, "r+") as setting:
                        if setting.read().split() != value.split():
                            setting.seek(0)
                            setting.write(value)
                except OSError as error:
                    failed.append("{}: {}".format(path.replace("/", "."), os.strerror(error.errno or 0)))
            return failed

        return self._inside(work, deadline)

    def load(self, argv: Sequence[str], text: str, deadline: Deadline) -> str:
        """Have a tool of `scratch_rules.LOADERS` read rules; what it says where it fails, else nothing.

        Raises VerbError: unsupported (no loader), missing (no such tool), timeout.
        """
        if tuple(argv) not in LOADERS:
            raise VerbError(UNSUPPORTED, "run {}: it is no loader of saved rules".format(" ".join(argv)))
        done = self._run(argv, text, deadline)
        return "" if done["code"] == 0 else str(done["stderr"]).strip() or "exit code {}".format(done["code"])

    def trace(
        self, several: Sequence[Dict[str, Any]], each_s: float, whole_s: float
    ) -> List[Union[Dict[str, Any], VerbError]]:
        """Send one packet after another; each is as for the verb ``firewall-trace``, and has ``each_s`` for itself.

        The answer may be of the first ones only: no more are begun after ``whole_s``.
        """
        return self._inside(lambda: trace_several(several, each_s, Deadline(whole_s)), Deadline(whole_s + 2 * each_s))

    def _run(self, argv: Sequence[str], text: str, deadline: Deadline) -> Dict[str, Any]:
        program = find_program(argv[0])
        if program is None:
            raise VerbError(MISSING, "run {}: no such tool on this host".format(argv[0]))
        # The legacy tools take turns by a file of the host; here there is nobody to take turns with.
        quiet = {"XTABLES_LOCKFILE": os.devnull}
        return self._inside(
            lambda: run_bounded([str(program), *argv[1:]], deadline, text=text, environment=quiet), deadline
        )


def _failed_lines(lines: Sequence[str], said: str) -> List[str]:
    """The lines that a batch names as failed, each with what was said before."""
    failed = []
    reason = ""
    for row in said.splitlines():
        if row.startswith("Command failed -:"):
            with contextlib.suppress(ValueError, IndexError):
                if not any(each in reason for each in _HARMLESS):
                    failed.append("{} ({})".format(lines[int(row.rpartition(":")[2]) - 1], reason))
            reason = ""
        elif row.strip():
            reason = row.strip()
    return failed
