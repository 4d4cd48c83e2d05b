"""What the next reload or boot changes, on lab hosts with real iptables, nft, ufw and firewalld."""

import contextlib
import json
import random
import re
import subprocess

import pytest

from netdiag.lab.host import end_group
from netdiag.lab.process import until
from tests.lab.test_firewall_trace import rules

UNIT = "[Unit]\n[Service]\nType=oneshot\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"
RULES = "/etc/iptables/rules.v4"


def put(host, path, text):
    host.exec(["mkdir", "-p", path.rpartition("/")[0]])
    host.exec(["tee", path], stdin=text)


def enable(host, *names):
    for name in names:
        host.exec(["systemctl", "enable", name])


def disable(host, *names):
    for name in names:
        host.exec(["systemctl", "disable", name], check=False)


def state(host):
    """Rules, sets, devices, network namespaces, and every file that a diff could write."""
    namespaces = host.exec(["sh", "-c", "readlink /proc/[0-9]*/ns/net | sort -u"]).stdout
    files = host.exec(["sh", "-c", "find /etc /run /var/lib -xdev -type f -printf '%p %s %T@\\n' | sort"]).stdout
    sets = re.sub(r"initval \S+", "", host.exec(["ipset", "save"]).stdout)
    return [*rules(host), sets.splitlines(), namespaces, files]


def diff(host, *, expect):
    """The document of ``netdiag firewall diff``, which must leave the host as it was."""
    before = state(host)
    result = host.exec(["netdiag", "firewall", "diff", "--output", "json"], check=False)
    assert "Traceback" not in result.stderr
    assert state(host) == before
    found = json.loads(result.stdout)
    assert (found["schema"], found["verdict"]) == ("netdiag/firewall-diff/1", expect), result.stdout
    assert result.returncode == {"same": 0, "changes": 1, "unknown": 3}[expect]
    return found


def said(found):
    """Kind, moment, mechanism and the rule's text (or the setting) of every change."""
    return [
        (each["kind"], each["when"], each["mechanism"], each["rule"]["text"] if each["rule"] else each["setting"])
        for each in found["changes"]
    ]


def add(host, *lines):
    for line in lines:
        host.exec(line.split())


@pytest.fixture
def host(pair_lab):
    """A host without rules, sets, and saved files."""
    one = pair_lab.host("one")
    put(one, "/etc/systemd/system/netfilter-persistent.service", UNIT)
    stock = one.exec(["cat", "/etc/nftables.conf"]).stdout
    yield one
    disable(one, "netfilter-persistent", "nftables", "ufw", "firewalld")
    put(one, "/etc/nftables.conf", stock)
    one.exec(["sh", "-c", "rm -rf /etc/iptables /etc/ufw/*.rules /etc/ufw/ufw.conf"])
    one.exec(["nft", "flush", "ruleset"])
    one.exec(["sh", "-c", "iptables-legacy -P INPUT ACCEPT; iptables-legacy -F; iptables-legacy -X; ipset destroy"])


@pytest.fixture
def persistent(host):
    """The same, with rules that netfilter-persistent loads at boot."""
    enable(host, "netfilter-persistent")
    add(host, "iptables -A INPUT -p tcp --dport 22 -j ACCEPT", "iptables -A INPUT -p tcp -j REJECT")
    put(host, RULES, host.exec(["iptables-save"]).stdout)
    return host


def test_a_host_without_rules_changes_nothing(host):
    assert said(diff(host, expect="same")) == []


def test_rules_that_nobody_saves_are_lost_at_boot(host):
    add(host, "iptables -A INPUT -p tcp --dport 2377 -j ACCEPT", "iptables -P INPUT DROP")
    add(host, "nft add table inet guard", "nft add chain inet guard in { type filter hook input priority 5 ; }")
    add(host, "nft add rule inet guard in tcp dport 4 counter drop", "iptables-legacy -A INPUT -p udp -j ACCEPT")
    found = diff(host, expect="changes")
    assert sorted(said(found)) == [
        ("changed", "boot", "none", ":INPUT DROP"),
        ("lost", "boot", "none", "-A INPUT -p tcp -m tcp --dport 2377 -j ACCEPT"),
        ("lost", "boot", "none", "-A INPUT -p udp -j ACCEPT"),
        ("lost", "boot", "none", "tcp dport 4 counter drop"),
    ]
    (kept,) = [each for each in found["changes"] if each["rule"]["text"].startswith("-A INPUT -p tcp")]
    assert kept["commands"] == ["apt-get install iptables-persistent", "netfilter-persistent save"]
    assert (kept["rule"]["number"], kept["rule"]["owner"], kept["rule"]["chain"]) == (1, "operator", "INPUT")


def test_a_saved_firewall_that_runs_is_the_same(persistent):
    assert said(diff(persistent, expect="same")) == []


def test_hand_written_spellings_are_no_difference(persistent):
    add(
        persistent,
        "iptables -F",
        "iptables -A INPUT -m conntrack --ctstate NEW,ESTABLISHED -s 10.1.2.3/32 -p tcp -m tcp --dport 22 -j ACCEPT",
        "iptables -A INPUT ! -s 10.0.0.0/8 -p udp -m udp --dport 53 -m comment --comment dns -j DROP",
        "iptables -A INPUT -p icmp -m icmp --icmp-type 8 -m limit --limit 3/min -j REJECT",
        "iptables -t nat -A PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.2:8080",
    )
    put(
        persistent,
        RULES,
        "# by hand\n*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT [0:0]\n"
        "--append INPUT --protocol tcp --source 10.1.2.3 -m state --state ESTABLISHED,NEW --destination-port ssh --jump ACCEPT\n"
        '-A INPUT -m comment --comment "dns" --proto udp --dport domain ! -s 10.0.0.0/255.0.0.0 -j DROP\n'
        "-A INPUT -p icmp --icmp-type echo-request -m limit --limit 3/minute --limit-burst 5 "
        "-j REJECT --reject-with icmp-port-unreachable\nCOMMIT\n"
        "*nat\n-A PREROUTING -p tcp --dport 80 -j DNAT --to 10.0.0.2:8080\nCOMMIT\n",
    )
    assert said(diff(persistent, expect="same")) == []
    # The same with DOS line ends: no rule differs, but the file as it is cannot be loaded, and that is said.
    put(persistent, RULES, persistent.exec(["cat", RULES]).stdout.replace("\n", "\r\n"))
    found = diff(persistent, expect="unknown")
    assert "DOS line ends" in found["unknown"][0]["reason"]
    assert said(found) == []


def test_lost_returns_moved_and_policy(persistent):
    add(persistent, "iptables -D INPUT 1", "iptables -I INPUT 1 -p udp --dport 4789 -j ACCEPT")
    add(persistent, "iptables -P FORWARD DROP")
    found = diff(persistent, expect="changes")
    assert sorted(said(found)) == [
        ("changed", "restart", "netfilter-persistent", ":FORWARD DROP"),
        ("lost", "boot", "netfilter-persistent", "-A INPUT -p udp -m udp --dport 4789 -j ACCEPT"),
        ("returns", "restart", "netfilter-persistent", "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT"),
    ]
    by_kind = {each["kind"]: each for each in found["changes"]}
    assert by_kind["lost"]["commands"] == ["netfilter-persistent save"]
    for kind in ("returns", "changed"):
        (command,) = by_kind[kind]["commands"]
        persistent.exec(["sh", "-c", command])
    assert [kind for kind, *_ in said(diff(persistent, expect="changes"))] == ["lost"]
    put(persistent, RULES, persistent.exec(["iptables-save"]).stdout)
    assert said(diff(persistent, expect="same")) == []
    add(persistent, "iptables -D INPUT 1", "iptables -A INPUT -p tcp --dport 22 -j ACCEPT")
    assert said(diff(persistent, expect="changes"))[0][0] == "changed"


def test_flushed_by_hand(persistent):
    add(persistent, "iptables -F")
    assert said(diff(persistent, expect="changes")) == [
        ("returns", "restart", "netfilter-persistent", "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT"),
        ("returns", "restart", "netfilter-persistent", "-A INPUT -p tcp -j REJECT --reject-with icmp-port-unreachable"),
    ]


def test_a_rule_that_was_taken_out_by_hand_can_leave_its_file(persistent):
    put(persistent, RULES, "*filter\n-A INPUT -p tcp --dport ssh -j ACCEPT\n-A INPUT -p tcp -j REJECT\nCOMMIT\n")
    add(persistent, "iptables -D INPUT 2")
    (change,) = diff(persistent, expect="changes")["changes"]
    persistent.exec(["sh", "-c", change["otherwise"][0]])
    assert said(diff(persistent, expect="same")) == []


def test_a_service_that_does_not_start_at_boot_brings_nothing_back(persistent):
    disable(persistent, "netfilter-persistent")
    found = diff(persistent, expect="changes")
    assert [each[:3] for each in said(found)] == [("lost", "boot", "netfilter-persistent")] * 2
    assert {tuple(each["commands"]) for each in found["changes"]} == {("systemctl enable netfilter-persistent",)}
    assert "does not start at boot" in found["changes"][0]["meaning"]


def test_a_file_that_does_not_load_is_compared_as_text_and_said(persistent):
    add(persistent, "iptables -D INPUT 1")
    text = persistent.exec(["cat", RULES]).stdout
    put(persistent, RULES, text.replace("COMMIT", "-A INPUT -m set --match-set gone src -j DROP\nCOMMIT"))
    found = diff(persistent, expect="changes")
    assert [each[0] for each in said(found)] == ["returns", "returns"]
    assert "Set gone doesn't exist" in found["unknown"][0]["reason"]


TOOLS = [f"{tool}{suffix}" for tool in ("iptables", "ip6tables") for suffix in ("", "-save", "-restore")]


def test_a_host_whose_iptables_is_the_old_one(host):
    """The plain names are the legacy tools; the rules of the other variant are nobody's then."""
    kept = {tool: host.exec(["readlink", f"/usr/sbin/{tool}"]).stdout.strip() for tool in TOOLS}
    enable(host, "netfilter-persistent")
    try:
        for tool in TOOLS:
            host.exec(["ln", "-sf", "xtables-legacy-multi", f"/usr/sbin/{tool}"])
        add(host, "iptables -A INPUT -p tcp --dport 22 -j ACCEPT", "iptables-nft -A INPUT -p udp -j DROP")
        put(host, RULES, "*filter\n-A INPUT -p tcp --dport ssh -j ACCEPT\nCOMMIT\n")
        found = diff(host, expect="changes")
        assert said(found) == [("lost", "boot", "netfilter-persistent", "-A INPUT -p udp -j DROP")]
        assert found["changes"][0]["commands"] == ["iptables -w -I INPUT -p udp -j DROP", "netfilter-persistent save"]
        assert found["changes"][0]["rule"]["backend"] == "iptables-nft"
        add(host, "iptables -F")
        (back,) = [each for each in diff(host, expect="changes")["changes"] if each["kind"] == "returns"]
        assert back["rule"]["backend"] == "iptables-legacy"
    finally:
        for tool, target in kept.items():
            host.exec(["ln", "-sf", target, f"/usr/sbin/{tool}"])


def test_ipsets(persistent):
    add(persistent, "ipset create blocked hash:ip", "ipset add blocked 192.0.2.1", "ipset create other hash:net")
    add(persistent, "iptables -A INPUT -m set --match-set blocked src -j DROP")
    put(persistent, RULES, persistent.exec(["iptables-save"]).stdout)
    sets = "create blocked hash:ip family inet hashsize 1024 maxelem 65536\nadd blocked 192.0.2.2\n"
    put(persistent, "/etc/iptables/ipsets", sets)
    assert sorted(said(diff(persistent, expect="changes"))) == [
        ("lost", "boot", "netfilter-persistent", "ipset blocked: 192.0.2.1"),
        ("lost", "boot", "netfilter-persistent", "ipset other"),
        ("returns", "restart", "netfilter-persistent", "ipset blocked: 192.0.2.2"),
    ]
    add(persistent, "iptables -F")


NFT = """#!/usr/sbin/nft -f
flush ruleset
include "/etc/nftables.d/*.nft"
table inet site {
  set blocked {
    type ipv4_addr
    elements = { 192.0.2.1, 192.0.2.2 }
  }
  set seen {
    type ipv4_addr
    flags dynamic,timeout
    timeout 1m
  }
  chain in { type filter hook input priority 0; policy drop;
    ct state established,related accept
    tcp dport { ssh, 2377 } accept
    update @seen { ip saddr } counter
  }
}
"""
EXTRA = """table ip extra {
  chain c {
    type filter hook output priority 5;
    udp dport 53 accept
  }
}
"""


def test_nftables_conf(host):
    put(host, "/etc/nftables.conf", NFT)
    put(host, "/etc/nftables.d/extra.nft", EXTRA)
    enable(host, "nftables")
    host.exec(["nft", "-f", "/etc/nftables.conf"])
    add(host, "nft add element inet site seen { 192.0.2.9 }")
    assert said(diff(host, expect="same")) == []
    add(
        host,
        "nft insert rule inet site in index 1 udp dport 4789 accept",
        "nft add element inet site blocked { 192.0.2.3 }",
        "nft delete element inet site blocked { 192.0.2.1 }",
        "nft delete table ip extra",
        "nft chain inet site in { policy accept ; }",
        "iptables -A INPUT -p tcp --dport 80 -j ACCEPT",
    )
    found = diff(host, expect="changes")
    assert sorted(said(found)) == [
        ("changed", "reload", "nftables.service", "type filter hook input priority filter; policy accept;"),
        ("lost", "reload", "nftables.service", "-A INPUT -p tcp -m tcp --dport 80 -j ACCEPT"),
        ("lost", "reload", "nftables.service", "inet site set blocked: 192.0.2.3"),
        ("lost", "reload", "nftables.service", "udp dport 4789 accept"),
        ("returns", "reload", "nftables.service", "inet site set blocked: 192.0.2.1"),
        ("returns", "reload", "nftables.service", "udp dport 53 accept"),
    ]
    # What is said to agree does: all but the rule of iptables, which nftables.service does not keep.
    for each in found["changes"]:
        if each["rule"] is None or each["rule"]["backend"] == "nft-native":
            for command in each["commands"][:1]:
                if each["rule"] is None or each["rule"]["table"] != "extra":
                    host.exec(["sh", "-c", command])
    left = said(diff(host, expect="changes"))
    assert [each[3] for each in left] == ["-A INPUT -p tcp -m tcp --dport 80 -j ACCEPT", "udp dport 53 accept"]
    host.exec(["rm", "-r", "/etc/nftables.d"])


def test_a_chain_on_a_device(host):
    text = "table netdev edge {\n  chain in {\n    type filter hook ingress device eth0 priority 0;\n    udp dport 9 drop\n  }\n}\n"
    put(host, "/etc/nftables.conf", text)
    enable(host, "nftables")
    host.exec(["nft", "-f", "/etc/nftables.conf"])
    assert said(diff(host, expect="same")) == []
    add(host, "nft flush chain netdev edge in")
    assert said(diff(host, expect="changes")) == [("returns", "reload", "nftables.service", "udp dport 9 drop")]


def test_nftables_conf_that_does_not_load(host):
    put(host, "/etc/nftables.conf", "flush ruleset\ntable inet site { chain in { nonsense } }\n")
    enable(host, "nftables")
    found = diff(host, expect="unknown")
    assert "/etc/nftables.conf" in found["unknown"][0]["reason"]
    assert "nonsense" in found["unknown"][0]["reason"] or "syntax error" in found["unknown"][0]["reason"]


@pytest.fixture
def ufw(host):
    host.exec(["sh", "-c", "cp -L /usr/share/ufw/*.rules /usr/share/ufw/ufw.conf /etc/ufw/"])
    enable(host, "ufw")
    add(host, "ufw --force enable", "ufw allow 22/tcp", "ufw allow from 10.71.0.2 to any port 2377 proto tcp")
    # The first rule makes ufw write files that say a little more than those of its package.
    add(host, "ufw reload")
    yield host
    add(host, "ufw --force disable")


def test_ufw(ufw):
    assert said(diff(ufw, expect="same")) == []
    add(
        ufw,
        "iptables -D ufw-user-input 1",
        "iptables -A ufw-user-input -p udp --dport 4789 -j ACCEPT",
        "iptables -I INPUT -p tcp --dport 80 -m comment --comment mine -j DROP",
        "iptables -P INPUT ACCEPT",
    )
    found = diff(ufw, expect="changes")
    assert sorted(said(found)) == [
        ("changed", "restart", "ufw", ":INPUT ACCEPT"),
        ("lost", "boot", "ufw", "-A INPUT -p tcp -m tcp --dport 80 -m comment --comment mine -j DROP"),
        ("lost", "reload", "ufw", "-A ufw-user-input -p udp -m udp --dport 4789 -j ACCEPT"),
        ("returns", "reload", "ufw", "-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT"),
    ]
    by_text = {each["rule"]["text"]: each for each in found["changes"]}
    assert by_text["-A ufw-user-input -p udp -m udp --dport 4789 -j ACCEPT"]["commands"] == [
        "ufw allow proto udp from any to any port 4789"
    ]
    for each in found["changes"]:
        ufw.exec(["sh", "-c", each["commands"][0]])
    add(ufw, "ufw reload")
    # The rule beside ufw still stands there, and is saved in ufw's own chain now.
    assert [each[3] for each in said(diff(ufw, expect="changes"))] == [
        "-A INPUT -p tcp -m tcp --dport 80 -m comment --comment mine -j DROP"
    ]


def test_ufw_flushed_by_hand_is_healed_by_what_is_said(ufw):
    add(ufw, "iptables -F")
    found = diff(ufw, expect="changes")
    assert {(kind, mechanism) for kind, _, mechanism, _ in said(found)} == {("returns", "ufw")}
    files = {each["file"] for each in found["changes"]}
    assert files == {"/etc/ufw", "/etc/ufw/before.rules", "/etc/ufw/after.rules", "/etc/ufw/user.rules"}
    for command in dict.fromkeys(command for each in found["changes"] for command in each["commands"]):
        ufw.exec(["sh", "-c", command])
    assert said(diff(ufw, expect="same")) == []


def test_ufw_that_does_not_start_at_boot(ufw):
    disable(ufw, "ufw")
    assert ("lost", "boot", "ufw", "ufw itself") in said(diff(ufw, expect="changes"))


def test_firewalld(host, pair_lab):
    enable(host, "firewalld")
    pair_lab.break_("firewalld", host="one", ports="2377/tcp")
    add(host, "firewall-cmd -q --permanent --add-service=http", "firewall-cmd -q --zone=home --add-masquerade")
    add(host, "firewall-cmd -q --direct --add-rule ipv4 filter INPUT 0 -p udp --dport 9 -j ACCEPT")
    add(host, "iptables -A INPUT -p tcp --dport 80 -j DROP", "firewall-cmd -q --zone=work --change-interface=eth0")
    host.exec(["firewall-cmd", "-q", "--add-rich-rule=rule family=ipv4 source address=10.1.0.0/16 accept"])
    found = diff(host, expect="changes")
    rich = 'zone public: rich-rule rule family="ipv4" source address="10.1.0.0/16" accept'
    assert sorted(said(found)) == [
        ("changed", "reload", "firewalld", "zone home: masquerade"),
        ("lost", "reload", "firewalld", "-A INPUT -p tcp -m tcp --dport 80 -j DROP"),
        ("lost", "reload", "firewalld", "direct rule ipv4 filter INPUT 0 -p udp --dport 9 -j ACCEPT"),
        ("lost", "reload", "firewalld", "zone public: port 2377/tcp"),
        ("lost", "reload", "firewalld", rich),
        ("returns", "reload", "firewalld", "zone public: service http"),
    ]
    for each in found["changes"]:
        host.exec(["sh", "-c", each["commands"][0]])
    add(host, "iptables -D INPUT -p tcp --dport 80 -j DROP")
    # All that is left is the direct rule that replaces the one of iptables, not loaded yet.
    assert [each[::3] for each in said(diff(host, expect="changes"))] == [
        ("returns", "direct rule ipv4 filter INPUT 0 -p tcp -m tcp --dport 80 -j DROP")
    ]
    host.exec(["sh", "-c", "rm -f /etc/firewalld/zones/* /etc/firewalld/direct.xml"])


def test_the_table_fits(persistent):
    add(persistent, "iptables -D INPUT 1", "iptables -A INPUT -p udp --dport 4789 -j ACCEPT")
    text = persistent.exec(["netdiag", "firewall", "diff"], check=False).stdout
    assert text.startswith("CHANGES: 1 lost, 1 come back.\n")
    assert "When netfilter-persistent is restarted, and at the next boot: RETURNS (/etc/iptables/rules.v4)" in text
    assert "  # netfilter-persistent save\n" in text
    assert max(map(len, text.splitlines())) <= 100


def test_nothing_is_left_after_a_kill(persistent):
    before = state(persistent)
    for _ in range(6):
        process = persistent.popen(["netdiag", "firewall", "diff"])
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(random.uniform(0.1, 0.5))
        end_group(process)
        until(lambda: state(persistent) == before, 5, "the kernel's own tidying")
        tools = ["pgrep", "-f", "firewall diff|iptables-restore|ipset restore|nft -f"]
        until(lambda tools=tools: persistent.exec(tools, check=False).stdout == "", 5, "tools that were asked")


def test_without_root(host):
    command = ["setpriv", "--reuid=65534", "--clear-groups", "netdiag", "firewall", "diff"]
    result = host.exec(command, check=False)
    assert result.returncode == 2
    assert "needs root" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_beside_an_engine(swarm2_lab):
    """What Docker writes at its start is nobody's to save; a rule in DOCKER-USER is the operator's."""
    worker = swarm2_lab.host("worker")
    put(worker, "/etc/systemd/system/netfilter-persistent.service", UNIT)
    assert said(diff(worker, expect="same")) == []
    rule = "-A DOCKER-USER -s 192.0.2.9/32 -j DROP"
    try:
        add(worker, "iptables -I DOCKER-USER -s 192.0.2.9 -j DROP")
        assert said(diff(worker, expect="changes")) == [("lost", "boot", "none", rule)]
        # Saved by hand with everything else: the rule is kept, and Docker's rules come back beside Docker's.
        enable(worker, "netfilter-persistent")
        put(worker, RULES, worker.exec(["iptables-save"]).stdout)
        found = diff(worker, expect="changes")
        assert {each["kind"] for each in found["changes"]} == {"duplicate", "wipes"}
        assert rule not in [each["rule"]["text"] for each in found["changes"]]
        # Saved as it is told when Docker has rules of its own: only that one.
        put(worker, RULES, "*nat\nCOMMIT\n")
        (lost,) = [each for each in diff(worker, expect="changes")["changes"] if each["kind"] == "lost"]
        assert lost["rule"]["text"] == rule
        for command in lost["commands"]:
            worker.exec(["sh", "-c", command])
        kinds = {each["kind"] for each in diff(worker, expect="changes")["changes"]}
        assert kinds == {"wipes"}
        assert worker.exec(["cat", RULES]).stdout == f"*nat\nCOMMIT\n*filter\n:DOCKER-USER - [0:0]\n{rule}\nCOMMIT\n"
    finally:
        disable(worker, "netfilter-persistent")
        worker.exec(["sh", "-c", "rm -rf /etc/iptables; iptables -D DOCKER-USER -s 192.0.2.9 -j DROP"])
