import pytest

from netdiag.checks.membership import is_member_of_asked_swarm
from netdiag.model.engine import EngineLog, LogLine, SwarmState
from netdiag.model.probes import TlsOutcome, TlsProbe
from netdiag.model.report import Answer, Confidence, Need, State
from tests.unit.checks.factory import (
    CLUSTER_ID,
    MANAGER,
    OTHER,
    certificate,
    context,
    engine,
    joining,
    member,
    membership,
    only,
    probe,
)

NO_JOIN = {Need.JOIN: Answer.NO}
FOREIGN_DER, _ = certificate(cluster="another0cluster")
FOREIGN_TLS = TlsProbe(outcome=TlsOutcome.HANDSHAKE, leaf_der=FOREIGN_DER)


def state(swarm, *probes, log=()):
    lines = tuple(LogLine(unix_s=1.0, text=text) for text in log)
    ctx = context(
        *(probes or (probe(),)), engine=engine(swarm=swarm), engine_log=EngineLog(source="journal", lines=lines)
    )
    return only("swarm.member.state", ctx)


def test_in_no_swarm():
    assert state(membership()).state is State.OK


def test_in_this_very_swarm():
    one = state(member())
    assert (one.state, one.answers, one.cause.code, one.cause.remedy) == (State.WARN, {}, "swarm.already-member", ())


def test_in_another_swarm_for_certain():
    swarm = member(is_manager=True, cluster_id=CLUSTER_ID, remote_managers=(f"{OTHER}:2377",))
    one = state(swarm, probe(tls=FOREIGN_TLS))
    assert (one.state, one.answers, one.cause.confidence) == (State.FAIL, NO_JOIN, Confidence.PROVEN)
    assert one.cause.remedy[0].commands == ("docker swarm leave --force",)
    assert "another swarm" in one.summary


def test_a_worker_whose_managers_are_known_by_other_addresses_is_not_told_to_leave():
    one = state(member(remote_managers=(f"{OTHER}:2377",)))
    assert (one.state, one.answers, one.cause.remedy) == (State.FAIL, NO_JOIN, ())
    assert (one.next[0].host, one.next[0].command) == (MANAGER, "docker node ls")


def test_one_of_several_managers_hands_over_before_it_leaves():
    swarm = member(is_manager=True, managers=3, cluster_id=CLUSTER_ID, remote_managers=(f"{OTHER}:2377",))
    commands = state(swarm, probe(tls=FOREIGN_TLS)).cause.remedy[0].commands
    assert commands == ("docker node demote own0node", "docker swarm leave")


def test_who_names_no_swarm_is_not_told_to_leave_the_one_there_is():
    swarm = member(is_manager=True, managers=1)
    one = only("swarm.member.state", context(engine=engine(swarm=swarm)))
    assert (one.state, one.answers, one.cause.remedy) == (State.FAIL, NO_JOIN, ())
    assert [step.command for step in one.next] == ["netdiag verify swarm"]


@pytest.mark.parametrize(
    ("swarm", "probes", "expected"),
    [
        pytest.param(membership(), (probe(),), False, id="in none"),
        pytest.param(member(), (probe(),), True, id="manager known"),
        pytest.param(member(), (), None, id="nobody asked for"),
        pytest.param(
            member(remote_managers=("[2001:db8::1]:2377",)), (probe(address="2001:DB8:0::1"),), True, id="IPv6"
        ),
        pytest.param(
            member(remote_managers=("192.0.2.99:2377",), cluster_id=CLUSTER_ID), (probe(),), True, id="same cluster"
        ),
        pytest.param(
            member(remote_managers=("192.0.2.99:2377",), cluster_id="other"), (probe(),), False, id="other cluster"
        ),
        pytest.param(member(remote_managers=("192.0.2.99:2377",)), (probe(),), None, id="cannot be told"),
    ],
)
def test_whether_it_is_a_member_of_that_swarm(swarm, probes, expected):
    assert is_member_of_asked_swarm(context(*probes, engine=engine(swarm=swarm))) is expected


TIMEOUT = 'level=error msg="failed to retrieve remote root CA certificate" error="rpc error: code = DeadlineExceeded"'
SESSION = 'level=error msg="agent: session failed" error="session initiation timed out" module=node/agent'
GOSSIP = "memberlist: Was able to connect to host-c over TCP but UDP probes failed"


@pytest.mark.parametrize(
    ("node_id", "log", "stage", "confidence", "lines"),
    [
        pytest.param("", [TIMEOUT], "tcp", Confidence.PROVEN, 1, id="the log says tcp"),
        pytest.param("own0node", [SESSION], "session", Confidence.PROVEN, 1, id="certificate, no session"),
        pytest.param("own0node", [], "session", Confidence.PROVEN, 0, id="certificate, empty log"),
        pytest.param("", [], "unknown", Confidence.LIKELY, 0, id="nothing tells"),
        pytest.param("", [GOSSIP], "unknown", Confidence.LIKELY, 0, id="lines about something else"),
    ],
)
def test_pending(node_id, log, stage, confidence, lines):
    one = state(membership(SwarmState.PENDING, node_id=node_id), log=log)
    assert (one.state, one.answers) == (State.FAIL, NO_JOIN)
    assert (one.cause.code, one.cause.object["stage"], one.cause.confidence) == ("swarm.join-stage", stage, confidence)
    assert len([seen for seen in one.evidence if seen.kind == "log"]) == lines
    assert one.cause.remedy[-1].commands == ("docker swarm leave --force",)


def test_locked():
    one = state(membership(SwarmState.LOCKED))
    assert (one.state, one.answers[Need.JOIN]) == (State.FAIL, Answer.NO)
    assert one.cause.remedy[0].commands == ("docker swarm unlock",)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(
            "Swarm certificates have expired. To replace them, leave the swarm and join again.",
            "swarm.certificate-clock",
            id="expired",
        ),
        pytest.param("x509: certificate has expired or is not yet valid", "swarm.certificate-clock", id="clock"),
        pytest.param("x509: certificate signed by unknown authority", "swarm.already-member", id="foreign certificate"),
        pytest.param(
            "listen tcp 0.0.0.0:2377: bind: address already in use", "swarm.already-member", id="something else"
        ),
        pytest.param("", "swarm.already-member", id="no reason"),
    ],
)
def test_error(error, code):
    one = state(membership(SwarmState.ERROR, error=error))
    assert (one.state, one.answers, one.cause.code, one.cause.confidence) == (
        State.FAIL,
        NO_JOIN,
        code,
        Confidence.LIKELY,
    )
    assert one.cause.remedy[0].commands == ("docker swarm leave --force",)
    assert [step.command for step in one.next] == (["date -u"] if code == "swarm.certificate-clock" else [])


def test_no_secret_is_told():
    token = "SWMTKN-1-" + "a" * 50 + "-" + "b" * 25
    assert "bbbb" not in repr(state(membership(SwarmState.ERROR, error=f"cannot use {token}")))


def test_a_state_that_is_none():
    one = state(membership(SwarmState.UNKNOWN))
    assert (one.state, one.answers) == (State.UNKNOWN, {Need.JOIN: Answer.UNKNOWN})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, State.OK, id="none"),
        pytest.param({"swarm_files_known": False}, State.UNKNOWN, id="not permitted"),
        pytest.param({"swarm_files": ("certificates/swarm-node.crt",)}, State.WARN, id="certificate"),
        pytest.param({"swarm_files": ("lost+found",)}, State.OK, id="something else"),
    ],
)
def test_leftovers(fields, expected):
    one = only("swarm.member.leftovers", joining(engine=engine(**fields)))
    assert (one.state, one.answers) == (expected, {})
    if one.cause:
        assert (one.cause.code, one.cause.confidence) == ("swarm.stale-state", Confidence.POSSIBLE)
        assert one.cause.remedy[0].commands[1] == "mv /var/lib/docker/swarm /var/lib/docker/swarm.old"
