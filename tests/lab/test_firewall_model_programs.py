"""The model of nft's rules on what programs really write: firewalld and fail2ban, against the kernel's traces."""

import json
import os
from pathlib import Path

import pytest

from netdiag.lab.process import until

PACKETS = [
    ["--dport", "22"],
    ["--dport", "2377"],
    ["--dport", "80"],
    ["--dport", "22", "--tcp-flags", "ack"],
    ["--dport", "22", "--tcp-flags", "rst"],
    ["--proto", "udp", "--dport", "4789"],
    ["--proto", "udp", "--dport", "5353"],
    ["--proto", "icmp"],
    ["--path", "out", "--dport", "443"],
]
BANNED = "10.71.0.12"


@pytest.fixture(scope="module")
def programs(pair_lab):
    return pair_lab.host("one")


def both(host, packet):
    def ask(verb):
        said = host.exec(["netdiag", "firewall", verb, *packet, "--output", "json"], check=False)
        return json.loads(said.stdout)

    return ask("trace"), ask("explain")


def agree(traced, computed):
    assert computed["verdict"] == traced["verdict"], computed["reason"]
    names = ("family", "table", "chain", "number", "handle", "text", "owner", "policy")
    for which in ("rule", "policy"):
        mine, kernel = ({name: (each[which] or {}).get(name) for name in names} for each in (computed, traced))
        assert mine == kernel


def record(host, name):
    """Keep what the program wrote, where one asks for it."""
    if to := os.environ.get("NETDIAG_RECORD"):
        Path(to, f"{name}.json").write_text(host.exec(["nft", "-j", "list", "ruleset"]).stdout)
        Path(to, f"{name}.nft").write_text(host.exec(["nft", "-a", "list", "ruleset"]).stdout)


def test_firewalld_s_rules_are_explained_as_the_kernel_traces_them(pair_lab, programs):
    pair_lab.break_("firewalld", host="one", ports="2377/tcp")
    peer = pair_lab.host("two").address
    rich = "rule family=ipv4 source address=192.0.2.0/24 port port=80 protocol=tcp drop"
    programs.exec(["firewall-cmd", "--zone=public", f"--add-rich-rule={rich}"])
    record(programs, "firewalld")
    for words in PACKETS:
        out = "out" in words
        ends = ["--dst", peer, "--src", programs.address] if out else ["--src", peer, "--dst", programs.address]
        agree(*both(programs, [*words, *ends, "--out" if out else "--in", "eth0"]))


def test_fail2ban_s_rules_are_explained_as_the_kernel_traces_them(pair_lab, programs):
    pair_lab.break_("fail2ban", host="one", address=BANNED, jail="lab", port="22,2377", action="nftables-multiport")
    until(lambda: BANNED in programs.exec(["nft", "list", "ruleset"]).stdout, 10, "the ban")
    record(programs, "fail2ban")
    for source in (BANNED, pair_lab.host("two").address):
        for port in ("22", "80"):
            packet = ["--in", "eth0", "--src", source, "--dst", programs.address, "--dport", port]
            agree(*both(programs, packet))
