from hypothesis import given
from hypothesis import strategies as st

from netdiag.firewall.owner import attribute, owner_of
from netdiag.model.facts import Backend
from netdiag.model.firewall import FirewallRule, Owner
from tests.unit.firewall.hosts import HOST

# Words that the readers look for, in any order and unfinished, and anything else.
WORDS = (
    *("-A", "!", "-i", "-o", "-s", "-d", "-p", "--dport", "-j", "-g", "-m", "--comment", "--u32", "--bytecode", '"'),
    *("--to-destination", "--match-set", "DNAT", "DROP", "MARK", "DOCKER", "DOCKER-USER", "cali-pi-_abc", "IN_public"),
    *(
        "ip",
        "saddr",
        "daddr",
        "!=",
        "{",
        "}",
        "80,",
        "tcp",
        "dport",
        "counter",
        "packets",
        "dnat",
        "to",
        "jump",
        "goto",
    ),
    *("comment", "reject", "iifname", "@set", "docker0", "br-ca280fabf39f", "172.19.0.2/32", "172.19.0.0/99", ":", "/"),
    *("0x0>>0x16&0x3c@0xc&0xffffff00=0xffffffffffffffffff", "7,21 1 0 99999999,6 0 0 0,6 0 0 4294967295"),
)
CHAINS = (
    *(
        "INPUT",
        "FORWARD",
        "PREROUTING",
        "OUTPUT",
        "POSTROUTING",
        "DOCKER",
        "DOCKER-INGRESS",
        "DOCKER-ISOLATION-STAGE-2",
    ),
    *(
        "DOCKER-USER",
        "cali-pi-_",
        "cali-tw-",
        "IN_public",
        "filter_IN_policy_",
        "INPUT_ZONES",
        "ufw-",
        "ufw-user-input",
    ),
    *("f2b-x", "KUBE-X", "filter-forward-in__", "NETAVARK-X", "LOG_DROP", "service-ABCDEFGH-a/b/tcp/"),
)
texts = st.lists(st.sampled_from(WORDS) | st.text(max_size=12), max_size=14).map(" ".join)
rules = st.builds(
    FirewallRule,
    backend=st.sampled_from(Backend),
    family=st.sampled_from(("ip", "ip6", "inet", "bridge", "arp", "netdev")),
    table=st.sampled_from(("filter", "nat", "firewalld", "docker-bridges", "docker-overlay", "calico", "kube-proxy"))
    | st.text(max_size=8),
    chain=st.sampled_from(CHAINS) | st.text(max_size=20),
    text=texts | texts.map(lambda text: f"-A X {text}"),
    namespace=st.sampled_from(("host", "ingress", "lb:secret", "container:web", "overlay:secret")),
    policy=st.none() | st.sampled_from(("DROP", "drop", "accept", "")),
)


@given(rules, st.lists(rules, max_size=4).map(tuple), st.sampled_from((None, HOST)), st.sets(st.sampled_from(CHAINS)))
def test_any_rule_has_an_owner(rule, called_from, facts, chains):
    found = attribute(rule, called_from, facts, chains=chains)
    assert isinstance(found.owner, Owner)
    assert (found.text, found.chain, found.number) == (rule.text, rule.chain, rule.number)


@given(st.text(max_size=20), texts, st.sampled_from(("", "firewalld", "mine")))
def test_any_text_has_an_owner(chain, text, table):
    assert isinstance(owner_of(chain, text, table), Owner)


@given(texts.filter(lambda text: '"' not in text))
def test_no_word_in_a_comment_changes_an_operators_rule(words):
    assert owner_of("INPUT", f'-A INPUT -p tcp -m comment --comment "{words}" -j DROP') in (
        Owner.OPERATOR,
        Owner.CALICO,
    )
