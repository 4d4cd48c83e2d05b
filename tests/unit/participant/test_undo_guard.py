"""The guard undoes what its owner could not, whatever ends the owner, and nothing else."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from netdiag.lab.process import until
from netdiag.participant.deadline import Deadline
from netdiag.participant.undo_guard import Guard, Setting

OWNER = """
import sys, time
from netdiag.participant.deadline import Deadline
from netdiag.participant.undo_guard import Guard, Setting
guard = Guard([Setting(sys.argv[1], "ours", "before")], [], (), Deadline(10))
open(sys.argv[1], "w").write("ours")
print(guard.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def setting(tmp_path):
    path = tmp_path / "setting"
    path.write_text("before")
    return path


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_the_end_of_the_owner_and_its_group(setting, how):
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(setting)], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as owner:
        guard = int(owner.stdout.readline())
        assert setting.read_text() == "ours"
        os.killpg(owner.pid, how)
    until(lambda: gone(guard), 10, "the guard's end")
    assert setting.read_text() == "before"


def test_what_somebody_else_has_set_stays(setting):
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(setting)], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as owner:
        guard = int(owner.stdout.readline())
        setting.write_text("theirs")
        os.killpg(owner.pid, signal.SIGKILL)
    until(lambda: gone(guard), 10, "the guard's end")
    assert setting.read_text() == "theirs"


def test_a_guard_that_is_sent_home_touches_nothing(setting):
    setting.write_text("ours")
    guard = Guard([Setting(str(setting), "ours", "before")], [], (), Deadline(10))
    guard.close()
    assert gone(guard.pid)
    assert setting.read_text() == "ours"


def test_a_guard_holds_nothing_of_its_owner(setting):
    with setting.open() as held:
        guard = Guard([], [], (), Deadline(10))
        try:
            links = {str(entry.readlink()) for entry in Path(f"/proc/{guard.pid}/fd").iterdir()}
            assert str(setting) not in links
            assert held.readable()
            assert os.getsid(guard.pid) == guard.pid
        finally:
            guard.close()
