"""Two reports as a join makes them: tcp/2377 rejected by the manager's firewall, and nothing wrong."""

from netdiag.causes import cause
from netdiag.model.found import Found
from netdiag.model.report import (
    Answer,
    Confidence,
    Evidence,
    Need,
    Remedy,
    Report,
    Risk,
    State,
    Step,
    Subject,
)
from netdiag.report.assemble import build_report

HERE = "localhost.localdomain (192.0.2.21)"
MANAGER = "localhost.localdomain (192.0.2.10)"
TOKEN = "SWMTKN-1-" + "3" * 50 + "-" + "x" * 25
RULE = {
    "kind": "rule",
    "backend": "iptables-nft",
    "namespace": "host",
    "family": "ip",
    "table": "filter",
    "chain": "INPUT",
    "number": 5,
    "handle": 12,
    "text": "-A INPUT -j REJECT --reject-with icmp-host-prohibited",
    "owner": "operator",
    "call_site": None,
    "policy": None,
}
MATCH = (
    "-p tcp -s 192.0.2.21/32 -d 192.0.2.10/32 --dport 2377"
    " -m conntrack --ctstate NEW -m comment --comment netdiag -j ACCEPT"
)
PAIR = Subject(host=HERE, peer=MANAGER)


def _ok(host, check, summary):
    return Found(check=check, state=State.OK, subject=Subject(host=host), summary=summary)


def _healthy(host):
    return (
        _ok(host, "engine.state", "The engine runs (29.1.3) and is in no swarm"),
        _ok(host, "kernel.vxlan", "The kernel has vxlan"),
        _ok(host, "swarm.pool", "10.0.0.0/8 overlaps no route of this host"),
        Found(
            check="swarm.lock",
            state=State.SKIP,
            subject=Subject(host=host),
            summary="Autolock is not looked at",
            reason="this host is in no swarm",
        ),
        Found(
            check="kernel.ip-vs",
            state=State.WARN,
            subject=Subject(host=host),
            summary="The kernel lacks ip_vs: virtual IPs and published ports will not work here",
            answers={Need.TRAFFIC: Answer.NO},
            evidence=(Evidence("kernel", "CONFIG_IP_VS is not set in /proc/config.gz"),),
            cause=cause(
                "kernel.missing-feature",
                host=host,
                object={"kind": "feature", "feature": "ip_vs", "kernel": "6.18.0"},
                confidence=Confidence.PROVEN,
                explanation="CONFIG_IP_VS is not set and no module of this kernel has it.",
                affects=["virtual IPs", "published ports"],
            ),
        ),
    )


def rejecting_rule(**changes):
    return cause(
        "firewall.rule",
        **{
            "host": MANAGER,
            "object": RULE,
            "confidence": Confidence.PROVEN,
            "explanation": (
                "tcp/2377 from 192.0.2.21 reaches the manager and is rejected there; the connection ends with"
                ' "no route to host", and docker swarm join says "Timeout was reached before node joined".'
            ),
            "because": ["firewall.near-miss"],
            "affects": ["swarm join"],
            "evidence": [
                Evidence(
                    "trace",
                    "192.0.2.21:41514 to 192.0.2.10:2377 ended in rule 5 of filter INPUT (icmp-host-prohibited)",
                    {"packets": 3},
                ),
                Evidence("counter", "rule 5 counted 3 packets, exactly the 3 probes; 0 in the second before"),
                Evidence("rule", "rule 3 accepts tcp/2376 and was probably meant to accept tcp/2377"),
            ],
            "remedy": [
                Remedy(
                    host=MANAGER,
                    summary="accept tcp/2377 from the new node before the rule that rejects it",
                    commands=(f"iptables -I INPUT 5 {MATCH}",),
                    undo=(f"iptables -D INPUT {MATCH}",),
                    persist=("service iptables save",),
                    risk=Risk.LOW,
                )
            ],
            **changes,
        },
    )


def failing() -> Report:
    return build_report(
        command="preflight swarm --manager 192.0.2.10",
        host=HERE,
        started="2026-03-14T02:57:11Z",
        duration_s=3.24,
        question=Need.JOIN,
        found=[
            Found(
                check="swarm.port.control",
                state=State.FAIL,
                subject=PAIR,
                summary="tcp/2377 of the manager answers with ICMP host-prohibited (3/10)",
                answers={Need.JOIN: Answer.NO},
                cause=rejecting_rule(),
            ),
            Found(
                check="swarm.port.gossip",
                state=State.UNKNOWN,
                subject=PAIR,
                summary="Nobody could say whether udp/7946 arrives at the manager",
                reason="a UDP port that keeps silent says nothing by itself; run netdiag listen on the manager",
                answers={Need.NAMES: Answer.UNKNOWN, Need.TRAFFIC: Answer.UNKNOWN},
            ),
            *_healthy(HERE),
        ],
        next_steps=[
            Step(
                host=HERE,
                command="netdiag preflight swarm --manager 192.0.2.10",
                why="prove that the port is open now",
            ),
        ],
    )


def clean() -> Report:
    return build_report(
        command="preflight swarm --manager 192.0.2.10",
        host="worker-1",
        started="2026-03-14T02:59:40Z",
        duration_s=0.84,
        question=Need.JOIN,
        found=[
            Found(
                check="swarm.port.control",
                state=State.OK,
                subject=Subject(host="worker-1", peer="manager-1"),
                summary="tcp/2377 of the manager answers as a swarm manager does",
                answers={Need.JOIN: Answer.YES},
            ),
            *[one for one in _healthy("worker-1") if one.state is not State.WARN],
        ],
        next_steps=[
            Step(
                host="worker-1",
                command='docker swarm join --token "$TOKEN" --advertise-addr 192.0.2.21 192.0.2.10:2377',
                why="join; put the token that docker swarm join-token worker prints on the manager into TOKEN first",
            ),
        ],
    )
