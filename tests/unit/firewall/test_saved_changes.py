"""Running rules against saved ones, with texts made by hand: what is lost, returns, changes, is wiped or doubled."""

from __future__ import annotations

import pytest

from netdiag.firewall.saved_changes import compare
from netdiag.model.facts import Backend, FirewallBoot, FirewallSaved, FirewallService, Identity, RuleSet, SavedRules
from netdiag.model.firewall_diff import DiffVerdict, FirewallDiff, SavedLoad, SavedLoads
from tests.unit.firewall.build import save

Service = tuple[FirewallService, FirewallBoot]
NFT, LEGACY, NATIVE, IPSET = Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY, Backend.NFT_NATIVE, Backend.IPSET
DEBIAN = Identity(hostname="one", distribution_id="debian", is_root=True)
V4 = "/etc/iptables/rules.v4"
SSH, DROP = "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT", "-A INPUT -j DROP"
DOCKER = (
    "-A FORWARD -j DOCKER-USER",
    "-A DOCKER-USER -j RETURN",
    "-A DOCKER ! -i docker0 -o docker0 -j DROP",
)
CHAINS = ("FORWARD", "DOCKER", "DOCKER-USER")


def rules(text: str, backend: Backend = NFT, family: int = 4) -> RuleSet:
    return RuleSet(backend=backend, family=family, text=text, sha256="")


def load(mechanism: str, path: str, text: str | None, **more: object) -> SavedLoad:
    fields = {"backend": NFT, "family": 4, "raw": text or "", "text": text, **more}
    return SavedLoad(mechanism=mechanism, file=path, **fields)


def diff(
    running: str,
    *loads: SavedLoad,
    services: tuple[Service, ...] = (),
    files: dict | None = None,
    **more: object,
) -> FirewallDiff:
    saved = tuple(
        SavedRules(source=source, path=path, text=text)
        for path, (source, text) in {
            **{each.file: (each.mechanism, each.raw) for each in loads},
            **(files or {}),
        }.items()
    )
    return compare(
        (rules(running), *more.pop("others", ())),
        FirewallSaved(rules=saved, services=tuple(one for one, _ in services), boot=tuple(two for _, two in services)),
        SavedLoads(plain=NFT, loads=loads, **more.pop("asked", {})),
        identity=more.pop("identity", DEBIAN),
        host="one",
        **more,
    )


def service(name: str, *, active: bool | None = None, enabled: bool | None = True) -> Service:
    return (
        FirewallService(name=name, active=active, evidence=""),
        FirewallBoot(name=name, enabled=enabled, evidence="said so"),
    )


PERSISTENT = service("netfilter-persistent")


def said(found: FirewallDiff) -> list[tuple[str, str, str, str]]:
    return [
        (each.kind.value, each.when.value, each.mechanism, each.rule.text if each.rule is not None else each.setting)
        for each in found.changes
    ]


def test_equal_texts_are_the_same() -> None:
    text = save(SSH, DROP, input_policy="DROP")
    found = diff(text, load("netfilter-persistent", V4, text), services=(PERSISTENT,))
    assert (found.verdict, found.changes, found.unknown) == (DiffVerdict.SAME, (), ())


def test_a_rule_that_is_not_saved() -> None:
    found = diff(save(SSH, DROP), load("netfilter-persistent", V4, save(DROP)), services=(PERSISTENT,))
    assert said(found) == [("lost", "boot", "netfilter-persistent", SSH)]
    assert found.changes[0].commands == ("netfilter-persistent save",)
    assert found.changes[0].rule.number == 1


def test_a_rule_that_returns_gets_its_place() -> None:
    found = diff(save(DROP), load("netfilter-persistent", V4, save(SSH, DROP)), services=(PERSISTENT,))
    assert said(found) == [("returns", "restart", "netfilter-persistent", SSH)]
    assert found.changes[0].commands == ("iptables -w -I INPUT 1 -p tcp -m tcp --dport 22 -j ACCEPT",)


def test_order_counts() -> None:
    found = diff(save(DROP, SSH), load("netfilter-persistent", V4, save(SSH, DROP)), services=(PERSISTENT,))
    assert [each[0] for each in said(found)] == ["changed"]


def test_a_policy() -> None:
    saved = load("netfilter-persistent", V4, save(input_policy="DROP"))
    found = diff(save(), saved, services=(PERSISTENT,))
    assert said(found) == [("changed", "restart", "netfilter-persistent", ":INPUT ACCEPT")]
    assert found.changes[0].commands == ("iptables -w -P INPUT DROP",)


@pytest.mark.parametrize(
    ("distribution", "commands"),
    [
        ("debian", ("apt-get install iptables-persistent", "netfilter-persistent save")),
        ("rocky", ("dnf install iptables-services", "systemctl enable iptables", "service iptables save")),
        ("plan9", ()),
    ],
)
def test_nothing_saves_rules(distribution: str, commands: tuple[str, ...]) -> None:
    found = diff(save(SSH), identity=Identity(hostname="one", distribution_id=distribution))
    assert said(found) == [("lost", "boot", "none", SSH)]
    assert found.changes[0].commands == commands


def test_a_service_that_is_not_installed_loads_nothing() -> None:
    gone = service("netfilter-persistent", enabled=False)
    found = diff(save(SSH), load("netfilter-persistent", V4, save(SSH)), services=(gone,))
    assert said(found) == [("lost", "boot", "netfilter-persistent", SSH)]
    assert found.changes[0].commands == ("systemctl enable netfilter-persistent",)
    assert found.sources[0].enabled is False


def test_ip6tables_is_a_service_of_its_own() -> None:
    saved = load("iptables.service", "/etc/sysconfig/ip6tables", save(SSH), family=6)
    services = (service("iptables"), service("ip6tables", enabled=False))
    found = diff(save(), saved, services=services, others=(rules(save(SSH), family=6),))
    assert said(found) == [("lost", "boot", "iptables.service", SSH)]
    assert found.changes[0].commands == ("systemctl enable ip6tables",)


def test_a_boot_state_that_nobody_tells_is_taken_for_a_yes_and_said() -> None:
    unsure = service("netfilter-persistent", enabled=None)
    found = diff(save(SSH), load("netfilter-persistent", V4, save(SSH)), services=(unsure,))
    assert (found.verdict, found.changes) == (DiffVerdict.UNKNOWN, ())
    assert "starts at boot is not known" in found.unknown[0].reason


def test_the_other_variant_is_nobodys() -> None:
    text = save(SSH)
    found = diff(
        text, load("netfilter-persistent", V4, text), services=(PERSISTENT,), others=(rules(save(DROP), LEGACY),)
    )
    assert said(found) == [("lost", "boot", "netfilter-persistent", DROP)]
    assert "the other variant" in found.changes[0].meaning


def test_a_family_that_has_no_file_yet() -> None:
    six = rules(save(SSH), family=6)
    found = diff(save(SSH), load("netfilter-persistent", V4, save(SSH)), services=(PERSISTENT,), others=(six,))
    assert said(found) == [("lost", "boot", "netfilter-persistent", SSH)]
    assert (found.changes[0].file, found.changes[0].commands) == (
        "/etc/iptables/rules.v6",
        ("netfilter-persistent save",),
    )


def test_what_did_not_load_is_compared_as_text_and_said() -> None:
    raw = "*filter\n:INPUT ACCEPT\n-A INPUT --protocol tcp --dport ssh -j ACCEPT\n-I INPUT -j DROP\nCOMMIT\n"
    saved = load("netfilter-persistent", V4, None, raw=raw, reason="Set gone doesn't exist.")
    assert diff(save(DROP, SSH), saved, services=(PERSISTENT,)).verdict is DiffVerdict.UNKNOWN
    found = diff(save(SSH), saved, services=(PERSISTENT,))
    assert [each[0] for each in said(found)] == ["returns"]
    assert found.unknown[0].reason == "Set gone doesn't exist."


def test_programs_rules_are_nobodys_to_save() -> None:
    text = save(*DOCKER, "-A f2b-sshd -s 192.0.2.1/32 -j REJECT", chains=(*CHAINS, "f2b-sshd"))
    assert diff(text).changes == ()


def test_docker_user_is_the_operators() -> None:
    mine = "-A DOCKER-USER -s 192.0.2.9/32 -j DROP"
    found = diff(save(mine, *DOCKER, chains=CHAINS))
    assert said(found) == [("lost", "boot", "none", mine)]
    # A whole save would take Docker's rules along.
    assert not any("netfilter-persistent save" in command for command in found.changes[0].commands)
    assert any(command.startswith("sed -i") and mine in command for command in found.changes[0].commands)


def test_a_rule_is_written_in_front_of_the_one_that_follows_it() -> None:
    raw = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j DROP\nCOMMIT\n"
    running = save(SSH, DROP, *DOCKER, chains=CHAINS)
    found = diff(running, load("netfilter-persistent", V4, raw), services=(PERSISTENT,))
    (lost,) = [each for each in found.changes if each.kind.value == "lost"]
    expected = r"sed -i -e '/^\*filter/,/^COMMIT/{/^-A INPUT -j DROP$/i " + SSH + "' -e '}' " + V4
    assert lost.commands == (expected,)


def test_saved_rules_of_a_program_are_doubled_and_a_restart_wipes() -> None:
    text = save(SSH, *DOCKER, chains=CHAINS)
    found = diff(text, load("netfilter-persistent", V4, text), services=(PERSISTENT,))
    kinds = [each.kind.value for each in found.changes]
    assert (kinds.count("duplicate"), kinds.count("wipes"), len(kinds)) == (3, 3, 6)


def test_the_engines_forward_policy_is_its_own() -> None:
    text = "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n"
    assert said(diff(text)) == [("changed", "boot", "none", ":FORWARD DROP")]
    assert said(diff(text, asked={"engine": True})) == []


LISTING = """table inet site {
	set blocked {
		type ipv4_addr
		elements = { 192.0.2.1, 192.0.2.2 }
	}
	set seen {
		type ipv4_addr
		flags dynamic,timeout
		elements = { 192.0.2.9 expires 3s }
	}
	chain in { # handle 1
		type filter hook input priority filter; policy drop;
		tcp dport 22 counter packets 7 bytes 420 accept # handle 4
		quota 10 mbytes used 3 mbytes drop # handle 5
	}
}
table ip filter {
	chain INPUT {
		type filter hook input priority filter; policy accept;
		tcp dport 9 drop
	}
}
table ip docker-bridges {
	chain filter-FORWARD {
		type filter hook forward priority filter; policy accept;
		oifname "docker0" drop
	}
}
"""
SAVED = """table inet site {
	set blocked {
		type ipv4_addr
		elements = { 192.0.2.2 }
	}
	set seen {
		type ipv4_addr
		flags dynamic,timeout
	}
	chain in {
		type filter hook input priority filter; policy drop;
		tcp dport 22 counter accept
		quota 10 mbytes drop
		udp dport 53 accept
	}
}
"""
CONF = "/etc/nftables.conf"


def native(text: str | None, raw: str = "flush ruleset\n", **more: object) -> SavedLoad:
    return load("nftables.service", CONF, text, backend=NATIVE, family=0, raw=raw, **more)


def test_nft_tables_counters_and_transient_members_are_no_difference() -> None:
    found = diff(save(), native(SAVED), services=(service("nftables"),), others=(rules(LISTING, NATIVE, 0),))
    assert said(found) == [
        ("returns", "reload", "nftables.service", "udp dport 53 accept"),
        ("lost", "reload", "nftables.service", "inet site set blocked: 192.0.2.1"),
        ("wipes", "reload", "nftables.service", "table ip docker-bridges"),
    ]
    assert found.changes[0].commands == ("nft 'add rule inet site in index 1 udp dport 53 accept'",)


def test_enabling_a_file_that_flushes_is_proposed_with_what_it_throws_away() -> None:
    off, mine = (
        (service("nftables", active=False, enabled=False),),
        "table inet mine {\n\tchain in {\n\t\tdrop\n\t}\n}\n",
    )
    programs = LISTING[LISTING.index("table ip docker-bridges") :]
    for listing, docker, raw, warned in (
        (mine + programs, (), "flush ruleset\n", True),
        (mine, DOCKER, "flush ruleset\n", True),
        (mine + programs, DOCKER, "table inet x {}\n", False),
        (mine, (), "flush ruleset\n", False),
    ):
        found = diff(save(*docker, chains=CHAINS), native("", raw), services=off, others=(rules(listing, NATIVE, 0),))
        (lost,) = [each for each in found.changes if each.kind.value == "lost"]
        assert lost.commands[-1] == "systemctl enable nftables"
        assert ("flush ruleset" in lost.meaning) is warned


def test_ufw_that_is_off_saves_nothing_here() -> None:
    """Its package's files are there on every such host."""
    files = {"/etc/ufw/before.rules": ("ufw", "*filter\nCOMMIT\n")}
    for active, named in ((False, []), (True, ["ufw"])):
        found = diff(save(), services=(service("ufw", active=active, enabled=True),), files=files)
        assert [source.mechanism for source in found.sources] == named


def test_nftables_that_is_not_in_use_wipes_nothing() -> None:
    found = diff(
        save(),
        native(SAVED),
        services=(service("nftables", active=False, enabled=False),),
        others=(rules(LISTING, NATIVE, 0),),
    )
    assert {(each[0], each[1]) for each in said(found)} == {("lost", "boot"), ("changed", "boot")}


def test_an_nft_file_that_does_not_load_leaves_its_tables_open() -> None:
    saved = native(None, raw="flush ruleset\ntable inet site { nonsense }\n", reason="syntax error")
    found = diff(save(), saved, services=(service("nftables"),), others=(rules(LISTING, NATIVE, 0),))
    assert [each[0] for each in said(found)] == ["wipes"]
    assert found.unknown[0].reason == "syntax error"


def test_flush_ruleset_takes_iptables_along() -> None:
    found = diff(save(SSH, *DOCKER, chains=CHAINS), native("", raw="flush ruleset"), services=(service("nftables"),))
    assert {each[:3] for each in said(found)} == {
        ("lost", "reload", "nftables.service"),
        ("wipes", "reload", "nftables.service"),
    }


def test_firewalld_empties_iptables_and_leaves_legacy_alone() -> None:
    active = (service("firewalld", active=True),)
    conf = {"/etc/firewalld/firewalld.conf": ("firewalld", "FlushAllOnReload=no\n")}
    found = diff(save(SSH, *DOCKER, chains=CHAINS), services=active, files=conf, others=(rules(save(DROP), LEGACY),))
    assert said(found)[0] == ("lost", "reload", "firewalld", SSH)
    assert {each[:3] for each in said(found)[1:]} == {("wipes", "reload", "firewalld"), ("lost", "boot", "none")}


@pytest.mark.parametrize(("active", "enabled", "kind"), [(True, False, "lost"), (False, True, "returns")])
def test_firewalld_itself(active: bool, enabled: bool, kind: str) -> None:
    conf = {"/etc/firewalld/firewalld.conf": ("firewalld", "")}
    found = diff(save(), services=(service("firewalld", active=active, enabled=enabled),), files=conf)
    assert said(found) == [(kind, "boot", "firewalld", "firewalld itself")]


def test_ipsets() -> None:
    running = "create a hash:ip family inet\nadd a 192.0.2.1\ncreate t hash:ip timeout 60\nadd t 192.0.2.3 timeout 9\ncreate cali40s hash:net\n"
    saved = load(
        "netfilter-persistent",
        "/etc/iptables/ipsets",
        "create a hash:ip family inet\nadd a 192.0.2.2\ncreate t hash:ip timeout 60\ncreate b hash:net\n",
        backend=IPSET,
        family=0,
    )
    found = diff(save(), saved, services=(PERSISTENT,), others=(rules(running, IPSET, 0),))
    assert {(each[0], each[3]) for each in said(found)} == {
        ("lost", "ipset a: 192.0.2.1"),
        ("returns", "ipset b"),
        ("returns", "ipset a: 192.0.2.2"),
    }


def test_rules_that_could_not_be_read_are_not_called_the_same() -> None:
    found = diff(save(), hidden="run iptables-save: no such tool on this host")
    assert (found.verdict, found.unknown[0].mechanism) == (DiffVerdict.UNKNOWN, "running rules")


def test_thousands_of_rules_are_compared_in_time() -> None:
    many = [f"-A INPUT -s 10.{each // 250}.{each % 250}.1/32 -j DROP" for each in range(4000)]
    saved = load("netfilter-persistent", V4, save(*many, *DOCKER, chains=CHAINS))
    assert (
        len([each for each in diff(save(SSH), saved, services=(PERSISTENT,)).changes if each.rule.text in many]) == 4000
    )
    found = diff(
        save(*many, *DOCKER, chains=CHAINS), load("netfilter-persistent", V4, save(SSH)), services=(PERSISTENT,)
    )
    assert sum(each.kind.value == "lost" for each in found.changes) == 4000
