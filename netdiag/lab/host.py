"""One host of a running lab: run commands in it, talk to its engine, reach its files."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import docker
import docker.errors
import msgspec

from netdiag.errors import LabError
from netdiag.lab.process import MARK, Process
from netdiag.lab.topology import HostPlan, Uplink

# The distribution first: what somebody put into /usr/local of this machine (another docker, say) is not the lab's.
PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"
DOCKER_SOCKET = "run/docker.sock"


class Result(msgspec.Struct, frozen=True):
    """What a command in a host did."""

    argv: tuple[str, ...]
    returncode: int
    """Exit code; the negative signal number if a signal ended it."""
    stdout: str
    stderr: str


class Host:
    """A running lab host (or the fabric); made by `netdiag.lab.Lab`, not by hand."""

    def __init__(
        self, lab: str, name: str, plan: HostPlan | None, uplinks: tuple[Uplink, ...], process: Process
    ) -> None:
        self.lab = lab
        self.name = name
        self.plan = plan
        self.uplinks = uplinks
        self.process = process
        self._docker: Any = None

    def __repr__(self) -> str:
        return f"<lab host {self.lab}/{self.name} pid {self.process.pid}>"

    @property
    def address(self) -> str:
        """Its address on its first network, such as ``10.71.0.1``; LabError for the fabric, which has none."""
        if not self.uplinks:
            raise LabError(f"{self.name} has no address")
        return str(self.uplinks[0].address.ip)

    @property
    def pid(self) -> int:
        """Process id of its init, as the machine sees it; its namespaces are those of ``/proc/PID/ns``."""
        return self.process.pid

    def path(self, inside: str) -> Path:
        """A file of the host as this process can open it; absolute symbolic links in it would lead to the machine's."""
        return Path(f"/proc/{self.pid}/root") / inside.lstrip("/")

    def command(self, argv: Sequence[str]) -> list[str]:
        """The argument vector that runs a command in the host, from the machine."""
        # Entering the mount namespace leads to its root directory; --wd=/ would lead to the machine's.
        return ["nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-n", "-p", "--", *argv]

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of a command in the host: nothing of ours but the terminal, and netdiag on the PATH."""
        return {
            "PATH": f"{PATH}:{Path(sys.prefix) / 'bin'}",
            "HOME": "/root",
            "USER": "root",
            "LANG": "C.UTF-8",
            "TERM": os.environ.get("TERM", "dumb"),
            MARK: self.lab,
            f"{MARK}_HOST": self.name,
            **(extra or {}),
        }

    def exec(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = 30.0,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        check: bool = True,
    ) -> Result:
        """Run a command in the host and wait for it.

        Args:
            argv: program and arguments; there is no shell.
            timeout_s: after so many seconds it and what it started are killed.
            env: variables beside the host's own.
            stdin: text that it reads.
            check: raise if it fails.

        Raises:
            LabError: it took too long, or it failed and ``check`` is set; the text has its last words.
        """
        with self.popen(argv, env=env, stdin=subprocess.PIPE) as process:
            try:
                out, err = process.communicate(stdin, timeout=timeout_s)
            except subprocess.TimeoutExpired as error:
                end_group(process)
                raise LabError(f"{self.name}: {' '.join(argv)}: not done after {timeout_s:g} s") from error
            except BaseException:
                end_group(process)
                raise
        result = Result(tuple(argv), process.returncode, out, err)
        if check and result.returncode:
            said = [line for line in (err.strip() or out.strip()).splitlines() if line.strip()]
            reason = " / ".join(said[-3:]) or f"exit code {result.returncode}"
            raise LabError(f"{self.name}: {' '.join(argv)}: {reason}")
        return result

    def popen(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | IO[str] | None = subprocess.PIPE,
        stderr: int | IO[str] | None = subprocess.PIPE,
        pass_fds: Sequence[int] = (),
    ) -> subprocess.Popen[str]:
        """Start a command in the host; it ends with the host at the latest, or by `end_group`."""
        return subprocess.Popen(
            self.command(argv),
            env=self.environment(env),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=True,
            # A group of its own: nsenter forks to enter a PID namespace, and a signal must reach both.
            start_new_session=True,
            pass_fds=pass_fds,
        )

    @property
    def docker(self) -> Any:  # noqa: ANN401 - the library has no types
        """A ``docker.APIClient`` of the host's engine; LabError if it does not run."""
        if self._docker is None:
            try:
                self._docker = docker.APIClient(
                    base_url=f"unix://{self.path(DOCKER_SOCKET)}", version="auto", timeout=60
                )
            except docker.errors.DockerException as error:
                raise LabError(f"the engine of {self.name} does not answer: {error}") from error
        return self._docker

    def close(self) -> None:
        """Close the connections to its engine."""
        if self._docker is not None:
            self._docker.close()
            self._docker = None


def end_group(process: subprocess.Popen[str]) -> None:
    """Kill a process that `Host.popen` started, and what it started in the host; wait for it and close its pipes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
