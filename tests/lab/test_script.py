"""The script on real hosts: every shell, nothing changed, no secret, the facts of a live host; and pairs made of it."""

import json
import re

import msgspec
import pytest

from netdiag.carrier.script import PARTS, script
from netdiag.cli.analyze_run import analyze_pair
from netdiag.facts.assemble import replay
from netdiag.host.bundles import read_bundle
from netdiag.lab import swarm
from netdiag.lab.process import until
from netdiag.model.facts import HOST, AbsenceKind, Backend

SHELLS = [["dash"], ["bash", "--posix"], ["busybox", "sh"]]
NOW_S = 4_000_000_000.0
SECRET = "hunter2-hunter2"
TEXT = script(PARTS, tool="0.1.0", made_s=1, made_on="elsewhere")
LEFT_ALONE = ("/var/lib/docker", "/run/docker", "/var/log", "/run/containerd")


def printed(host, shell=("dash",), text=TEXT, **options):
    """What the script prints on a host; it is read from standard input, so that not even it is a file there."""
    return host.exec([*shell, "-s"], stdin=text, **{"timeout_s": 60, **options})


@pytest.fixture
def saved(tmp_path):
    """Texts as files that analyze reads."""

    def save(name, text):
        path = tmp_path / name
        path.write_text(text)
        return read_bundle(path)

    return save


@pytest.fixture
def collected(tmp_path):
    """A host's own bundle."""

    def collect(host):
        host.exec(["netdiag", "collect", "-o", "/run/mine.netdiag"], timeout_s=40)
        return read_bundle(host.path("/run/mine.netdiag"))

    return collect


def state(host):
    """Whatever a script could change: rules, modules, settings, namespaces, links, files outside the engine's own."""
    commands = {
        "nft": ["nft", "-s", "list", "ruleset"],
        "legacy": ["sh", "-c", "cat /proc/net/ip_tables_names /proc/net/ip6_tables_names"],
        "modules": ["sh", "-c", "cut -d' ' -f1 /proc/modules 2>/dev/null | sort"],
        "sysctls": ["sh", "-c", "sysctl -a 2>/dev/null | grep -vE 'random|nr_|ns_last_pid|cad_pid|inode|dentry|file|nf_conntrack_count|sched|pid_max|keys'"],
        "links": ["ip", "-o", "link"],
        "routes": ["sh", "-c", "ip route show table all; ip rule"],
        "namespaces": ["sh", "-c", "ls /run/docker/netns; ls /run/netns 2>/dev/null"],
        "containers": ["docker", "ps", "-aq"],
        "sockets": ["sh", "-c", "ss -lntu | sort"],
        "files": ["find", "/etc", "/root", "/tmp", "/home", "/run", "/var", "-xdev", "-printf", "%p %s %T@\\n"],
    }  # fmt: skip
    seen = {name: host.exec(argv, check=False).stdout for name, argv in commands.items()}
    lines = seen["files"].splitlines()
    return {**seen, "files": "\n".join(line for line in lines if not line.startswith(LEFT_ALONE))}


def settled(host):
    """The state of a host once it no longer changes by itself: a swarm makes its ingress network after it has begun."""
    seen = [state(host)]

    def same():
        seen.append(state(host))
        return "ingress_sbox" in seen[-1]["namespaces"] and seen[-1] == seen[-2]

    until(same, what="a host that does not change by itself", timeout_s=30)
    return seen[-1]


@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
def test_every_shell_runs_it_and_nothing_is_changed(swarm2_lab, shell, saved):
    manager = swarm2_lab.host("manager")
    before = settled(manager)
    done = printed(manager, shell)
    after = state(manager)
    assert {name: after[name] for name in after} == {name: before[name] for name in before}
    assert done.stderr == ""
    bundle = saved("theirs.txt", done.stdout)
    assert bundle.arguments["complete"]
    facts = replay(bundle)
    assert facts.identity.value.hostname == "manager"
    assert f"{manager.address}/24" in [row.cidr for row in facts.addresses.value[HOST]]
    assert facts.engine.value.swarm.is_manager
    assert facts.firewall.value[HOST][0].backend is Backend.IPTABLES_NFT


def without_counters(rows):
    return {msgspec.structs.replace(row, stats=None) if hasattr(row, "stats") else row for row in rows}


def test_its_facts_are_those_of_netlink_and_of_the_engines_socket(swarm2_lab, saved, collected):
    manager = swarm2_lab.host("manager")
    manager.exec(["ip", "route", "add", "10.99.0.0/16", "nexthop", "via", "10.71.0.7", "weight", "2", "nexthop", "via", "10.71.0.8"])  # fmt: skip
    manager.exec(["ip", "route", "add", "blackhole", "10.98.0.0/16", "metric", "7", "table", "77"])
    manager.exec(["ip", "rule", "add", "from", "10.97.0.0/16", "fwmark", "0x7/0xff", "iif", "eth0", "lookup", "77"])
    manager.exec(["ip", "neigh", "add", "10.71.0.55", "lladdr", "02:00:00:00:00:55", "dev", "eth0", "nud", "permanent"])  # fmt: skip
    told, live = replay(saved("theirs.txt", printed(manager).stdout)), replay(collected(manager))
    for name in ("links", "addresses", "routes", "rules", "fdb"):
        ours, theirs = getattr(told, name).value, getattr(live, name).value
        for namespace, rows in ours.items():
            assert without_counters(rows) == without_counters(theirs[namespace]), (name, namespace)
        assert HOST in ours
    permanent = [row for row in live.neighbours.value[HOST] if "permanent" in row.states]
    assert [row for row in told.neighbours.value[HOST] if "permanent" in row.states] == permanent != []
    assert told.sysctls.value[HOST] == live.sysctls.value[HOST]
    assert told.kernel.value == live.kernel.value
    assert told.firewall_saved.value == live.firewall_saved.value
    assert told.sockets.value[HOST] == live.sockets.value[HOST]
    assert [one.sha256 for one in told.firewall.value[HOST]] == [one.sha256 for one in live.firewall.value[HOST]]
    assert told.engine.value.swarm == live.engine.value.swarm
    assert told.engine.value.cluster.nodes == live.engine.value.cluster.nodes
    assert set(told.engine.value.images) == set(live.engine.value.images)
    by_id = {network.id: network for network in live.engine.value.networks}
    for network in told.engine.value.networks:
        assert network == msgspec.structs.replace(by_id[network.id], tasks=())


def test_no_secret_is_in_it(swarm2_lab):
    manager = swarm2_lab.host("manager")
    tokens = manager.exec(["docker", "swarm", "join-token", "-q", "worker"]).stdout.split()
    started = manager.exec(
        ["docker", "run", "-d", "-e", f"PASSWORD={SECRET}", "--label", f"key={SECRET}", "netdiag/busybox:lab", "sleep", SECRET.replace("hunter2-hunter2", "1000")]
    ).stdout.strip()  # fmt: skip
    service = [
        "docker",
        "service",
        "create",
        "-d",
        "--name",
        "keeper",
        "--env",
        f"K={SECRET}",
        "--label",
        f"l={SECRET}",
    ]
    manager.exec([*service, "netdiag/busybox:lab", "sleep", "1000"])
    manager.exec(["docker", "network", "create", "--label", f"n={SECRET}", "--opt", f"x={SECRET}", "labelled"])
    manager.exec(["sh", "-c", f"mkdir -p /etc/nftables.d; echo '# http://user:{SECRET}@host/ {tokens[0]}' > /etc/nftables.d/x.nft"])  # fmt: skip
    try:
        text = printed(manager, env={"PASSWORD": SECRET}).stdout
    finally:
        manager.exec(["docker", "rm", "-f", started])
        manager.exec(["docker", "service", "rm", "keeper"])
        manager.exec(["docker", "network", "rm", "labelled"])
        manager.exec(["rm", "/etc/nftables.d/x.nft"])
    # What was looked for could have been there.
    assert started in text
    assert "keeper" in text
    assert "labelled" in text
    assert "/etc/nftables.d/x.nft" in text
    assert "SWMTKN-(withheld)" in text
    assert SECRET not in text
    assert tokens[0] not in text
    assert tokens[0].split("-")[3] not in text


def test_legacy_tables_are_listed_only_where_there_are_some(swarm2_lab, saved):
    worker = swarm2_lab.host("worker")
    assert "iptables-legacy-save" not in printed(worker).stdout
    swarm2_lab.break_("drop", host="worker", chain="INPUT", proto="tcp", dport=9999, backend="iptables-legacy")
    facts = replay(saved("theirs.txt", printed(worker).stdout))
    legacy = [one for one in facts.firewall.value[HOST] if one.backend is Backend.IPTABLES_LEGACY]
    assert "--dport 9999 -j DROP" in legacy[0].text


def test_where_nf_tables_is_not_there_nothing_that_loads_it_is_run(swarm2_lab):
    worker = swarm2_lab.host("worker")
    if worker.exec(["test", "-e", "/proc/modules"], check=False).returncode == 0:
        pytest.skip("this kernel has modules: what is built in cannot be hidden from the script")
    # A host whose kernel says that it has nothing, and tools that would tell if they were run.
    hidden = (
        "mount -t tmpfs none /mnt && for tool in nft iptables-save ip6tables-save iptables-nft-save ipset; do"
        " printf '#!/bin/sh\\necho ran >> /mnt/ran\\n' > /mnt/$tool; chmod +x /mnt/$tool; done;"
        " mount --bind /dev/null /proc/config.gz; PATH=/mnt:$PATH dash -s; cat /mnt/ran 2>/dev/null; umount /mnt"
    )
    done = worker.exec(["unshare", "-m", "sh", "-c", hidden], stdin=TEXT, timeout_s=60)
    assert re.search(r"@begin command nft -a list ruleset\n!.*\n@end withheld", done.stdout)
    assert "@complete\n" in done.stdout
    assert "ran" not in done.stdout.split("@complete\n")[1]
    # The same tools are run where the kernel has it: the test would see it.
    seen = worker.exec(
        ["unshare", "-m", "sh", "-c", hidden.replace("mount --bind /dev/null /proc/config.gz;", "")],
        stdin=TEXT,
        timeout_s=60,
    )
    assert "ran" in seen.stdout.split("@complete\n")[1]


def test_without_root_it_says_what_it_could_not_see(swarm2_lab, saved):
    worker = swarm2_lab.host("worker")
    plain = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "dash")
    facts = replay(saved("theirs.txt", printed(worker, plain).stdout))
    assert not facts.identity.value.is_root
    assert facts.firewall.absent.kind is AbsenceKind.PERMISSION
    assert facts.engine.absent.kind is AbsenceKind.PERMISSION
    assert f"{worker.address}/24" in [row.cidr for row in facts.addresses.value[HOST]]


def test_an_engine_that_hangs_ends_nothing_but_its_own_section(swarm2_lab, saved):
    worker = swarm2_lab.host("worker")
    engine = worker.exec(["cat", "/var/run/docker.pid"]).stdout.strip()
    worker.exec(["kill", "-STOP", engine])
    try:
        text = printed(worker).stdout
    finally:
        worker.exec(["kill", "-CONT", engine])
    facts = replay(saved("theirs.txt", text))
    assert facts.engine.absent.kind is AbsenceKind.TIMEOUT
    assert facts.firewall.value[HOST]


# --- pairs -----------------------------------------------------------------------------------------------------------


def pair(mine, theirs):
    return analyze_pair(mine, theirs, names=("mine.netdiag", "theirs.txt"), now_s=NOW_S)


def failed(report):
    return {(report.findings[at].subject.host, one.code) for at, one in _with_cause(report)}


def _with_cause(report):
    for at, finding in enumerate(report.findings):
        if finding.cause is not None:
            yield at, report.causes[finding.cause]


def test_a_clean_pair_has_no_cause(swarm2_lab, saved, collected):
    manager, worker = swarm2_lab.host("manager"), swarm2_lab.host("worker")
    report = pair(collected(worker), saved("theirs.txt", printed(manager).stdout))
    assert report.causes == ()
    assert report.exit_code() == 0
    # Both ways round, and with the script's output of both.
    assert pair(saved("a.txt", printed(manager).stdout), saved("b.txt", printed(worker).stdout)).causes == ()


def test_their_rule_and_mine_are_named_and_their_remedies_heal(swarm2_lab, saved, collected):
    manager, worker = swarm2_lab.host("manager"), swarm2_lab.host("worker")
    # Decoys beside the rule that counts: another source, another port, a rule after an accept.
    swarm2_lab.break_("drop", host="manager", chain="INPUT", proto="tcp", dport=2377, source="198.51.100.0/24")
    swarm2_lab.break_("drop", host="manager", chain="INPUT", proto="tcp", dport=2377)
    swarm2_lab.break_("drop", host="manager", chain="INPUT", proto="udp", dport=2377)
    swarm2_lab.break_("stateful-input", host="worker")
    report = pair(collected(worker), saved("theirs.txt", printed(manager).stdout))
    assert failed(report) == {("manager", "firewall.rule"), ("worker", "firewall.rule")}
    by_host = {cause.host: cause for cause in report.causes}
    theirs, mine = by_host["manager"], by_host["worker"]
    assert {one.confidence.value for one in by_host.values()} == {"likely"}
    assert (theirs.object["table"], theirs.object["chain"], theirs.object["number"]) == ("filter", "INPUT", 2)
    assert "--dport 2377 -j DROP" in theirs.object["text"]
    assert "REJECT" in mine.object["text"]
    opened = [command for remedy in mine.remedy for command in remedy.commands]
    accept = rf"iptables(-nft)? -I INPUT 5 -s {re.escape(manager.address)} -p udp --dport 4789 -m comment --comment netdiag -j ACCEPT"
    assert any(re.fullmatch(accept, command) for command in opened), opened
    assert report.exit_code() == 1
    # What it says to do there heals the join.
    for cause, host in ((theirs, manager), (mine, worker)):
        for remedy in cause.remedy:
            for command in remedy.commands:
                host.exec(command.split())
    again = pair(collected(worker), saved("again.txt", printed(manager).stdout))
    assert again.causes == ()
    outcome = swarm2_lab.swarm_join("worker", "manager", timeout_s=40)
    assert outcome.joined, outcome.message
    joined = pair(collected(worker), saved("joined.txt", printed(manager).stdout))
    assert joined.causes == ()
    (one,) = [finding for finding in joined.findings if finding.check == "pair.membership"]
    assert one.summary == "both are in one swarm, and its manager says that worker is ready"
    # Undone as it says, the worker is as it was.
    for cause, host in ((theirs, manager), (mine, worker)):
        for remedy in cause.remedy:
            for command in remedy.undo:
                host.exec(command.split())
    swarm2_lab.swarm_leave("worker")
    for node in swarm.nodes(manager):
        if node["Spec"]["Role"] == "worker":
            manager.docker.remove_node(node["ID"], force=True)


def test_the_commands_as_an_operator_types_them(swarm2_lab):
    manager, worker = swarm2_lab.host("manager"), swarm2_lab.host("worker")
    swarm2_lab.break_("drop", host="manager", chain="INPUT", proto="tcp", dport=2377)
    text = worker.exec(["netdiag", "script", "collect"]).stdout
    worker.exec(["sh", "-c", "cat > /run/theirs.txt"], stdin=printed(manager, text=text).stdout)
    worker.exec(["netdiag", "collect", "-o", "/run/mine.netdiag"], timeout_s=40)
    done = worker.exec(["netdiag", "analyze", "/run/mine.netdiag", "/run/theirs.txt", "--output", "json"], check=False)
    document = json.loads(done.stdout)
    assert (done.returncode, document["host"]) == (1, "worker")
    (cause,) = document["causes"]
    assert (cause["code"], cause["host"], cause["object"]["number"]) == ("firewall.rule", "manager", 1)
    asked = worker.exec(["netdiag", "ask", "-"], stdin=done.stdout)
    assert "iptables -t filter -vnL INPUT 1" in asked.stdout
