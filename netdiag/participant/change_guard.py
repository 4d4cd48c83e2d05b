"""The process that changes rules and takes the change back unless it is told to keep it.

It runs in a process and a session of its own, so that neither the terminal nor the command that started it is needed for
undoing; nothing is imported once it is ready. The commands that it runs stay in its session: whoever follows a guard that
was killed can wait for them.

It is ready only where nothing like the change is in place yet. So whatever it finds in place later is its own, and it
takes back what it finds and nothing else: never a rule of the operator's that is spelt the same.

Messages are JSON, one a packet of the socket pair DESCRIPTOR. To the guard: first {"id", "within_s", "commands", "undo",
"permanent"}, each command {"argv", "comment"}, then {"do": "apply" | "keep" | "undo" | "repair"}. From the guard:
{"state": "ready" | "applied" | "failed" | "undoing" | "undone" | "keeping" | "kept", "problems": [text…]}. The first
message with "repair": true follows a guard that was killed: what is in place is that one's. The end of the socket means
undo. Another terminal confirms at the abstract socket `SOCKET_PREFIX` + id, as root only.
"""

import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import syslog
import time
from typing import Any, Dict, List, Optional, Tuple

from netdiag.participant.change_words import HANDLE, answer, handle_in, is_allowed, question, tool_words

SOCKET_PREFIX = "netdiag-change-"
COMMAND_TIMEOUT_S = 30.0
START_TIMEOUT_S = 30.0
"""How long it waits to be told to begin."""
LOCK_TIMEOUT_S = 10.0
"""How long it tries again where somebody else holds the lock of iptables."""
LIMIT_BYTES = 1 << 18

Message = Dict[str, Any]

_NOTHING_DONE = ("Skipping", "ALREADY_ENABLED", "NOT_ENABLED", "Could not delete")
"""How ufw and firewall-cmd say, with exit code 0, that they did nothing."""
_DIRECTORIES = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LOCKED = 4
"""iptables' exit code for a lock that somebody else holds."""


def run(command: Message) -> str:
    """Run one command; returns what went wrong, or "". A command that changed nothing has gone wrong too."""
    argv = [str(word) for word in command["argv"]]
    text = " ".join(argv)
    comment = str(command.get("comment") or "")
    if comment:
        handle, problem = find_handle(argv, comment)
        if problem:
            return "{}: {}".format(text, problem)
        argv = [handle if word == HANDLE else word for word in argv]
    code, output = _run_unlocked(argv)
    if code != 0:
        return "{}: {}".format(text, _last_line(output) or "exit code {}".format(code))
    if any(word in output for word in _NOTHING_DONE):
        return "{}: nothing was done: {}".format(text, _last_line(output))
    return ""


def find_handle(argv: List[str], comment: str) -> Tuple[str, str]:
    """The handle of the rule with a comment, in the chain that a delete names; and what went wrong."""
    code, output = _run(question(argv))
    if code != 0:
        return "", _last_line(output)
    handle = handle_in(output, comment)
    return (handle, "") if handle is not None else ("", "no rule has the comment " + comment)


def is_in_place(undo: Message, ours: bool = True) -> Tuple[Optional[bool], str]:
    """Whether there is something to take back; None where that is not known, and what the tool said."""
    argv = [str(word) for word in undo["argv"]]
    code, output = _run_unlocked(question(argv))
    return answer(argv, str(undo.get("comment") or ""), code, output, ours), _last_line(output)


def _run_unlocked(argv: List[str]) -> Tuple[int, str]:
    """The same as `_run`, again and again while somebody else holds iptables' lock."""
    end_s = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        code, output = _run(argv)
        if code != _LOCKED or "tables" not in tool_words(argv)[0] or time.monotonic() > end_s:
            return code, output
        time.sleep(0.2)  # the holder of the lock tells nobody when it lets go


def _run(argv: List[str]) -> Tuple[int, str]:
    path = os.environ.get("PATH", "")
    environment = dict(os.environ, LC_ALL="C", LANG="C", PATH=(path + ":" if path else "") + _DIRECTORIES)
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            # A group to be killed by, in the guard's own session.
            preexec_fn=os.setpgrp,  # noqa: PLW1509 - this process has one thread
        )
    except OSError as error:
        return 127, str(error.strerror)
    try:
        output, _ = process.communicate(timeout=COMMAND_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return -1, "not done within {:g} s".format(COMMAND_TIMEOUT_S)
    return process.returncode, output.decode("utf-8", "replace")


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    # What helps is iptables' second last line: the last one only points to its manual.
    lines = [line for line in lines if not line.startswith("Try `")]
    return next((line for line in lines if any(word in line for word in _NOTHING_DONE)), lines[-1] if lines else "")


class Guard:
    """One change, from ready to kept or undone."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._plan = {}  # type: Message
        self._listener = None  # type: Optional[socket.socket]
        self._ended, ended = os.pipe()
        os.set_blocking(ended, False)
        signal.set_wakeup_fd(ended)

    def serve(self) -> None:
        """Do everything that a guard does, once."""
        plan = _receive(self._control, START_TIMEOUT_S)
        if plan is None:
            return
        refused = [
            each["argv"]
            for key in ("commands", "undo", "permanent")
            for each in plan[key]
            if not is_allowed([str(word) for word in each["argv"]], str(each.get("comment") or ""))
        ]
        if refused or len(plan["commands"]) != len(plan["undo"]):
            self._say("failed", ["not a command that adds one rule: " + " ".join(argv) for argv in refused])
            return
        there = [] if plan.get("repair") else self._there_before(plan)
        if there:
            self._say("failed", there)
            return
        self._plan = plan
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind("\0" + SOCKET_PREFIX + str(plan["id"]))
        self._listener.listen(4)
        self._say("ready")
        order = (_receive(self._control, START_TIMEOUT_S) or {}).get("do")
        if order == "repair":
            self._undo()
        elif order == "apply" and self._apply():
            self._wait(time.monotonic() + float(plan["within_s"]))

    @staticmethod
    def _there_before(plan: Message) -> List[str]:
        """What stands in the way: something like the change is in place, or that is not known."""
        found = []
        for command, undo in zip(plan["commands"], plan["undo"]):
            there, said = is_in_place(undo, ours=False)
            if there is not False:
                reason = "it is in place already" if there else "whether it is in place already is not known: " + said
                found.append("{}: {}".format(" ".join(command["argv"]), reason))
        return found

    def _apply(self) -> bool:
        for command in self._plan["commands"]:
            problem = run(command)
            if problem:
                self._say("failed", [problem] + self._take_back())
                return False
        self._say("applied")
        return True

    def _wait(self, end_s: float) -> None:
        """Until somebody decides: the command, another terminal, the time, or the end of the command."""
        assert self._listener is not None
        poller = select.poll()
        for each in (self._control.fileno(), self._listener.fileno(), self._ended):
            poller.register(each, select.POLLIN)
        while time.monotonic() < end_s:
            # Callers who come and go must not put the end off.
            ready = [each for each, _ in poller.poll(int((end_s - time.monotonic()) * 1000) + 1)]
            if self._ended in ready:
                break
            if self._control.fileno() in ready:
                if (_receive(self._control, 0.0) or {}).get("do") == "keep":
                    self._keep(None)
                    return
                break
            caller = self._confirmed() if self._listener.fileno() in ready else None
            if caller is not None:
                self._keep(caller)
                return
        self._undo()

    def _confirmed(self) -> Optional[socket.socket]:
        """The connection of a root who says "keep"; anybody else is sent away."""
        assert self._listener is not None
        caller, _ = self._listener.accept()
        if peer_uid(caller) == 0 and (_receive(caller, 1.0) or {}).get("do") == "keep":
            return caller
        caller.close()
        return None

    def _keep(self, caller: Optional[socket.socket]) -> None:
        self._say("keeping")
        problems = [problem for problem in map(run, self._plan["permanent"]) if problem]
        # What firewalld has permanently already need not be added.
        problems = [problem for problem in problems if "ALREADY_ENABLED" not in problem]
        self._say("kept", problems)
        if caller is not None:
            _send(caller, {"state": "kept", "problems": problems})
            caller.close()

    def _undo(self) -> None:
        self._say("undoing")
        problems = self._take_back()
        self._say("undone", problems)

    def _take_back(self) -> List[str]:
        problems = []
        for command in reversed(self._plan["undo"]):
            there, _ = is_in_place(command)
            # Where the tool does not say, undoing tells; before the change there was nothing that it could take away.
            problem = run(command) if there is not False else ""
            if problem:
                problems.append(problem)
                syslog.syslog(syslog.LOG_ERR, "netdiag could not take a rule back: " + problem)
        return problems

    def _say(self, state: str, problems: Optional[List[str]] = None) -> None:
        _send(self._control, {"state": state, "problems": problems or []})


def peer_uid(connection: socket.socket) -> int:
    """Who is at the other end of a connection, or has listened for it, as the kernel says it."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


def _receive(sender: socket.socket, timeout_s: float) -> Optional[Message]:
    """The next message; None when the other end is gone, says nothing sensible, or does not say it in time."""
    if not select.select([sender], [], [], timeout_s)[0]:
        return None
    try:
        data = sender.recv(LIMIT_BYTES)
        return dict(json.loads(data.decode("utf-8"))) if data else None
    except (OSError, ValueError, TypeError):
        return None


def _send(to: socket.socket, message: Message) -> None:
    try:
        to.send(json.dumps(message).encode("utf-8"))
    except OSError:
        pass  # nobody listens any more: what was to be done is done all the same


def main() -> None:
    """Entry point of the process."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    # A host that shuts down says SIGTERM: then it is time to undo, not to die.
    signal.signal(signal.SIGTERM, lambda *_: None)
    os.chdir("/")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, int(sys.argv[-1])) as control:
        Guard(control).serve()
