"""How labs begin and end: how fast, on the command line, and when their owner is killed."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from netdiag.errors import LabError
from netdiag.lab import Lab, state, swarm
from netdiag.lab.lab import end_labs, sweep
from netdiag.lab.process import MARK, end, marked, until
from netdiag.lab.residue import residue

NETDIAG = str(Path(sys.prefix, "bin/netdiag"))


def netdiag(*words, check=True, **options):
    done = subprocess.run([NETDIAG, "lab", *words], capture_output=True, text=True, check=False, **options)
    assert not check or done.returncode == 0, done.stderr
    return done


def test_three_engines_form_a_swarm_in_time_and_go_without_a_trace(up, record_property):
    began = time.monotonic()
    with up("swarm3") as lab:
        started = time.monotonic() - began
        manager, worker = lab.host("manager"), lab.host("worker1")
        assert {node["Status"]["State"] for node in manager.docker.nodes()} == {"ready"}
        assert len(manager.docker.nodes()) == 3
        manager.exec(["docker", "network", "create", "-d", "overlay", "--attachable", "net"])
        for host, name in ((manager, "near"), (worker, "far")):
            options = ["--network", "net", "--name", name, "netdiag/busybox:lab", "sleep", "600"]
            host.exec(["docker", "run", "-d", *options])
        ping = ["docker", "exec", "near", "ping", "-c", "1", "-W", "1", "far"]
        until(lambda: manager.exec(ping, check=False).returncode == 0, 10.0, "ping over the overlay")
        ids = {host.docker.inspect_image("netdiag/busybox:lab")["Id"] for host in (manager, worker)}
        assert len(ids) == 1, "one image has one id on every host"
        began = time.monotonic()
    ended = time.monotonic() - began
    print(f"\nswarm of 3: up in {started:.2f} s, down in {ended:.2f} s")  # noqa: T201 - the figures are wanted in the run's output
    record_property("swarm3_up_s", round(started, 2))
    record_property("swarm3_down_s", round(ended, 2))
    assert started <= 20
    assert residue(lab.name) == []


def test_the_swarm_can_be_made_anew(swarm3_lab):
    before = swarm.node_id(swarm3_lab.host("worker1"))
    swarm3_lab.reset_swarm()
    nodes = swarm3_lab.host("manager").docker.nodes()
    assert [node["Status"]["State"] for node in nodes] == ["ready"] * 3
    assert before not in [node["ID"] for node in nodes]


def test_tokens_and_roles(swarm2_lab):
    assert swarm2_lab.worker_token("manager").startswith("SWMTKN-1-")
    assert swarm2_lab.worker_token("manager") != swarm2_lab.manager_token("manager")
    with pytest.raises(LabError, match="worker: "):
        swarm2_lab.worker_token("worker")
    outcome = swarm2_lab.swarm_join("worker", "manager", token="SWMTKN-1-bad-bad")
    assert (outcome.joined, "invalid join token" in outcome.message) == (False, True)
    assert swarm2_lab.swarm_join("worker", "manager", role="manager").joined


def test_an_engine_that_was_killed_starts_again(swarm2_lab):
    swarm2_lab.stop_engine("worker", kill=True)
    assert swarm2_lab.host("worker").exec(["docker", "info"], check=False).returncode == 1
    with pytest.raises(LabError, match="the engine of worker does not run"):
        _ = swarm2_lab.host("worker").docker
    swarm2_lab.start_engine("worker")
    assert swarm2_lab.host("worker").docker.ping()


def test_an_engine_that_cannot_start_gives_its_own_reason(swarm2_lab):
    swarm2_lab.stop_engine("worker")
    configuration = swarm2_lab.host("worker").path("/etc/docker/daemon.json")
    configuration.parent.mkdir(exist_ok=True)
    configuration.write_text('{"no-such-option": true}')
    with pytest.raises(LabError, match=r"engine of worker does not start: .*no-such-option"):
        swarm2_lab.start_engine("worker")
    configuration.unlink()
    swarm2_lab.start_engine("worker")


OWNER = """
import signal, sys
from netdiag.lab import Lab, load_topology
lab = Lab.up(load_topology(sys.argv[2]), name=sys.argv[1])
print("up", flush=True)
signal.pause()
"""


def test_a_lab_ends_with_its_owner_and_the_next_one_sweeps(lab_root, lab_names):
    name = lab_names()
    with subprocess.Popen([sys.executable, "-c", OWNER, name, "swarm2"], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout.readline() == "up\n"
        lab = Lab.attach(name)
        lab.host("worker").exec(["docker", "run", "-d", "netdiag/busybox:lab", "sleep", "600"])
        sleeper = lab.host("worker").popen(["sleep", "600"])
        inits = [host.process for host in (lab.fabric, *lab.hosts.values())]
        owner.kill()
    until(lambda: not any(process.alive for process in inits), 5.0, "the hosts' end")
    assert sleeper.wait(5) != 0
    sleeper.communicate()
    with pytest.raises(LabError, match=r"its owner has ended|no lab"):
        Lab.attach(name)
    with state.locked():
        sweep()
    assert residue(name) == []


@pytest.mark.parametrize("at", ["starting 2 hosts", "starting 2 engines", "forming a swarm"])
def test_an_up_that_is_killed_half_way_can_be_cleaned(at, lab_root, lab_names):
    name = lab_names()
    with subprocess.Popen([NETDIAG, "lab", "up", name], stderr=subprocess.PIPE, text=True) as upper:
        while at not in (line := upper.stderr.readline()):
            assert line, "it ended early"
        upper.kill()
    # Another worker's lab may have swept it by now, and then there is none of this name.
    netdiag("down", name, check=False)
    assert residue(name) == []


def test_what_has_no_state_file_is_swept_too(lab_root, lab_names):
    name = lab_names()
    with subprocess.Popen(["sleep", "600"], env={**os.environ, MARK: name}) as stray:
        group = next(Path("/sys/fs/cgroup").glob("*/cgroup.procs")).parent / f"netdiag-lab-{name}.one"
        (group / "below").mkdir(parents=True)
        with state.locked():
            sweep()
        assert stray.wait(5) == -signal.SIGKILL
    assert not group.exists()
    assert residue(name) == []


def test_a_process_that_has_the_number_of_one_that_ended_is_spared(lab_root):
    from netdiag.lab.process import Process

    with subprocess.Popen(["sleep", "600"]) as other:
        end([Process(other.pid, started=1)])
        assert other.poll() is None
        other.kill()


def test_the_command_line_from_up_to_down(lab_root, lab_names):
    name = lab_names()
    done = netdiag("up", name, "--topology", "pair")
    assert done.stdout == "one\t10.71.0.1/24\ntwo\t10.71.0.2/24\n"
    assert "starting 2 hosts" in done.stderr
    try:
        assert name in netdiag("list").stdout
        assert netdiag("exec", name, "one", "--", "ping", "-c", "1", "-W", "2", "10.71.0.2").returncode == 0
        assert netdiag("exec", name, "one", "sh", "-c", "exit 7", check=False).returncode == 7
        assert netdiag("exec", name, "fabric", "--", "cat", input="through").stdout == "through"
        assert netdiag("break", name, "drop", "host=two", "proto=icmp").stdout.startswith("fault 1: drop host=two")
        told = json.loads(netdiag("status", name, "--output", "json").stdout)
        assert [host["name"] for host in told["hosts"]] == ["one", "two"]
        assert told["faults"][0]["parameters"]["proto"] == "icmp"
        assert netdiag("heal", name, "1").stdout == "0 faults are in\n"
        assert [
            each["faults"] for each in json.loads(netdiag("list", "--output", "json").stdout) if each["name"] == name
        ] == [0]
    finally:
        netdiag("down", name)
    assert residue(name) == []
    assert not [lab for _, lab in marked() if lab == name]


def test_a_terminal_is_passed_on(pair_lab):
    leader, follower = pty.openpty()
    command = [NETDIAG, "lab", "exec", pair_lab.name, "one", "--", "test", "-t", "0"]
    assert subprocess.run(command, stdin=follower, check=False).returncode == 0
    for descriptor in (leader, follower):
        os.close(descriptor)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["down"], "name a lab, or say --all"),
        (["down", "no-such-lab-here"], "no lab 'no-such-lab-here'"),
        (["status", "no-such-lab-here"], "no lab 'no-such-lab-here'"),
        (["up", "x", "--topology", "swarm9"], "no topology 'swarm9': did you mean swarm"),
        (["up", "Bad Name"], "lab name 'Bad Name'"),
        (["faults", "dorp"], "no fault 'dorp': did you mean drop or tc-drop?"),
        (["exec", "x", "y", "--"], "no command after --"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(words, said, lab_root):
    done = netdiag(*words, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_tools_one_line_says_what_to_install(tmp_path, lab_root):
    done = netdiag("up", "x", check=False, env={**os.environ, "NETDIAG_LAB_ROOT": str(tmp_path)})
    assert done.returncode == 2
    assert (
        done.stderr
        == f"netdiag: the lab's tools are not in {tmp_path}: run netdiag lab install (it installs nothing)\n"
    )


def test_not_root_is_told_so(lab_root):
    code = "import os, netdiag.lab.root as root; os.setuid(65534); root.find()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "LabToolMissing: a lab needs root" in done.stderr


def test_end_labs_of_an_unknown_name_gives_the_nearest(pair_lab):
    with pytest.raises(LabError, match=f"did you mean .*{pair_lab.name}"):
        end_labs(pair_lab.name + "0")


@pytest.mark.parametrize(
    "name", ["up", "down", "exec", "list", "status", "break", "heal", "faults", "install", "topologies"]
)
def test_help_has_an_example(name, lab_root):
    assert f"netdiag lab {name}" in netdiag(name, "--help").stdout.partition("Example")[2]
