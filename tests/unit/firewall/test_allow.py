"""From a traced packet to the least rule, for every owner; and no rule, because."""

import subprocess

import msgspec
import pytest

from netdiag.firewall.allow import plan, unproven
from netdiag.firewall.allow_nft import match_words
from netdiag.firewall.around import Around, is_programs_chain
from netdiag.firewall.flow import Flow
from netdiag.firewall.owner import attribute
from netdiag.model.facts import (
    Backend,
    FirewallSaved,
    FirewallService,
    Identity,
    RuleSet,
    SavedRules,
)
from netdiag.model.firewall import FirewallRule, Owner
from netdiag.model.level import Level
from netdiag.model.report import Confidence
from netdiag.model.trace import Endpoints, Rewrite, Trace, TracedPacket, TracePath, TraceStep, TraceVerdict
from netdiag.participant.change_words import is_allowed

PEER, OWN, INSIDE = "192.0.2.21", "192.0.2.10", "172.17.0.2"
NFT, LEGACY, NATIVE = Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY, Backend.NFT_NATIVE
HOOKS = {"INPUT": "input", "OUTPUT": "output", "FORWARD": "forward", "PREROUTING": "prerouting"}


def save(text, backend=NFT, family=4):
    """A rule set from lines; chains that are only named are made."""
    lines = text.strip().splitlines()
    given = [line for line in lines if not line.startswith("-A")]
    names = dict.fromkeys(line.split()[1] for line in lines if line.startswith("-A"))
    made = [f":{name} {'ACCEPT' if name in HOOKS else '-'}" for name in names]
    made = [line for line in made if not any(each.startswith(line.split()[0] + " ") for each in given)]
    rules = [line for line in lines if line.startswith("-A")]
    text = "\n".join(["*filter", *given, *made, *rules, "COMMIT", ""])
    return RuleSet(backend=backend, family=family, text=text, sha256="")


def rule(text, number=1, table="filter", backend=NFT, family="ip", **fields):
    """One rule of iptables' with its owner, or a policy where the text begins with a colon."""
    chain, policy = (text[1:].split()[0], text.split()[1]) if text.startswith(":") else (text.split()[1], None)
    made = FirewallRule(
        backend=backend,
        family=family,
        table=table,
        chain=chain,
        text=text,
        number=None if policy else number,
        policy=policy,
    )
    return msgspec.structs.replace(attribute(made), **fields)


def native(text, table="guard", chain="late", family="inet", number=2, handle=7, policy=None, **fields):
    made = FirewallRule(
        backend=NATIVE,
        family=family,
        table=table,
        chain=chain,
        text=text,
        number=None if policy else number,
        handle=None if policy else handle,
        policy=policy,
    )
    return msgspec.structs.replace(attribute(made), **fields)


def packet(path=TracePath.IN, **fields):
    return TracedPacket(
        **{
            "path": path,
            "source": OWN if path is TracePath.OUT else PEER,
            "destination": PEER if path is TracePath.OUT else OWN,
            "protocol": "tcp",
            "source_port": 40000,
            "destination_port": 2377,
            **fields,
        }
    )


def trace(*rules, hook="", verdict=TraceVerdict.DROP, nat=(), reason="", **fields):
    """The rules in the packet's order: the last one decides, those before it called a chain."""
    base = next((each.chain for each in rules if each.chain in HOOKS), "")
    at = hook or HOOKS.get(base, "input")
    steps = [TraceStep(hook=at, rule=each, verdict="drop" if each is rules[-1] else "jump") for each in rules]
    decided = rules[-1] if rules else None
    return Trace(
        verdict=verdict,
        rule=decided if decided is not None and decided.policy is None else None,
        policy=decided if decided is not None and decided.policy is not None else None,
        confidence=Confidence.PROVEN,
        path=tuple(steps),
        nat=nat,
        level=Level.OWNED_TRACE,
        elapsed_ms=0.5,
        reason=reason,
        packet=packet(**fields),
    )


def around(*rule_sets, **fields):
    return Around(**{"host": "b", "rule_sets": rule_sets, "rule_id": "ab12", **fields})


def services(*names, rules=()):
    return FirewallSaved(
        rules=rules, services=tuple(FirewallService(name=name, active=True, evidence="") for name in names)
    )


def texts(proposal):
    assert proposal.fix is not None, proposal.reason
    return [[each.text for each in commands] for commands in (proposal.fix.commands, proposal.fix.undo)]


FLOW = f"-s {PEER} -p tcp --dport 2377 -m comment --comment netdiag -j ACCEPT"
INSIDE_FLOW = f"-s {PEER} -d {INSIDE} -p tcp --dport 80 -m comment --comment netdiag -j ACCEPT"
FORWARDED = {"path": TracePath.FORWARD, "destination": INSIDE, "destination_port": 80}
V6 = {"source": "2001:db8::21", "destination": "2001:db8::10"}
FLOW6 = "-s 2001:db8::21 -p tcp --dport 2377 -m comment --comment netdiag -j ACCEPT"


@pytest.mark.parametrize(
    ("traced", "sets", "plain", "command", "undo"),
    [
        pytest.param(
            trace(rule("-A INPUT -j DROP", 4)),
            (),
            None,
            f"iptables -I INPUT 4 {FLOW}",
            f"iptables -D INPUT {FLOW}",
            id="input",
        ),
        pytest.param(
            trace(rule(":INPUT DROP")), (), NFT, f"iptables -A INPUT {FLOW}", f"iptables -D INPUT {FLOW}", id="policy"
        ),
        pytest.param(
            trace(rule("-A INPUT -p tcp -j CLOSED", 2), rule("-A CLOSED -j REJECT", 3)),
            (),
            None,
            f"iptables -I CLOSED 3 {FLOW}",
            f"iptables -D CLOSED {FLOW}",
            id="the operator's called chain",
        ),
        pytest.param(
            trace(rule("-A PREROUTING -j DROP", 1, "raw")),
            (),
            None,
            f"iptables -t raw -I PREROUTING 1 {FLOW}",
            f"iptables -t raw -D PREROUTING {FLOW}",
            id="raw",
        ),
        pytest.param(
            trace(rule("-A OUTPUT -j DROP", 2), path=TracePath.OUT),
            (),
            None,
            f"iptables -I OUTPUT 2 -d {PEER} -p tcp --dport 2377 -m comment --comment netdiag -j ACCEPT",
            f"iptables -D OUTPUT -d {PEER} -p tcp --dport 2377 -m comment --comment netdiag -j ACCEPT",
            id="output",
        ),
        pytest.param(
            trace(rule("-A FORWARD -j DROP", 2), **FORWARDED),
            (),
            None,
            f"iptables -I FORWARD 2 {INSIDE_FLOW}",
            f"iptables -D FORWARD {INSIDE_FLOW}",
            id="forwarded, both ends",
        ),
        pytest.param(
            trace(rule("-A INPUT -j DROP"), protocol="icmp", destination_port=None, source_port=None),
            (),
            None,
            f"iptables -I INPUT 1 -s {PEER} -p icmp --icmp-type 8 -m comment --comment netdiag -j ACCEPT",
            f"iptables -D INPUT -s {PEER} -p icmp --icmp-type 8 -m comment --comment netdiag -j ACCEPT",
            id="an echo request",
        ),
        pytest.param(
            trace(
                rule("-A INPUT -j DROP", family="ip6"), protocol="icmpv6", icmp_type=136, destination_port=None, **V6
            ),
            (),
            None,
            "ip6tables -I INPUT 1 -s 2001:db8::21 -p icmpv6 --icmpv6-type 136 -m comment --comment netdiag -j ACCEPT",
            "ip6tables -D INPUT -s 2001:db8::21 -p icmpv6 --icmpv6-type 136 -m comment --comment netdiag -j ACCEPT",
            id="icmpv6",
        ),
        pytest.param(
            trace(rule("-A INPUT -j DROP"), protocol="ipip", destination_port=None, source_port=None),
            (),
            None,
            f"iptables -I INPUT 1 -s {PEER} -p 4 -m comment --comment netdiag -j ACCEPT",
            f"iptables -D INPUT -s {PEER} -p 4 -m comment --comment netdiag -j ACCEPT",
            id="a protocol without ports",
        ),
        pytest.param(
            trace(rule("-A INPUT -j DROP", backend=LEGACY)),
            (),
            NFT,
            f"iptables-legacy -I INPUT 1 {FLOW}",
            f"iptables-legacy -D INPUT {FLOW}",
            id="legacy, where the plain name is nft",
        ),
        pytest.param(
            trace(rule("-A INPUT -j DROP", backend=LEGACY)),
            (),
            LEGACY,
            f"iptables -I INPUT 1 {FLOW}",
            f"iptables -D INPUT {FLOW}",
            id="legacy, and that is the plain name",
        ),
        pytest.param(
            trace(rule("-A INPUT -j DROP", family="ip6"), **V6),
            (save("-A INPUT -j DROP", family=6), save("-A INPUT -j DROP", LEGACY)),
            NFT,
            f"ip6tables-nft -I INPUT 1 {FLOW6}",
            f"ip6tables-nft -D INPUT {FLOW6}",
            id="both variants hold rules",
        ),
    ],
)
def test_iptables(traced, sets, plain, command, undo):
    assert texts(plan(traced, around(*sets, plain=plain))) == [[command], [undo]]


def test_the_rewritten_address_is_matched():
    """A published port: behind DNAT the rule that decides sees the container."""
    before = Endpoints(source=PEER, destination=OWN, source_port=40000, destination_port=8080)
    after = Endpoints(source=PEER, destination=INSIDE, source_port=40000, destination_port=80)
    traced = trace(rule("-A FORWARD -j DROP", 2), destination_port=8080, nat=(Rewrite(before=before, after=after),))
    assert texts(plan(traced, around()))[0] == [f"iptables -I FORWARD 2 {INSIDE_FLOW}"]


def test_of_several_rewritings_the_last_one_counts():
    """Published on one address, and from there sent on to a container."""
    first = Endpoints(source=PEER, destination=OWN, source_port=40000, destination_port=8080)
    between = Endpoints(source=PEER, destination="198.51.100.1", source_port=40000, destination_port=8081)
    last = Endpoints(source=PEER, destination=INSIDE, source_port=40000, destination_port=80)
    nat = (Rewrite(before=first, after=between), Rewrite(before=between, after=last))
    traced = trace(rule("-A FORWARD -j DROP", 2), destination_port=8080, nat=nat)
    assert texts(plan(traced, around()))[0] == [f"iptables -I FORWARD 2 {INSIDE_FLOW}"]


@pytest.mark.parametrize("confidence", [Confidence.LIKELY, Confidence.POSSIBLE])
def test_a_doubt_about_what_decides_is_said_first(confidence):
    traced = trace(rule("-A INPUT -j DROP", 4), reason="other traffic moves its counter too")
    assert unproven(traced) == ""
    traced = msgspec.structs.replace(traced, confidence=confidence)
    said = f"what decides is {confidence.value}, not proven (other traffic moves its counter too)"
    assert unproven(traced) == said
    assert plan(traced, around()).fix.notes[0] == f"{said}: the rule may be of no use"


def test_a_name_that_nft_would_read_as_more_is_not_put_into_a_command():
    for name in ("c;flush ruleset", "c\nflush", "-f", "c d"):
        for at in (native("drop", chain=name), native("drop", table=name)):
            assert "cannot name" in plan(trace(at, hook="input"), around()).reason


def test_nfts_rules_are_not_written_into_iptables_chains():
    at = native("tcp dport 2377 drop", table="filter", chain="INPUT", family="ip")
    found = plan(trace(at, hook="input"), around(save("-A INPUT -j DROP")))
    assert found.fix is None
    assert "iptables" in found.reason


DOCKER = """
:FORWARD DROP
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -j DOCKER
-A DOCKER-USER -s 198.51.100.7/32 -j DROP
-A DOCKER-USER -j RETURN
-A DOCKER-ISOLATION-STAGE-1 -i br-1 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
"""
ISOLATED = (
    rule("-A FORWARD -j DOCKER-ISOLATION-STAGE-1", 2),
    rule("-A DOCKER-ISOLATION-STAGE-1 -i br-1 -j DOCKER-ISOLATION-STAGE-2"),
    rule("-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP"),
)


@pytest.mark.parametrize(
    ("traced", "text", "command"),
    [
        pytest.param(trace(*ISOLATED, **FORWARDED), DOCKER, f"iptables -I DOCKER-USER 2 {INSIDE_FLOW}", id="isolation"),
        pytest.param(
            trace(rule(":FORWARD DROP"), **FORWARDED), DOCKER, f"iptables -I DOCKER-USER 2 {INSIDE_FLOW}", id="policy"
        ),
        pytest.param(
            trace(rule(":FORWARD DROP"), **FORWARDED),
            DOCKER.replace("-A DOCKER-USER -j RETURN\n", ""),
            f"iptables -A DOCKER-USER {INSIDE_FLOW}",
            id="no RETURN at its end",
        ),
        pytest.param(
            trace(*ISOLATED, **FORWARDED),
            DOCKER.replace("-A FORWARD -j DOCKER-USER\n", ""),
            f"iptables -I FORWARD 2 {INSIDE_FLOW}",
            id="FORWARD does not go through it",
        ),
        pytest.param(
            trace(*ISOLATED, **FORWARDED),
            DOCKER.replace("-A FORWARD -j DOCKER-USER\n", "") + "-A FORWARD -j DOCKER-USER\n",
            f"iptables -I FORWARD 2 {INSIDE_FLOW}",
            id="it comes behind what decides",
        ),
        pytest.param(
            trace(rule("-A FORWARD -s 192.0.2.0/24 -j DROP", 2), **FORWARDED),
            DOCKER,
            f"iptables -I FORWARD 2 {INSIDE_FLOW}",
            id="the operator's own rule in FORWARD",
        ),
        pytest.param(
            trace(rule("-A FORWARD -j DOCKER-USER"), rule("-A DOCKER-USER -s 192.0.2.0/24 -j DROP", 1), **FORWARDED),
            DOCKER,
            f"iptables -I DOCKER-USER 1 {INSIDE_FLOW}",
            id="the operator's own rule in DOCKER-USER",
        ),
        pytest.param(
            trace(rule(":INPUT DROP")),
            DOCKER,
            f"iptables -A INPUT {FLOW}",
            id="a policy that is no matter of the engine",
        ),
        pytest.param(
            trace(rule("-A INPUT -j KUBE-FIREWALL", 3), rule("-A KUBE-FIREWALL -j DROP", 1)),
            "-A INPUT -j KUBE-FIREWALL",
            f"iptables -I INPUT 3 {FLOW}",
            id="a program's chain, called from a built-in one",
        ),
        pytest.param(
            trace(
                rule("-A INPUT -j SITE", 3),
                rule("-A SITE -p tcp -j KUBE-FIREWALL", 2),
                rule("-A KUBE-FIREWALL -j DROP", 1),
            ),
            "-A INPUT -j SITE",
            f"iptables -I SITE 2 {FLOW}",
            id="a program's chain, called from the operator's",
        ),
    ],
)
def test_programs_chains_stay_as_they_are(traced, text, command):
    found = plan(traced, around(save(text)))
    assert texts(found)[0] == [command]
    assert not is_programs_chain(command.split()[2])


NAT = "*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n"
BOTH_WAYS = f"-p tcp -m conntrack --ctorigsrc {PEER} --ctorigdst {{}} --ctorigdstport {{}} -m comment --comment netdiag -j ACCEPT"


def steps(*taken, **fields):
    """A trace from rules with what each said; the last one decides."""
    traced = trace(*(each for each, _ in taken), **fields)
    said = [msgspec.structs.replace(step, verdict=word) for step, (_, word) in zip(traced.path, taken, strict=True)]
    return msgspec.structs.replace(traced, path=tuple(said))


GOTO, EMPTY_HANDED = rule("-A INPUT -p tcp -g guard", 3), rule("-A guard -p udp -j DROP", 1)
UFW = ":INPUT DROP\n-A INPUT -p tcp -j RETURN\n-A INPUT -j ufw-before-input\n"


@pytest.mark.parametrize(
    ("traced", "sets", "command"),
    [
        pytest.param(
            steps((GOTO, "goto"), (rule(":INPUT DROP"), "drop")), (), f"iptables -I INPUT 3 {FLOW}", id="goto"
        ),
        pytest.param(
            steps((GOTO, "goto"), (rule("-A guard -j LOG", 2), "continue"), (rule(":INPUT DROP"), "drop")),
            (),
            f"iptables -I INPUT 3 {FLOW}",
            id="goto, and a rule there had a say",
        ),
        pytest.param(
            steps((rule("-A INPUT -p tcp -j RETURN", 2), "return"), (rule(":INPUT DROP"), "drop")),
            (),
            f"iptables -I INPUT 2 {FLOW}",
            id="return",
        ),
        pytest.param(
            steps((rule("-A INPUT -j CALLED", 2), "jump"), (rule(":INPUT DROP"), "drop")),
            (),
            f"iptables -A INPUT {FLOW}",
            id="a jump comes back",
        ),
        pytest.param(
            steps((rule("-A INPUT -p tcp -j RETURN", 1), "return"), (rule(":INPUT DROP"), "drop")),
            (save(UFW),),
            f"iptables -I INPUT 1 {FLOW}",
            id="it never came to ufw's chains",
        ),
        pytest.param(
            steps((rule("-A FORWARD -p tcp -j RETURN", 1), "return"), (rule(":FORWARD DROP"), "drop"), **FORWARDED),
            (
                save(
                    DOCKER.replace(
                        "-A FORWARD -j DOCKER-USER", "-A FORWARD -p tcp -j RETURN\n-A FORWARD -j DOCKER-USER"
                    )
                ),
            ),
            f"iptables -I FORWARD 1 {INSIDE_FLOW}",
            id="it never came to the engine's chains",
        ),
        pytest.param(
            trace(rule(":FORWARD DROP"), **FORWARDED),
            (
                save(
                    DOCKER.replace(
                        "-A DOCKER-USER -s 198.51.100.7/32 -j DROP",
                        "-A DOCKER-USER -p tcp -g MINE\n-A MINE -p udp -j DROP",
                    )
                ),
            ),
            f"iptables -I DOCKER-USER 1 {INSIDE_FLOW}",
            id="a goto in the engine's chain for operators",
        ),
        pytest.param(
            steps((native("tcp dport 2377 return"), "return"), (native("", policy="drop"), "drop"), hook="input"),
            (),
            f"nft insert rule inet guard late handle 7 ip saddr {PEER} tcp dport 2377 accept comment '\"netdiag-ab12\"'",
            id="nft",
        ),
    ],
)
def test_a_policy_that_was_come_to_before_the_chains_end(traced, sets, command):
    """What is added at the end of the chain is never come to."""
    found = plan(traced, around(*sets))
    assert texts(found)[0] == [command]


NOTRACK = rule("-A PREROUTING -p tcp -j CT --notrack", 1, "raw")


@pytest.mark.parametrize(
    "untracks",
    [
        NOTRACK,
        rule("-A PREROUTING -j NOTRACK", 1, "raw", LEGACY),
        native('iifname "eth0" notrack', chain="first"),
    ],
)
def test_a_forwarded_flow_that_is_not_tracked_is_let_through_both_ways(untracks):
    traced = steps(
        (untracks, "continue"), (rule("-A FORWARD -p tcp --dport 80 -j DROP", 2), "drop"), hook="forward", **FORWARDED
    )
    found = plan(traced, around(save("-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT")))
    back = f"-s {INSIDE} -d {PEER} -p tcp --sport 80 -m comment --comment netdiag -j ACCEPT"
    assert texts(found) == [
        [f"iptables -I FORWARD 2 {INSIDE_FLOW}", f"iptables -I FORWARD 2 {back}"],
        [f"iptables -D FORWARD {INSIDE_FLOW}", f"iptables -D FORWARD {back}"],
    ]
    assert "two rules, one for each direction" in found.fix.notes[0]
    signed = plan(traced, around(mark="netdiag-ab12")).fix
    assert all(is_allowed(list(each.argv)) for each in (*signed.commands, *signed.undo))


def test_nfts_rules_for_both_ways_have_comments_of_their_own():
    traced = steps((NOTRACK, "continue"), (native("drop"), "drop"), hook="forward", **FORWARDED)
    found = plan(traced, around())
    where = "nft insert rule inet guard late handle 7"
    assert texts(found)[0] == [
        f"{where} ip saddr {PEER} ip daddr {INSIDE} tcp dport 80 accept comment '\"netdiag-ab12\"'",
        f"{where} ip saddr {INSIDE} ip daddr {PEER} tcp sport 80 accept comment '\"netdiag-ab12-answers\"'",
    ]
    assert [each.comment for each in found.fix.undo] == ["netdiag-ab12", "netdiag-ab12-answers"]
    for each in (*found.fix.commands, *found.fix.undo):
        assert is_allowed(list(each.argv), each.comment)


def with_nat(text):
    """The same rules on a host whose kernel tracks connections."""
    made = save(text)
    return msgspec.structs.replace(made, text=NAT + made.text)


def test_the_answers_of_a_forwarded_flow_pass_as_well():
    found = plan(trace(*ISOLATED, **FORWARDED), around(with_nat(DOCKER)))
    assert texts(found)[0] == [f"iptables -I DOCKER-USER 2 {BOTH_WAYS.format(INSIDE, 80)}"]
    before = Endpoints(source=PEER, destination="192.0.2.10", source_port=5, destination_port=8080)
    after = Endpoints(source=PEER, destination=INSIDE, source_port=5, destination_port=80)
    published = trace(
        rule("-A FORWARD -j DROP", 2),
        destination="192.0.2.10",
        destination_port=8080,
        nat=(Rewrite(before=before, after=after),),
    )
    found = plan(published, around(with_nat("*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -j DROP\nCOMMIT\n")))
    assert texts(found)[0] == [f"iptables -I FORWARD 2 {BOTH_WAYS.format('192.0.2.10', 8080)}"]
    assert "address changes" not in " ".join(found.fix.notes)


@pytest.mark.parametrize(
    ("text", "more"),
    [("-A FORWARD -m conntrack --ctstate INVALID -j DROP", {}), ("-A FORWARD -j DROP", {"half": True})],
    ids=["invalid", "half of a way"],
)
def test_what_belongs_to_no_connection_is_let_through_by_its_addresses(text, more):
    """Nothing that asks for who opened the connection would match it."""
    found = plan(trace(rule(text, 2), **FORWARDED), around(with_nat(DOCKER), **more))
    assert texts(found)[0] == [f"iptables -I FORWARD 2 {INSIDE_FLOW}"]
    tracked = plan(trace(rule("-A FORWARD -j DROP", 2), **FORWARDED), around(with_nat(DOCKER)))
    assert "--ctorigsrc" in texts(tracked)[0][0]


def test_in_raw_nothing_is_tracked_yet():
    traced = trace(rule("-A PREROUTING -j DROP", 2, table="raw"), **FORWARDED)
    found = plan(traced, around(with_nat(DOCKER)))
    assert texts(found)[0] == [f"iptables -t raw -I PREROUTING 2 {INSIDE_FLOW}"]


def test_what_else_is_said_of_the_engines_rules():
    notes = " ".join(plan(trace(*ISOLATED, **FORWARDED), around(save(DOCKER))).fix.notes)
    assert "keeps these two networks apart on purpose" in notes
    assert "the engine's own chains are not touched" in notes


@pytest.mark.parametrize(
    ("family", "flow", "words"),
    [
        ("inet", {"source": PEER, "protocol": "tcp", "destination_port": 80}, f"ip saddr {PEER} tcp dport 80"),
        (
            "ip6",
            {"family": 6, "source": "fd00::1", "protocol": "icmpv6", "icmp_type": 128},
            "ip6 saddr fd00::1 icmpv6 type 128",
        ),
        ("netdev", {"source": PEER, "protocol": "esp"}, f"ip saddr {PEER} meta l4proto esp"),
        (
            "bridge",
            {"source": PEER, "destination": OWN, "protocol": "icmp", "icmp_type": 8},
            f"ip saddr {PEER} ip daddr {OWN} icmp type 8",
        ),
        ("bridge", {"source": PEER, "protocol": "arp"}, f"arp saddr ip {PEER}"),
        ("arp", {"source": PEER, "destination": OWN, "protocol": "arp"}, f"arp saddr ip {PEER} arp daddr ip {OWN}"),
        ("arp", {"source": PEER, "protocol": "tcp", "destination_port": 80}, ""),
        ("inet", {"source": PEER, "protocol": "arp"}, ""),
        ("ip", {"destination": PEER, "protocol": "udp", "source_port": 53}, f"ip daddr {PEER} udp sport 53"),
    ],
)
def test_the_match_in_nfts_words(family, flow, words):
    assert " ".join(match_words(Flow(**{"family": 4, **flow}), family)) == words


NFT_FLOW = f"ip saddr {PEER} tcp dport 2377 accept comment '\"netdiag-ab12\"'"
LISTING = RuleSet(
    backend=NATIVE,
    family=0,
    sha256="",
    text="table inet guard {\n\tchain late {\n\t\ttype filter hook input priority 50; policy drop;\n\t}\n}\n",
)


def lookup(chain, prefix=""):
    return (
        f"{prefix}nft delete rule {chain} handle $({prefix}nft -a list chain {chain} |"
        " sed -n 's/.* comment \"netdiag-ab12\" # handle //p')"
    )


def test_nft():
    found = plan(trace(native("tcp dport 2377 drop"), hook="input"), around())
    assert texts(found) == [[f"nft insert rule inet guard late handle 7 {NFT_FLOW}"], [lookup("inet guard late")]]
    assert found.fix.commands[0].argv[-3:] == ("accept", "comment", '"netdiag-ab12"')
    assert (found.fix.undo[0].argv[-2:], found.fix.undo[0].comment) == (("handle", "HANDLE"), "netdiag-ab12")
    found = plan(trace(native("policy drop", policy="drop"), hook="input"), around(LISTING))
    assert texts(found)[0] == [f"nft add rule inet guard late {NFT_FLOW}"]


def test_nft_in_another_namespace():
    place = {"namespace": "container:web", "netns": "/proc/71/ns/net"}
    found = plan(trace(native("drop"), hook="input"), around(**place))
    prefix = "nsenter --net=/proc/71/ns/net -- "
    assert texts(found) == [
        [f"{prefix}nft insert rule inet guard late handle 7 {NFT_FLOW}"],
        [lookup("inet guard late", prefix)],
    ]
    assert found.fix.persist == ("# it lasts until container web is restarted; its image or its start has to set it",)
    found = plan(trace(rule("-A INPUT -j DROP")), around(namespace="overlay:app", netns="/run/docker/netns/1-a"))
    assert texts(found)[0] == [f"nsenter --net=/run/docker/netns/1-a -- iptables -I INPUT 1 {FLOW}"]
    assert "network app" in found.fix.persist[0]


NFT_STUB = """#!/bin/sh
if [ "$1" = -a ]; then
    echo '		ip saddr 192.0.2.21 accept comment "netdiag-192.0.2.21-tcp-1" # handle 5'
    echo '		ip saddr 192.0.2.2 accept comment "netdiag-192.0.2.2-tcp-1" # handle 6'
    echo '		ip saddr 192.0.2.2 accept comment "netdiag-192.012.2-tcp-1" # handle 7'
else
    echo "$*"
fi
"""


def test_the_pasted_undo_of_nft_finds_its_own_rule_and_no_other(tmp_path):
    (tmp_path / "nft").write_text(NFT_STUB)
    (tmp_path / "nft").chmod(0o755)
    found = plan(trace(native("drop"), hook="input"), around(rule_id="192.0.2.2-tcp-1"))
    path = f"{tmp_path}:/usr/bin:/bin"
    run = ["sh", "-ec", found.fix.undo[0].text]
    said = subprocess.run(run, env={"PATH": path}, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert said == "delete rule inet guard late handle 6\n"


ZONE = (
    native("jump filter_INPUT_ZONES", "firewalld", "filter_INPUT"),
    native("goto filter_IN_public", "firewalld", "filter_INPUT_ZONES"),
)
RICH = f'source address="{PEER}" port port="2377" protocol="tcp" accept'


def zone_rule(part="", text="reject with icmpx admin-prohibited", way="IN", name="public"):
    chain = f"filter_{way}_{name}{part}"
    called = (native(f"jump {chain}", "firewalld", f"filter_{way}_{name}"),) if part else ()
    return (*called, native(text, "firewalld", chain))


@pytest.mark.parametrize(
    ("traced", "where", "rich"),
    [
        pytest.param(
            trace(*ZONE, *zone_rule(), hook="input"), "--zone=public", f'rule family="ipv4" {RICH}', id="end of a zone"
        ),
        pytest.param(
            trace(*ZONE, *zone_rule("_deny", "ip saddr 192.0.2.0/24 drop"), hook="input"),
            "--zone=public",
            f'rule priority="-32768" family="ipv4" {RICH}',
            id="denied: an accept must come before",
        ),
        pytest.param(
            trace(*ZONE, *zone_rule("_pre", "ip saddr 192.0.2.0/24 drop"), hook="input"),
            "--zone=public",
            f'rule priority="-32768" family="ipv4" {RICH}',
            id="dropped by a rule of a priority: an accept must come before",
        ),
        pytest.param(
            trace(*ZONE, *zone_rule("_log", "ip saddr 192.0.2.0/24 drop"), hook="input"),
            "--zone=public",
            f'rule priority="-32768" family="ipv4" {RICH}',
            id="dropped where it logs: an accept must come before",
        ),
        pytest.param(
            trace(*ZONE, *zone_rule("_post", "ip saddr 192.0.2.0/24 drop"), hook="input"),
            "--zone=public",
            f'rule family="ipv4" {RICH}',
            id="dropped behind what it allows",
        ),
        pytest.param(
            trace(*ZONE, native("reject with icmpx admin-prohibited", "firewalld", "filter_INPUT"), hook="input"),
            "--zone=public",
            f'rule family="ipv4" {RICH}',
            id="firewalld's last word",
        ),
        pytest.param(
            trace(*ZONE, *zone_rule("_deny", "drop", name="policy_site"), hook="input"),
            "--policy=site",
            f'rule priority="-32768" family="ipv4" {RICH}',
            id="a policy",
        ),
        pytest.param(
            trace(*zone_rule("_deny", "drop", "OUT", "policy_out"), hook="output", path=TracePath.OUT),
            "--policy=out",
            f'rule priority="-32768" family="ipv4" destination address="{PEER}" port port="2377" protocol="tcp" accept',
            id="outgoing",
        ),
        pytest.param(
            trace(
                native("jump filter_FWD_policy_web", "firewalld", "filter_FORWARD_POLICIES_pre"),
                native("jump filter_FWD_policy_web_allow", "firewalld", "filter_FWD_policy_web"),
                *zone_rule(way="FWD"),
                hook="forward",
                **FORWARDED,
            ),
            "--policy=web",
            f'rule family="ipv4" source address="{PEER}" destination address="{INSIDE}" port port="80" protocol="tcp" accept',
            id="forwarded, past a policy that is there",
        ),
        pytest.param(
            trace(
                rule("-A INPUT -j INPUT_ZONES", 3),
                rule("-A INPUT_ZONES -i eth0 -g IN_public", 1),
                rule("-A IN_public -j IN_public_deny", 2),
                rule("-A INPUT -j REJECT --reject-with icmp-host-prohibited", 5),
            ),
            "--zone=public",
            f'rule family="ipv4" {RICH}',
            id="its iptables backend",
        ),
        pytest.param(
            trace(*ZONE, *zone_rule(), hook="input", protocol="icmp", icmp_type=13, destination_port=None),
            "--zone=public",
            f'rule family="ipv4" source address="{PEER}" icmp-type name="timestamp-request" accept',
            id="icmp",
        ),
        pytest.param(
            trace(*ZONE, *zone_rule(), hook="input", protocol="50", destination_port=None),
            "--zone=public",
            f'rule family="ipv4" source address="{PEER}" protocol value="esp" accept',
            id="esp",
        ),
    ],
)
def test_firewalld(traced, where, rich):
    found = plan(traced, around())
    assert texts(found) == [
        [f"firewall-cmd {where} --add-rich-rule='{rich}'"],
        [f"firewall-cmd {where} --remove-rich-rule='{rich}'"],
    ]
    (permanent,) = found.fix.permanent
    assert permanent.argv == ("firewall-cmd", "--permanent", where, f"--add-rich-rule={rich}")
    assert found.fix.persist == (permanent.text,)


UFW = """
:INPUT DROP
-A INPUT -j ufw-before-input
-A INPUT -j ufw-after-input
-A ufw-before-input -i lo -j ACCEPT
-A ufw-before-input -j ufw-user-input
-A ufw-before-forward -j ufw-user-forward
-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT
-A ufw-user-forward -p tcp -j ACCEPT
"""
IN_USER = (
    rule("-A INPUT -j ufw-before-input"),
    rule("-A ufw-before-input -j ufw-user-input", 2),
    rule("-A ufw-user-input -p tcp -m tcp --dport 2377 -j DROP", 3),
)


@pytest.mark.parametrize(
    ("traced", "command", "undo"),
    [
        pytest.param(
            trace(rule(":INPUT DROP")),
            f"ufw allow from {PEER} to any port 2377 proto tcp comment netdiag",
            f"ufw delete allow from {PEER} to any port 2377 proto tcp comment netdiag",
            id="policy",
        ),
        pytest.param(
            trace(*IN_USER),
            f"ufw insert 1 allow from {PEER} to any port 2377 proto tcp comment netdiag",
            f"ufw delete allow from {PEER} to any port 2377 proto tcp comment netdiag",
            id="a deny of ufw's own",
        ),
        pytest.param(
            trace(rule("-A ufw6-user-input -j DROP", family="ip6"), hook="input", **V6),
            "ufw prepend allow from 2001:db8::21 to any port 2377 proto tcp comment netdiag",
            "ufw delete allow from 2001:db8::21 to any port 2377 proto tcp comment netdiag",
            id="IPv6 rules cannot be inserted at 1",
        ),
        pytest.param(
            trace(rule("-A ufw-skip-to-policy-input -j DROP"), hook="input"),
            f"ufw allow from {PEER} to any port 2377 proto tcp comment netdiag",
            f"ufw delete allow from {PEER} to any port 2377 proto tcp comment netdiag",
            id="behind the user's chain",
        ),
        pytest.param(
            trace(rule("-A ufw-user-forward -j DROP"), hook="forward", **FORWARDED),
            f"ufw route insert 1 allow from {PEER} to {INSIDE} port 80 proto tcp comment netdiag",
            f"ufw route delete allow from {PEER} to {INSIDE} port 80 proto tcp comment netdiag",
            id="forwarded",
        ),
        pytest.param(
            trace(rule("-A ufw-reject-output -j REJECT"), hook="output", path=TracePath.OUT),
            f"ufw allow out to {PEER} port 2377 proto tcp comment netdiag",
            f"ufw delete allow out to {PEER} port 2377 proto tcp comment netdiag",
            id="outgoing",
        ),
        pytest.param(
            trace(rule("-A ufw-before-input -m conntrack --ctstate INVALID -j DROP", 4), hook="input"),
            f"iptables -I ufw-before-input 4 {FLOW}",
            f"iptables -D ufw-before-input {FLOW}",
            id="before the user's chain",
        ),
        pytest.param(
            trace(rule(":INPUT DROP"), protocol="icmp", icmp_type=13, destination_port=None),
            f"iptables -I ufw-before-input 2 -s {PEER} -p icmp --icmp-type 13 -m comment --comment netdiag -j ACCEPT",
            f"iptables -D ufw-before-input -s {PEER} -p icmp --icmp-type 13 -m comment --comment netdiag -j ACCEPT",
            id="icmp is no matter of ufw's rules",
        ),
    ],
)
def test_ufw(traced, command, undo):
    sets = (save(UFW), save(UFW.replace("ufw-", "ufw6-"), family=6))
    assert texts(plan(traced, around(*sets))) == [[command], [undo]]


def test_ufw_before_rules_are_kept_by_a_line():
    traced = trace(rule("-A ufw-not-local -j DROP", 4), hook="input")
    assert plan(traced, around(save(UFW))).fix.persist == (
        "# in /etc/ufw/before.rules, before the line: -A ufw-not-local -j DROP",
        f"#   -A ufw-not-local {FLOW}",
    )


def test_a_rule_that_ufw_has_is_neither_added_nor_taken_away():
    there = f"-A ufw-user-input -s {PEER}/32 -p tcp -m tcp --dport 2377 -j ACCEPT\n"
    found = plan(trace(*IN_USER), around(save(UFW + there)))
    assert found.fix is None
    assert "ufw has this rule already" in found.reason


@pytest.mark.parametrize(
    "decided",
    [
        rule(f"-A f2b-sshd -s {PEER}/32 -j REJECT"),
        rule(f"-A f2b-x -s {PEER}/32 -j REJECT", belongs_to="jail sshd, banned"),
        rule("-A INPUT -p tcp -m set --match-set f2b-sshd src -j REJECT"),
        native("tcp dport 22 ip saddr @addr-set-sshd reject", "f2b-table", "f2b-chain"),
        native("tcp dport 22 ip6 saddr @addr6-set-sshd reject", "f2b-table", "f2b-chain"),
    ],
)
def test_fail2ban(decided):
    found = plan(trace(decided, hook="input"), around())
    assert texts(found) == [[f"fail2ban-client set sshd unbanip {PEER}"], [f"fail2ban-client set sshd banip {PEER}"]]
    assert f"add {PEER} to ignoreip of [sshd]" in found.fix.persist[0]


@pytest.mark.parametrize(
    ("traced", "place", "reason"),
    [
        (trace(verdict=TraceVerdict.ACCEPT), {}, "let through already"),
        (
            trace(verdict=TraceVerdict.UNKNOWN, reason="lost behind routing"),
            {},
            "it is not known what stops the packet: lost",
        ),
        (trace(reason="the rule set changed meanwhile"), {}, "the rule set changed meanwhile"),
        (trace(native(""), hook="input"), {}, "trace again"),
        (trace(native("drop", handle=None), hook="input"), {}, "handle of guard late rule 2 is not known"),
        (trace(native("drop", "f", "in", "arp"), hook="input"), {}, "family arp has no match for tcp"),
        (
            trace(
                rule('-A cali-tw-1 -m comment --comment "cali:x" -j DROP', belongs_to="endpoint web"), hook="forward"
            ),
            {},
            "verdict of Calico's policy (endpoint web)",
        ),
        (
            trace(rule("-A INPUT -p udp --dport 4789 -m policy --dir in --pol none -j DROP", owner=Owner.SWARM)),
            {},
            "in the clear",
        ),
        (trace(native("drop", "docker-bridges", "filter-FORWARD", "ip"), hook="forward"), {}, "publish the port"),
        (trace(native("drop", "kube-proxy", "reject-chain", "ip"), hook="forward"), {}, "kube-proxy writes"),
        (
            trace(
                rule('-A KUBE-EXTERNAL-SERVICES -m comment --comment "a/b has no endpoints" -j REJECT'), hook="input"
            ),
            {},
            "no endpoints",
        ),
        (trace(rule("-A KUBE-NWPLCY-DEFAULT -j REJECT"), hook="forward"), {}, "network policy"),
        (trace(rule("-A LIBVIRT_FWI -j REJECT"), hook="forward"), {}, "does not show which rule of a built-in chain"),
        (trace(native("drop", "netdiag-x"), hook="input"), {}, "netdiag's own"),
        (
            trace(*ZONE, *zone_rule(way="FWD"), hook="forward", **FORWARDED),
            {},
            "a new one (firewall-cmd --permanent --new-policy) works after a reload",
        ),
        (trace(native("ct state invalid drop", "firewalld", "filter_INPUT"), hook="input"), {}, "comes too late"),
        (
            trace(
                native("fib saddr . mark . iif oif missing drop", "firewalld", "mangle_PRE_public"), hook="prerouting"
            ),
            {},
            "too late",
        ),
        (trace(rule("-A INPUT_direct -j DROP"), hook="input"), {}, "direct rule of firewalld's"),
        (
            trace(*ZONE, *zone_rule(), hook="input", protocol="icmp", icmp_type=99, destination_port=None),
            {},
            "no name for icmp type 99",
        ),
        (trace(native("reject", "firewalld", "filter_INPUT"), hook="input"), {}, "which zone led to"),
        (trace(rule("-A ufw-odd -j DROP"), hook="input"), {}, "none of the chains of ufw that netdiag knows"),
        (trace(rule("-A f2b -j DROP", owner=Owner.FAIL2BAN), hook="input"), {}, "of which jail is not known"),
        (
            trace(rule("-A ufw-user-input -j DROP"), hook="input"),
            {"namespace": "container:web", "netns": "/proc/7/ns/net"},
            "only ufw there can change it",
        ),
    ],
)
def test_no_rule_because(traced, place, reason):
    found = plan(traced, around(**place))
    assert found.fix is None
    assert reason in found.reason


DEBIAN, CENTOS = (Identity(hostname="b", distribution_id=name) for name in ("debian", "centos"))
FILE = SavedRules(source="nftables.service", path="/etc/nftables.d/site.nft", text="table inet guard {\n}")


@pytest.mark.parametrize(
    ("decided", "place", "kept"),
    [
        (rule("-A INPUT -j DROP"), {"identity": CENTOS}, ("service iptables save",)),
        (
            rule("-A INPUT -j DROP"),
            {"identity": DEBIAN},
            ("apt-get install iptables-persistent", "netfilter-persistent save"),
        ),
        (
            rule("-A INPUT -j DROP"),
            {},
            (f"# put it where the rule that decides comes from, before it: iptables -I INPUT 1 {FLOW}",),
        ),
        (
            native("tcp dport 2377 drop"),
            {"saved": services(rules=(FILE,))},
            (
                "# in /etc/nftables.d/site.nft, table inet guard, chain late, before the line: tcp dport 2377 drop",
                f'#   ip saddr {PEER} tcp dport 2377 accept comment "netdiag-ab12"',
            ),
        ),
    ],
)
def test_how_it_is_kept(decided, place, kept):
    assert plan(trace(decided, hook="input"), around(**place)).fix.persist == kept


def test_a_hand_written_rule_beside_a_program():
    for name in ("ufw", "firewalld"):
        (line,) = plan(trace(rule("-A INPUT -j DROP")), around(saved=services(name))).fix.persist
        assert line.startswith(f"# {name} does not know this rule")


INGRESS = rule("-A DOCKER-INGRESS -j DROP", owner=Owner.SWARM)
BY_OWNER = {
    Owner.OPERATOR: ((rule("-A INPUT -j DROP"),), "iptables -I INPUT 1 "),
    Owner.DOCKER: (ISOLATED, "iptables -I DOCKER-USER 2 "),
    Owner.SWARM: ((rule("-A FORWARD -j DOCKER-INGRESS", 2), INGRESS), "iptables -I DOCKER-USER 2 "),
    Owner.CALICO: ((rule("-A INPUT -j cali-pi-x"), rule("-A cali-pi-x -j DROP")), "Calico's policy"),
    Owner.FIREWALLD: ((*ZONE, *zone_rule()), "firewall-cmd --zone=public "),
    Owner.UFW: (IN_USER, "ufw insert 1 allow "),
    Owner.KUBE: ((rule("-A INPUT -j KUBE-FIREWALL", 3), rule("-A KUBE-FIREWALL -j DROP")), "iptables -I INPUT 3 "),
    Owner.FAIL2BAN: ((rule("-A f2b-sshd -j DROP"),), "fail2ban-client set sshd unbanip "),
    Owner.PODMAN: ((rule("-A INPUT -j NETAVARK_X", 3), rule("-A NETAVARK_X -j DROP")), "iptables -I INPUT 3 "),
    Owner.LIBVIRT: ((rule("-A INPUT -j LIBVIRT_INP", 3), rule("-A LIBVIRT_INP -j DROP")), "iptables -I INPUT 3 "),
    Owner.NETDIAG: ((native("drop", "netdiag-x"),), "netdiag's own"),
}
"""For each owner the way to a rule of its, and how the fix begins or why there is none."""


@pytest.mark.parametrize("owner", Owner)
def test_every_owner_is_treated_in_a_way_of_its_own(owner):
    path, expected = BY_OWNER[owner]
    assert path[-1].owner is owner
    fields = FORWARDED if path[0].chain == "FORWARD" else {}
    found = plan(trace(*path, **fields), around(save(DOCKER)))
    if found.fix is None:
        assert expected in found.reason
    else:
        assert found.fix.commands[0].text.startswith(expected)
