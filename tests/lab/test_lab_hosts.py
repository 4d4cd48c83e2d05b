"""Hosts of a lab: separate, whole, and gone afterwards."""

import sys

import pytest

from netdiag.errors import LabError, UsageError
from netdiag.lab import Lab, load_topology, parse_topology
from netdiag.lab.residue import machine_state, residue


def test_two_plain_hosts_reach_each_other(pair_lab):
    one, two = pair_lab.host("one"), pair_lab.host("two")
    assert (one.address, two.address) == ("10.71.0.1", "10.71.0.2")
    assert " 0% packet loss" in one.exec(["ping", "-c", "1", "-W", "2", two.address]).stdout


def test_a_host_has_its_own_names_and_files(pair_lab):
    one, two = pair_lab.host("one"), pair_lab.host("two")
    assert one.exec(["hostname"]).stdout == "one\n"
    assert one.exec(["cat", "/etc/machine-id"]).stdout != two.exec(["cat", "/etc/machine-id"]).stdout
    one.exec(["tee", "/etc/netdiag-test", "/var/lib/mine", "/root/mine", "/tmp/mine"], stdin="x")
    assert one.path("/etc/netdiag-test").read_text() == "x"
    for path in ("/etc/netdiag-test", "/var/lib/mine", "/root/mine", "/tmp/mine"):
        assert two.exec(["cat", path], check=False).returncode == 1
        assert machine_has_no(path)


def machine_has_no(path):  # the host may overlay what the machine has, never write to it
    from pathlib import Path

    return not Path(path).exists()


def test_a_command_starts_in_the_hosts_root_and_sees_only_the_hosts_processes(pair_lab):
    one = pair_lab.host("one")
    assert one.exec(["pwd"]).stdout == "/\n"
    assert one.exec(["ls", "-d", "/.old"], check=False).returncode == 2
    assert int(one.exec(["ps", "-o", "pid=", "-p", "1"]).stdout) == 1
    assert len(one.exec(["ps", "-e", "-o", "pid="]).stdout.split()) < 6


def test_there_is_no_way_out(pair_lab):
    one = pair_lab.host("one")
    assert one.exec(["ip", "route", "show", "default"]).stdout == ""
    assert one.exec(["ping", "-c", "1", "-W", "1", "192.0.2.1"], check=False).returncode == 2


def test_netdiag_runs_in_a_host(pair_lab):
    assert "Usage: netdiag" in pair_lab.host("one").exec(["netdiag", "--help"]).stdout


def test_only_settings_of_the_hosts_network_can_be_changed(pair_lab):
    one = pair_lab.host("one")
    assert one.exec(["sysctl", "-n", "net.ipv4.ip_forward"]).stdout == "0\n"
    assert one.exec(["sysctl", "-w", "kernel.keys.root_maxkeys=1000001"], check=False).returncode
    assert one.exec(["modprobe", "br_netfilter"], check=False).returncode


def test_what_a_command_says_comes_back(pair_lab):
    one = pair_lab.host("one")
    result = one.exec([sys.executable, "-c", "import sys; sys.stderr.write('why'); sys.exit(3)"], check=False)
    assert (result.returncode, result.stdout, result.stderr) == (3, "", "why")
    with pytest.raises(LabError, match="one: false: exit code 1"):
        one.exec(["false"])


def test_a_command_that_hangs_is_killed_in_the_host(pair_lab):
    one = pair_lab.host("one")
    with pytest.raises(LabError, match=r"sleep 977: not done after 0\.2 s"):
        one.exec(["sleep", "977"], timeout_s=0.2)
    assert "sleep 977" not in one.exec(["ps", "-e", "-o", "args="]).stdout


def test_an_unknown_host_gets_the_nearest_name(pair_lab):
    with pytest.raises(LabError, match="no host 'tow': did you mean two"):
        pair_lab.host("tow")


def test_a_name_is_taken_once(pair_lab):
    with pytest.raises(UsageError, match="is up already"):
        Lab.up(load_topology("pair"), name=pair_lab.name)
    assert pair_lab.host("one").process.alive


@pytest.mark.parametrize("name", ["", "a b", "../x", "A", "x" * 40])
def test_a_name_that_cannot_be_one(name, lab_root):
    with pytest.raises(UsageError, match="lab name"):
        Lab.up(load_topology("pair"), name=name)


def test_two_networks(lab_root, lab_names):
    text = '[[network]]\nname = "lan"\n[[network]]\nname = "back"\nsubnet = "192.0.2.0/24"\nmtu = 9000\n' + "".join(
        f'[[host]]\nname = "{name}"\nnetworks = ["lan", "back"]\n' for name in "ab"
    )
    with Lab.up(parse_topology(text, "two"), name=lab_names()) as lab:
        a = lab.host("a")
        a.exec(["ping", "-c", "1", "-W", "2", "10.71.0.2"])
        a.exec(["ping", "-c", "1", "-W", "2", "-M", "do", "-s", "8900", "192.0.2.2"])
        assert a.exec(["ping", "-c", "1", "-W", "2", "-M", "do", "-s", "8900", "10.71.0.2"], check=False).returncode


def test_side_by_side(up):
    with up("pair") as here, up("pair") as there:
        here.break_("drop", host="two", proto="icmp")
        assert here.host("one").exec(["ping", "-c", "1", "-W", "1", "10.71.0.2"], check=False).returncode == 1
        there.host("one").exec(["ping", "-c", "1", "-W", "2", "10.71.0.2"])
        here.down()
        assert residue(here.name) == []
        there.host("one").exec(["ping", "-c", "1", "-W", "2", "10.71.0.2"])


def test_the_machine_is_as_it_was(up):
    before = machine_state()
    with up("swarm3") as lab:
        lab.host("manager").exec(["docker", "network", "create", "-d", "overlay", "--attachable", "net"])
        lab.host("worker1").exec(["docker", "run", "--rm", "--net", "net", "netdiag/busybox:lab", "true"])
        lab.break_("stateful-input", host="worker1")
        assert before.differences(machine_state()) == [], "while the lab runs"
    assert before.differences(machine_state()) == []
    assert residue(lab.name) == []
