import pytest

from netdiag.firewall.remedy import accept_before
from netdiag.model.facts import Backend, FirewallSaved, FirewallService, Identity, SavedRules
from netdiag.model.firewall import FirewallRule
from netdiag.model.report import Risk
from tests.unit.firewall.build import rule_set, save, syn, vxlan


def rule(**fields):
    return FirewallRule(
        **{
            "backend": Backend.IPTABLES_NFT,
            "family": "ip",
            "table": "filter",
            "chain": "INPUT",
            "number": 5,
            "text": "-A INPUT -j REJECT",
            **fields,
        }
    )


@pytest.mark.parametrize(
    ("at", "packet", "both", "command", "undo"),
    [
        pytest.param(
            rule(),
            vxlan(),
            False,
            "iptables -I INPUT 5 -s 192.0.2.10 -p udp --dport 4789 -m comment --comment netdiag -j ACCEPT",
            "iptables -D INPUT -s 192.0.2.10 -p udp --dport 4789 -m comment --comment netdiag -j ACCEPT",
            id="before the rule, for the peer only",
        ),
        pytest.param(
            rule(number=None, policy="DROP"),
            vxlan(),
            False,
            "iptables -A INPUT -s 192.0.2.10 -p udp --dport 4789 -m comment --comment netdiag -j ACCEPT",
            "iptables -D INPUT -s 192.0.2.10 -p udp --dport 4789 -m comment --comment netdiag -j ACCEPT",
            id="at the end, for a policy",
        ),
        pytest.param(
            rule(chain="OUTPUT"),
            syn(),
            False,
            "iptables -I OUTPUT 5 -d 192.0.2.10 -p tcp --dport 2377 -m comment --comment netdiag -j ACCEPT",
            "iptables -D OUTPUT -d 192.0.2.10 -p tcp --dport 2377 -m comment --comment netdiag -j ACCEPT",
            id="on the way out",
        ),
        pytest.param(
            rule(backend=Backend.IPTABLES_LEGACY, table="raw", chain="PREROUTING"),
            vxlan(source=""),
            False,
            "iptables-legacy -t raw -I PREROUTING 5 -s '<PEER>' -p udp --dport 4789 -m comment --comment netdiag -j ACCEPT",
            "iptables-legacy -t raw -D PREROUTING -s '<PEER>' -p udp --dport 4789 -m comment --comment netdiag -j ACCEPT",
            id="legacy, another table, nobody in particular",
        ),
        pytest.param(
            rule(family="ip6"),
            vxlan(source="2001:db8::1", family=6),
            True,
            "ip6tables-nft -I INPUT 5 -s 2001:db8::1 -p udp --dport 4789 -m comment --comment netdiag -j ACCEPT",
            "ip6tables-nft -D INPUT -s 2001:db8::1 -p udp --dport 4789 -m comment --comment netdiag -j ACCEPT",
            id="IPv6, where both variants hold rules",
        ),
        pytest.param(
            rule(),
            vxlan(protocol="50", destination_port=None),
            False,
            "iptables -I INPUT 5 -s 192.0.2.10 -p 50 -m comment --comment netdiag -j ACCEPT",
            "iptables -D INPUT -s 192.0.2.10 -p 50 -m comment --comment netdiag -j ACCEPT",
            id="a protocol without ports",
        ),
    ],
)
def test_the_least_accept_and_its_exact_undo(at, packet, both, command, undo):
    remedy = accept_before(at, packet, host="host-b", both_backends=both)
    assert (remedy.host, remedy.commands, remedy.undo) == ("host-b", (command,), (undo,))


def test_a_peer_that_is_not_known_has_to_be_filled_in():
    """Without an address the rule would be for everybody: the tools take the placeholder for none, and it is no low risk."""
    known, unknown = (accept_before(rule(), vxlan(source=source), host="b") for source in ("192.0.2.10", ""))
    assert (known.risk, unknown.risk) == (Risk.LOW, Risk.OPENS)
    assert "-s '<PEER>'" in unknown.commands[0]
    assert "--peer" in unknown.summary


@pytest.mark.parametrize("leaves", ["-A INPUT -p udp -j RETURN", "-A INPUT -p udp -g GUARD"])
def test_a_policy_that_may_be_come_to_before_the_chains_end(leaves):
    sets = (rule_set(save("-A INPUT -p tcp -j RETURN", leaves, input_policy="DROP", chains=("GUARD",))),)
    remedy = accept_before(rule(number=None, policy="DROP"), vxlan(), host="b", rule_sets=sets)
    assert remedy.commands[0].startswith("iptables -I INPUT 2 -s 192.0.2.10 ")


DOCKER = ("-A FORWARD -j DOCKER-USER", "-A DOCKER -o docker0 -j DROP")


def test_where_programs_own_rules_only_ours_is_saved():
    """A whole save would write the engine's rules as well, and they would come back beside what it writes itself."""
    raw = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp --dport 22 -j ACCEPT\n-A INPUT -j REJECT\nCOMMIT\n"
    running = save(
        "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT", "-A INPUT -j REJECT", *DOCKER, chains=("FORWARD", "DOCKER")
    )
    debian = Identity(hostname="b", distribution_id="debian")
    there = FirewallSaved(rules=(SavedRules(source="netfilter-persistent", path="/etc/iptables/rules.v4", text=raw),))
    for saved_here, before in ((there, ()), (None, ("debconf-set-selections", "apt-get install iptables-persistent"))):
        kept = accept_before(
            rule(number=2), vxlan(), host="b", rule_sets=(rule_set(running),), identity=debian, saved=saved_here
        ).persist
        assert not any(command.startswith("netfilter-persistent save") for command in kept)
        assert all(kept[index].endswith(end) for index, end in enumerate(before))
        assert kept[-1].startswith("sed -i")
        assert "-A INPUT -s 192.0.2.10 -p udp --dport 4789" in kept[-1]
        assert ("/^-A INPUT -j REJECT$/i" in kept[-1]) is (saved_here is there)


def saved(name, active=True):
    return FirewallSaved(services=(FirewallService(name=name, active=active, evidence=""),))


PERSISTENT = FirewallSaved(rules=(SavedRules(source="netfilter-persistent", path="/etc/iptables/rules.v4", text=""),))
INSTALL = ("apt-get install iptables-persistent", "netfilter-persistent save")
RICH = 'firewall-cmd --permanent --add-rich-rule=\'rule family="ipv4" source address="192.0.2.10" '


@pytest.mark.parametrize(
    ("distribution", "services", "packet", "expected"),
    [
        pytest.param("debian", PERSISTENT, vxlan(), "netfilter-persistent save", id="debian"),
        pytest.param("debian", None, vxlan(), INSTALL, id="debian without the package"),
        pytest.param("centos", None, vxlan(), "service iptables save", id="centos"),
        pytest.param("arch", None, vxlan(), None, id="not known"),
        pytest.param("debian", saved("ufw", active=False), vxlan(), INSTALL, id="ufw that is off"),
        pytest.param(
            "centos", saved("firewalld"), vxlan(), RICH + 'port port="4789" protocol="udp" accept\'', id="firewalld"
        ),
        pytest.param(
            "centos",
            saved("firewalld"),
            vxlan(protocol="50", destination_port=None),
            RICH + 'protocol value="esp" accept\'',
            id="firewalld, esp",
        ),
        pytest.param("centos", saved("firewalld"), syn(), None, id="firewalld on the way out"),
        pytest.param(
            "ubuntu",
            saved("ufw"),
            vxlan(),
            "ufw allow from 192.0.2.10 to any port 4789 proto udp comment netdiag",
            id="ufw",
        ),
        pytest.param(
            "ubuntu",
            saved("ufw"),
            vxlan(source=""),
            "ufw allow from '<PEER>' to any port 4789 proto udp comment netdiag",
            id="ufw, a peer that is not known",
        ),
    ],
)
def test_what_keeps_an_accept(distribution, services, packet, expected):
    identity = Identity(hostname="b", distribution_id=distribution)
    kept = accept_before(rule(), packet, host="b", identity=identity, saved=services).persist
    assert kept == (expected if isinstance(expected, tuple) else (expected,) if expected else ())


def test_nothing_is_known_of_an_unknown_host():
    assert accept_before(rule(), vxlan(), host="b").persist == ()
