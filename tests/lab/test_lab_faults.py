"""Every fault takes effect, and is undone without a trace."""

import json
import re
import shlex
import sys

import pytest

from netdiag.errors import LabError, UsageError
from netdiag.lab import state, swarm
from netdiag.lab.faults import parse_words, registry
from netdiag.lab.process import until

CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 1).close()
    print("connected")
except OSError as error:
    print(error.strerror or "timed out")
"""


def connect(host, address, port):
    """What a client on the host is told: connected, timed out, or the error's name."""
    return host.exec([sys.executable, "-c", CONNECT, address, str(port)]).stdout.strip()


def pings(host, address, *options):
    return host.exec(["ping", "-c", "1", "-W", "1", *options, address], check=False).returncode == 0


COMMANDS = {
    "nft": "nft list ruleset",
    "iptables": "iptables-save",
    "ipv6": "ip6tables-save",
    "legacy": "iptables-legacy-save",
    "sets": "ipset list",
    "ufw": "sh -c 'cat /etc/default/ufw /etc/ufw/*'",
    "daemons": "ps -C firewalld,dbus-daemon,fail2ban-server,sshd -o args=",
    "fail2ban": "find /etc/fail2ban /var/lib/fail2ban /run/fail2ban /var/log/fail2ban.log /var/log/lab-logins.log",
    "ssh": "find /etc/ssh /root/.ssh -type f",
    "links": "ip -o link",
    "addresses": "ip -o -4 address",
    "routes": "ip route show table all type unicast",
    "special": "ip route show table all type blackhole",
    "static": "ip neigh show nud permanent",
    "filters": "sh -c 'tc filter show dev eth0 ingress; tc filter show dev eth0 egress; tc qdisc show dev eth0'",
    "connections": "sh -c 'test $(sysctl -n net.netfilter.nf_conntrack_count) -gt 1000 && echo very many'",
    "name": "hostname",
    "namefile": "cat /etc/hostname",
    "sysctls": "sysctl -a -r ^net[.]ipv[46][.](conf|ip_forward|icmp)",
}
# Names and numbers that an engine draws anew, and counters.
PASSING = re.compile(r"packets \d+ bytes \d+|\[\d+:\d+\]|^\d+: ")

# An empty base chain that accepts, which iptables-nft makes when it first needs one, filters nothing.
EMPTY = re.compile(
    r"\s*(|#.*|type .* policy accept;|chain [A-Z]+ \{|table ip6? \w+ \{|\}|:[A-Z]+ ACCEPT |\*\w+|COMMIT)"
)


def picture(lab):
    """Everything of a lab that a fault may change."""
    seen = {}
    for host in [lab.fabric, *lab.hosts.values()]:
        for what, command in COMMANDS.items():
            lines = [PASSING.sub("", line) for line in host.exec(shlex.split(command), check=False).stdout.splitlines()]
            seen[host.name, what] = sorted(line for line in lines if not EMPTY.fullmatch(line) and "veth" not in line)
        if host is not lab.fabric:
            seen[host.name, "offloads"] = host.exec(["ethtool", "-k", "eth0"]).stdout
            seen[host.name, "engine"] = host.engine_process() is not None
    if seen.get(("manager", "engine")):
        seen["nodes"] = sorted(node["Status"]["State"] for node in swarm.nodes(lab.host("manager")))
    return seen


def changed(before, after):
    return [key for key in before if before[key] != after[key]]


@pytest.mark.parametrize("name", registry())
def test_it_changes_something_and_is_undone(name, swarm2_lab):
    lab = swarm2_lab
    if swarm.local_state(lab.host("worker")) == "inactive":
        assert lab.swarm_join("worker", "manager").joined
        lab.await_settled("worker", "manager")
    before = picture(lab)
    fault = lab.break_(name, **parse_words(shlex.split(registry()[name].example)))
    assert changed(before, picture(lab)), "it changed nothing"
    assert lab.faults() == (fault,)
    lab.heal(fault)
    assert lab.faults() == ()
    if lab.host("worker").engine_process():
        lab.await_settled("worker")
    after = picture(lab)
    for key in changed(before, after):
        assert after[key] == before[key], key


@pytest.mark.parametrize(
    ("parameters", "answer"),
    [
        ("drop chain=INPUT", "timed out"),
        ("drop chain=INPUT backend=iptables-legacy", "timed out"),
        ("drop chain=INPUT backend=nft", "timed out"),
        ("drop chain=INPUT called=site extra='-m state --state NEW'", "timed out"),
        ("drop chain=INPUT set=blocked members=10.71.0.2,192.0.2.0/24", "timed out"),
        ("drop chain=INPUT set=blocked members=192.0.2.0/24", "connected"),
        ("reject with=icmp-host-prohibited", "No route to host"),
        ("reject with=tcp-reset", "Connection refused"),
        ("reject with=icmp-host-prohibited backend=nft", "No route to host"),
    ],
)
def test_a_rule_on_the_manager_stops_the_swarms_port(parameters, answer, swarm2_lab):
    fault, *words = shlex.split(parameters)
    worker, manager = swarm2_lab.host("worker"), swarm2_lab.host("manager")
    assert connect(worker, manager.address, 2377) == "connected"
    active = swarm2_lab.break_(fault, host="manager", proto="tcp", dport="2377", **parse_words(words))
    assert connect(worker, manager.address, 2377) == answer
    assert pings(worker, manager.address)
    swarm2_lab.heal(active)
    assert connect(worker, manager.address, 2377) == "connected"


@pytest.mark.parametrize(("fault", "answer"), [("drop", "timed out"), ("reject", "Connection refused")])
def test_a_rule_in_the_fabric(fault, answer, swarm2_lab):
    worker, manager = swarm2_lab.host("worker"), swarm2_lab.host("manager")
    swarm2_lab.break_(fault, host="fabric", proto="tcp", dport="2377,7946", destination=manager.address)
    assert connect(worker, manager.address, 2377) == answer
    assert pings(worker, manager.address)


def test_a_stock_input_lets_ssh_and_ping_through_and_refuses_the_rest(swarm2_lab):
    worker, manager = swarm2_lab.host("worker"), swarm2_lab.host("manager")
    swarm2_lab.break_("stateful-input", host="manager")
    assert pings(worker, manager.address)
    assert connect(worker, manager.address, 22) == "Connection refused"
    assert connect(worker, manager.address, 2377) == "No route to host"


def test_a_real_firewalld_refuses_until_the_port_is_opened(swarm2_lab):
    worker, manager = swarm2_lab.host("worker"), swarm2_lab.host("manager")
    fault = swarm2_lab.break_("firewalld", host="manager")
    assert connect(worker, manager.address, 2377) == "No route to host"
    manager.exec(["firewall-cmd", "-q", "--add-port=2377/tcp"])
    assert connect(worker, manager.address, 2377) == "connected"
    swarm2_lab.heal(fault)
    assert "firewalld" not in manager.exec(["nft", "list", "tables"]).stdout
    assert "dbus" not in manager.exec(["ps", "-e", "-o", "args="]).stdout


def test_a_real_ufw_drops_until_the_port_is_allowed(pair_lab):
    one, two = pair_lab.host("one"), pair_lab.host("two")
    assert connect(two, one.address, 2377) == "Connection refused"
    fault = pair_lab.break_("ufw", host="one", rules="allow 2377/tcp; deny from 10.71.0.2 to any port 7946")
    assert connect(two, one.address, 2377) == "Connection refused"
    assert connect(two, one.address, 7946) == "timed out"
    assert connect(two, one.address, 9000) == "timed out"
    one.exec(["ufw", "allow", "9000/tcp"])
    assert connect(two, one.address, 9000) == "Connection refused"
    with pytest.raises(LabError, match="enabled on one already"):
        pair_lab.break_("ufw", host="one")
    pair_lab.heal(fault)
    assert connect(two, one.address, 7946) == "Connection refused"
    assert "ufw" not in one.exec(["nft", "list", "ruleset"]).stdout
    assert one.exec(["ufw", "status"]).stdout == "Status: inactive\n"
    assert "9000" not in one.exec(["cat", "/etc/ufw/user.rules"]).stdout


def test_a_real_fail2ban_refuses_whom_it_banned_and_nobody_else(pair_lab):
    one, two = pair_lab.host("one"), pair_lab.host("two")
    one.exec(["iptables", "-A", "INPUT", "-p", "tcp", "--dport", "22", "-j", "REJECT", "--reject-with", "tcp-reset"])
    two.exec(["ip", "addr", "add", "10.71.0.12/24", "dev", "eth0"])
    fault = pair_lab.break_("fail2ban", host="one", address="10.71.0.12", jail="lab", port="22,2377")
    assert "-A f2b-lab -s 10.71.0.12/32 -j REJECT" in one.exec(["iptables-save"]).stdout
    assert connect(two, one.address, 22) == "Connection refused"
    assert pings(two, one.address, "-I", "10.71.0.12")
    pair_lab.heal(fault)
    assert "f2b" not in one.exec(["iptables-save"]).stdout
    one.exec(["iptables", "-F", "INPUT"])
    two.exec(["ip", "addr", "del", "10.71.0.12/24", "dev", "eth0"])


@pytest.mark.parametrize(
    "words",
    [
        "rules='tcp dport 2377 drop' priority=-50 table=guard",
        "rules='ip saddr @blocked tcp dport 2377 drop' set=blocked members=10.71.0.2",
        "family=netdev hook=ingress device=eth0 rules='tcp dport 2377 drop' priority=-300",
        "rules='meta l4proto icmp accept; tcp dport != 2377 accept' policy=drop",
    ],
)
def test_a_table_in_nfts_own_words(words, pair_lab):
    one, two = pair_lab.host("one"), pair_lab.host("two")
    fault = pair_lab.break_("nft", host="one", **parse_words(shlex.split(words)))
    assert connect(two, one.address, 2377) == "timed out"
    assert connect(two, one.address, 2378) == "Connection refused"
    pair_lab.heal(fault)
    assert connect(two, one.address, 2377) == "Connection refused"


def test_a_rule_inside_a_container_and_inside_an_overlay(swarm2_lab):
    manager = swarm2_lab.host("manager")
    manager.exec(["docker", "network", "create", "-d", "overlay", "--attachable", "app"])
    try:
        run = ["docker", "run", "-d", "--name", "web", "--network", "app", "netdiag/busybox:lab"]
        manager.exec([*run, "sh", "-c", "ip -o -4 addr show eth0; exec sleep 600"])
        other = ["docker", "run", "-d", "--name", "other", "--network", "app", "netdiag/busybox:lab", "sleep", "600"]
        manager.exec(other)
        asked = ["docker", "inspect", "-f", '{{(index .NetworkSettings.Networks "app").IPAddress}}', "web"]
        address = manager.exec(asked).stdout.strip()
        ping = ["docker", "exec", "other", "ping", "-c", "1", "-W", "1", address]

        def answers():
            return manager.exec(ping, check=False).returncode == 0

        assert answers()
        for fault, words in (
            ("drop", {"netns": "container:web", "proto": "icmp"}),
            ("policy", {"netns": "container:web"}),
            ("nft", {"netns": "overlay:app", "family": "bridge", "hook": "forward", "rules": "drop"}),
        ):
            active = swarm2_lab.break_(fault, host="manager", **words)
            assert not answers(), words
            swarm2_lab.heal(active)
            assert answers(), words
        # A container that has ended took its rules along.
        active = swarm2_lab.break_("policy", host="manager", netns="container:web")
        manager.exec(["docker", "rm", "-f", "web"])
        swarm2_lab.heal(active)
    finally:
        manager.exec(["docker", "rm", "-f", "web", "other"], check=False)
        manager.exec(["docker", "network", "rm", "app"])


def test_the_join_times_out_and_completes_when_the_rule_goes(story1_lab):
    fault = story1_lab.break_("drop", host="manager", chain="INPUT", proto="tcp", dport=2377)
    outcome = story1_lab.swarm_join("worker", "manager")
    assert not outcome.joined
    assert "Timeout was reached before node joined" in outcome.message
    story1_lab.heal(fault)
    until(lambda: swarm.local_state(story1_lab.host("worker")) == "active", 10.0, "the pending join")
    story1_lab.reset_swarm()
    assert story1_lab.swarm_join("worker", "manager").joined
    names = [node["Description"]["Hostname"] for node in story1_lab.host("manager").docker.nodes()]
    assert names == ["localhost.localdomain"] * 2


def test_a_large_packet_disappears_in_the_black_hole_and_nobody_says_why(pair_lab):
    one, two = pair_lab.host("one"), pair_lab.host("two")
    fault = pair_lab.break_("mtu-blackhole")
    small, large = ("-M", "do", "-s", "1472"), ("-M", "do", "-s", "1600")
    assert pings(one, two.address, *small)
    result = one.exec(["ping", "-c", "2", "-W", "1", *large, two.address], check=False)
    assert "100% packet loss" in result.stdout
    assert "Frag" not in result.stdout
    assert "too long" not in result.stdout + result.stderr
    pair_lab.heal(fault)
    result = one.exec(["ping", "-c", "1", "-W", "1", *large, two.address], check=False)
    assert "too long" in result.stdout + result.stderr


TALK = """
import socket, sys, threading
server = socket.create_server(("0.0.0.0", 9999))
def serve():
    connection, _ = server.accept()
    connection.settimeout(20)
    got = 0
    try:
        while got < 20000 and (data := connection.recv(65536)): got += len(data)
    except TimeoutError: pass
    connection.close()
print("ready", flush=True)
serve()
"""
SEND = """
import socket, sys
connection = socket.create_connection((sys.argv[1], 9999), 2)
connection.settimeout(2)
connection.sendall(bytes(20000))
try: print(repr(connection.recv(1)))
except TimeoutError: print("stuck")
"""


def test_tcp_connects_and_then_hangs_in_the_black_hole(pair_lab):
    one, two = pair_lab.host("one"), pair_lab.host("two")
    for fault, answer in ((None, "b''"), ("mtu-blackhole", "stuck")):
        if fault:
            pair_lab.break_(fault)
        with two.popen([sys.executable, "-c", TALK]) as server:
            assert server.stdout.readline() == "ready\n"
            assert one.exec([sys.executable, "-c", SEND, two.address]).stdout.strip() == answer
            from netdiag.lab.host import end_group

            end_group(server)


def test_a_link_that_is_down_keeps_its_own_routes(pair_lab):
    one = pair_lab.host("one")
    pair_lab.break_("route", host="one", action="add", to="192.0.2.0/24", via="10.71.0.2")
    routes = one.exec(["ip", "route"]).stdout
    fault = pair_lab.break_("link-down", host="one")
    assert not pings(one, "10.71.0.2")
    pair_lab.heal(fault)
    assert one.exec(["ip", "route"]).stdout == routes


def test_a_route_that_is_deleted_comes_back_as_it_was(pair_lab):
    one = pair_lab.host("one")
    routes = one.exec(["ip", "route"]).stdout
    fault = pair_lab.break_("route", host="one", action="delete", to="10.71.0.0/24")
    assert not pings(one, "10.71.0.2")
    pair_lab.heal(fault)
    assert one.exec(["ip", "route"]).stdout == routes
    with pytest.raises(LabError, match="no route to exactly"):
        pair_lab.break_("route", host="one", action="delete", to="192.0.2.0/24")


def test_loss_is_a_share(pair_lab):
    pair_lab.break_("loss", percent=50, proto="icmp")
    result = pair_lab.host("one").exec(["ping", "-q", "-c", "100", "-i", "0.002", "-W", "1", "10.71.0.2"], check=False)
    lost = 100 - int(result.stdout.partition("transmitted, ")[2].partition(" ")[0])
    assert 50 < lost < 98  # each echo crosses the fabric twice: 75 on average


def test_what_was_healed_by_hand_is_healed(pair_lab):
    one = pair_lab.host("one")
    fault = pair_lab.break_("drop", host="one", proto="tcp", dport=80, called="site")
    for words in ("-F INPUT", "-F site", "-X site"):
        one.exec(["iptables", *words.split()])
    pair_lab.heal(fault)
    assert pair_lab.faults() == ()


def test_half_a_fault_is_undone(pair_lab):
    one = pair_lab.host("one")
    before = one.exec(["iptables-save", "-t", "filter"], check=False).stdout
    with pytest.raises(LabError, match="No chain/target/match"):
        pair_lab.break_("drop", host="one", chain="NOWHERE", called="site")
    assert "site" not in one.exec(["iptables-save"]).stdout
    assert pair_lab.faults() == ()
    assert "site" not in before


@pytest.mark.parametrize(
    ("fault", "parameters", "named"),
    [
        ("drop", {"host": "oen"}, "did you mean one"),
        ("drop", {"host": "one", "dport": 80}, "need proto="),
        ("drop", {"host": "one", "backend": "nft", "chain": "DOCKER"}, "chain=DOCKER"),
        ("drop", {"host": "fabric", "extra": "-m state"}, "extra="),
        ("policy", {"host": "one", "chain": "site"}, "site"),
        ("drop", {"host": "one", "netns": "web"}, "netns=web: accepted is container:NAME"),
        ("drop", {"host": "one", "set": "blocked", "members": "nowhere"}, "nowhere"),
        ("nft", {"host": "one", "family": "netdev", "hook": "ingress", "rules": "drop"}, "netdev needs it"),
        ("nft", {"host": "one", "device": "eth0", "rules": "drop"}, "device= belongs to netdev"),
        ("nft", {"host": "one", "rules": "dorp"}, "dorp"),
        ("ufw", {"host": "one", "rules": "alow 22"}, "alow"),
        ("ufw", {"host": "one", "incoming": "drop"}, "allow|deny|reject"),
        ("fail2ban", {"host": "one", "address": "10.71.0.2", "jail": "no jail"}, "jail=no jail"),
        ("fail2ban", {"host": "one", "address": "10.71.0"}, "10.71.0"),
        ("route", {"host": "one", "action": "add", "to": "192.0.2.0/24"}, "needs via="),
        ("sysctl", {"host": "one", "key": "kernel.hostname", "value": "x"}, "below net"),
        ("sysctl", {"host": "one", "key": "net.nothing", "value": "x"}, "net"),
        ("mtu", {"host": "one", "mtu": 1400, "interface": "eth7"}, "eth7"),
        ("link-down", {"host": "one", "interface": "eth7", "side": "fabric"}, "eth7"),
        ("engine-stopped", {"host": "one"}, "no engine"),
    ],
)
def test_a_fault_that_cannot_be_names_why(fault, parameters, named, pair_lab):
    with pytest.raises((LabError, UsageError)) as raised:
        pair_lab.break_(fault, **parameters)
    assert named in str(raised.value)
    assert pair_lab.faults() == ()


def test_another_process_can_heal(pair_lab):
    before = pair_lab.host("one").exec(["iptables-save"], check=False).stdout
    pair_lab.break_("drop", host="one", proto="icmp")
    written = json.loads((state.DIRECTORY / f"{pair_lab.name}.json").read_text())
    assert written["faults"][0]["undo"][0]["argv"][:2] == ["iptables", "-w"]
    type(pair_lab).attach(pair_lab.name).heal(1)
    assert pings(pair_lab.host("two"), "10.71.0.1")
    assert before.count("icmp") == 0
    with pytest.raises(LabError, match="no fault 1 in lab"):
        pair_lab.heal(1)


def test_root_of_every_other_host_logs_in_to_a_real_sshd(pair_lab):
    one, two = pair_lab.host("one"), pair_lab.host("two")
    fault = pair_lab.break_("sshd", host="two")
    for destination in (f"root@{two.address}", "two"):
        assert one.exec(["ssh", "-o", "BatchMode=yes", destination, "hostname"]).stdout == "two\n"
    with pytest.raises(LabError, match="sshd runs on two already"):
        pair_lab.break_("sshd", host="two")
    pair_lab.heal(fault)
    assert connect(one, two.address, 22) == "Connection refused"
