"""Starting a lab host's init from this process."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

from netdiag.errors import LabError
from netdiag.lab import init
from netdiag.lab.process import MARK, Process
from netdiag.lab.root import CHECKOUT, in_checkout
from netdiag.lab.state import MOUNT_POINT


def spawn(lab: str, hostname: str, hosts_file: str, lab_root: Path, timeout_s: float = 20.0) -> Process:
    """Start a host and wait until its root file system is complete; its network has no link yet.

    The host ends when this process does, until its init gets SIGUSR1.

    Raises:
        LabError: the kernel refused a namespace or a mount; the text says which.
    """
    owner = os.pidfd_open(os.getpid())
    try:
        plan: init.Plan = {
            "hostname": hostname,
            "machine_id": secrets.token_hex(16),
            "hosts": hosts_file,
            "lab_root": str(lab_root),
            "mount_point": str(MOUNT_POINT),
            "binds": _needed_directories(),
            "owner_fd": owner,
        }
        done = subprocess.run(
            [sys.executable, "-I", "-S", init.__file__],
            input=json.dumps(plan),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            pass_fds=(owner,),
            start_new_session=True,
            env={MARK: lab, "PATH": os.environ.get("PATH", os.defpath)},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"host {hostname} is not there after {timeout_s:g} s") from error
    finally:
        os.close(owner)
    answer = json.loads(done.stdout) if done.stdout else {"error": done.stderr.strip() or "its init gave no answer"}
    if "error" in answer:
        raise LabError(f"host {hostname} cannot be made: {answer['error']}")
    return Process.of(int(answer["pid"]))


def _needed_directories() -> list[str]:
    """What netdiag itself needs in a host: the interpreter, its environment and the checkout, at their own paths."""
    wanted = {Path(sys.prefix), Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve()}
    if in_checkout():
        wanted.add(CHECKOUT)
    # The machine's own /usr is in every host anyway, and what lies in another of them comes with it.
    return sorted(
        str(path)
        for path in wanted
        if path.is_dir() and not path.is_relative_to("/usr") and not wanted & set(path.parents)
    )
