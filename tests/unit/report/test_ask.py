import msgspec
import pytest

from netdiag.errors import UsageError
from netdiag.model.report import Confidence, Remedy, Risk, Step
from netdiag.report.ask import message
from tests.unit.report.samples import HERE, MANAGER, TOKEN, clean, failing, rejecting_rule


def with_cause(cause, *, steps=()):
    return msgspec.structs.replace(failing(), causes=(cause,), next=tuple(steps))


def test_the_message_is_complete():
    text = message(failing())
    for part in (
        f"Subject: a change needed on {MANAGER} for {HERE}",
        "to join a Docker swarm",
        "rule 5 of filter INPUT",
        "-A INPUT -j REJECT --reject-with icmp-host-prohibited",
        "counter: rule 5 counted 3 packets",
        "iptables -I INPUT 5 -p tcp -s 192.0.2.21/32 -d 192.0.2.10/32 --dport 2377",
        "service iptables save",
        "iptables -D INPUT",
        "Please send back:",
        "netdiag preflight swarm --manager 192.0.2.10",
    ):
        assert part in " ".join(text.split()), part


def test_it_asks_nothing_that_is_ours_to_do():
    text = message(failing())
    assert "ip_vs" not in text
    assert "prove that the port is open" not in text
    assert text.count("iptables -I") == 1


def test_a_command_is_never_broken():
    lines = [line.strip() for line in message(failing()).splitlines()]
    commands = failing().causes[0].remedy[0].commands
    assert set(commands) <= set(lines)


@pytest.mark.parametrize("name", [MANAGER, "192.0.2.10"])
def test_a_host_may_be_named_by_its_address(name):
    assert message(failing(), name) == message(failing())


def test_a_name_that_two_hosts_share_is_asked_back():
    steps = [Step(host="b (192.0.2.30)", command="x", why="w"), Step(host="b (192.0.2.31)", command="y", why="w")]
    report = msgspec.structs.replace(clean(), next=tuple(steps))
    with pytest.raises(UsageError, match="could be any of several"):
        message(report, "b")
    with pytest.raises(UsageError, match=r"--host: b \(192.0.2.30\), b \(192.0.2.31\)"):
        message(report)
    assert "      y" in message(report, "192.0.2.31")


def test_nothing_to_ask():
    with pytest.raises(UsageError, match="nothing of another host"):
        message(clean())
    with pytest.raises(UsageError, match="other hosts in it: localhost"):
        message(failing(), "elsewhere")


def test_no_token_leaves():
    remedy = Remedy(host=MANAGER, summary=f"use {TOKEN}", commands=(f"docker swarm join --token {TOKEN} x",))
    report = with_cause(
        rejecting_rule(explanation=TOKEN, remedy=[remedy]),
        steps=[Step(host=MANAGER, command=f"echo {TOKEN}", why=TOKEN)],
    )
    text = message(report)
    assert "SWMTKN" not in text
    assert "--token (token left out) x" in text


def test_a_step_is_asked_for_even_without_a_cause():
    report = msgspec.structs.replace(
        failing(),
        causes=(),
        findings=(),
        next=(Step(host=MANAGER, command="netdiag verify swarm", why="see the rule"),),
    )
    text = message(report)
    assert f"Subject: a look needed on {MANAGER}" in text
    assert " 1. see the rule\n      netdiag verify swarm" in text


def test_what_is_not_proven_or_disrupts_says_so():
    remedy = Remedy(host=MANAGER, summary="restart", commands=("reboot",), risk=Risk.DISRUPTIVE)
    text = message(with_cause(rejecting_rule(confidence=Confidence.POSSIBLE, remedy=[remedy])))
    assert "possible, please check it" in " ".join(text.split())
    assert "this interrupts traffic" in " ".join(text.split())


def test_a_fault_on_the_way_is_told_to_the_one_who_can_heal_it():
    remedy = Remedy(host=MANAGER, summary="let it in", commands=("allow",))
    thing = {"kind": "rule", "from": HERE, "to": MANAGER}
    text = message(with_cause(rejecting_rule(host=None, object=thing, remedy=[remedy])))
    assert "What we found between the hosts" in text
    assert "      allow" in text
