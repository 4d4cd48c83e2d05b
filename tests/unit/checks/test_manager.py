import pytest

from netdiag.model.probes import CaOutcome, CaProbe, TlsOutcome, TlsProbe
from netdiag.model.report import Answer, Confidence, Need, State
from tests.unit.checks.factory import (
    DAY_S,
    HOUR_S,
    MANAGER,
    NOW_S,
    OWN,
    blocked,
    certificate,
    context,
    hello,
    only,
    probe,
)

NO_JOIN, OPEN = {Need.JOIN: Answer.NO}, {Need.JOIN: Answer.UNKNOWN}


def tls(outcome=TlsOutcome.HANDSHAKE, **fields):
    return TlsProbe(outcome=outcome, **fields)


@pytest.mark.parametrize(
    ("probes", "options", "state", "answers"),
    [
        pytest.param((), {}, State.UNKNOWN, OPEN, id="none named"),
        pytest.param((), {"initialise": True}, State.SKIP, {}, id="a swarm is to be made"),
        pytest.param((), {"managers": (MANAGER,)}, State.UNKNOWN, OPEN, id="named and not probed"),
    ],
)
def test_given(probes, options, state, answers):
    one = only("swarm.manager.given", context(*probes, options=options))
    assert (one.state, one.answers) == (state, answers)


@pytest.mark.parametrize(
    ("one", "state", "answers"),
    [
        pytest.param(probe(), State.OK, {}, id="connects"),
        pytest.param(probe(tcp=None), State.UNKNOWN, OPEN, id="not tried"),
        pytest.param(probe(tcp=None, unresolved="no such name"), State.FAIL, NO_JOIN, id="no address"),
        pytest.param(blocked(), State.FAIL, NO_JOIN, id="does not connect"),
    ],
)
def test_tcp(one, state, answers):
    said = only("swarm.manager.tcp", context(one))
    assert (said.state, said.answers, said.subject.peer) == (state, answers, MANAGER)


@pytest.mark.parametrize(
    ("one", "state", "confidence"),
    [
        pytest.param(probe(), State.OK, None, id="TLS"),
        pytest.param(probe(tls=None), State.UNKNOWN, None, id="not tried"),
        pytest.param(blocked(), State.SKIP, None, id="no connection"),
        pytest.param(
            probe(tls=tls(TlsOutcome.NOT_TLS, first_bytes=b"SSH-2.0")), State.FAIL, Confidence.PROVEN, id="ssh"
        ),
        pytest.param(probe(tls=tls(TlsOutcome.ALERT)), State.FAIL, Confidence.LIKELY, id="alert"),
        pytest.param(probe(tls=tls(TlsOutcome.CLOSED)), State.FAIL, Confidence.POSSIBLE, id="closed"),
        pytest.param(probe(tls=tls(TlsOutcome.SILENT)), State.UNKNOWN, None, id="silent"),
        pytest.param(
            probe(tls=tls(TlsOutcome.SILENT), hello=hello(padded=False)), State.SKIP, None, id="silent for size"
        ),
    ],
)
def test_tls(one, state, confidence):
    said = only("swarm.manager.tls", context(one))
    assert (said.state, said.cause.confidence if said.cause else None) == (state, confidence)
    assert said.answers == {State.FAIL: NO_JOIN, State.UNKNOWN: OPEN}.get(state, {})
    if said.cause:
        assert (said.cause.code, said.cause.host, said.cause.object["port"]) == ("swarm.not-manager", MANAGER, 2377)


SERVER_DER, _ = certificate(role="web")
NO_CA = CaProbe(outcome=CaOutcome.REFUSED, message="no leader")


@pytest.mark.parametrize(
    ("one", "state", "answers"),
    [
        pytest.param(probe(), State.OK, {}, id="manager"),
        pytest.param(probe(ca=NO_CA), State.UNKNOWN, OPEN, id="manager without a root CA to give"),
        pytest.param(probe(tls=tls(leaf_der=SERVER_DER)), State.FAIL, NO_JOIN, id="another server"),
        pytest.param(probe(tls=tls(leaf_der=b"rubbish")), State.OK, {}, id="certificate not read, CA handed out"),
        pytest.param(probe(tls=tls(), ca=NO_CA), State.UNKNOWN, OPEN, id="nothing read"),
    ],
)
def test_identity(one, state, answers):
    said = only("swarm.manager.identity", context(one))
    assert (said.state, said.answers) == (state, answers)
    assert (said.cause.confidence if said.cause else None) is (Confidence.PROVEN if state is State.FAIL else None)


def leaf(begin_s, end_s=NOW_S + 60 * DAY_S):
    return probe(tls=tls(leaf_der=certificate(begin_s=begin_s, end_s=end_s)[0]))


def root(begin_s, end_s=NOW_S + 60 * DAY_S):
    return probe(ca=CaProbe(outcome=CaOutcome.ANSWERED, root_pem=certificate(role="", begin_s=begin_s, end_s=end_s)[1]))


@pytest.mark.parametrize(
    ("one", "state", "code", "fault"),
    [
        pytest.param(probe(), State.OK, None, None, id="valid"),
        pytest.param(leaf(NOW_S + 600), State.FAIL, "swarm.certificate-clock", "not-yet-valid", id="clock behind"),
        pytest.param(
            leaf(NOW_S - 9 * DAY_S, NOW_S - 60), State.FAIL, "swarm.certificate-clock", "expired", id="expired"
        ),
        pytest.param(root(NOW_S + 60), State.FAIL, "swarm.certificate-clock", "not-yet-valid", id="root not yet valid"),
        pytest.param(leaf(NOW_S - 600), State.WARN, "host.clock", None, id="behind by less than the backdate"),
        pytest.param(leaf(NOW_S - HOUR_S), State.OK, None, None, id="issued just now"),
    ],
)
def test_certificate(one, state, code, fault):
    said = only("swarm.manager.certificate", context(one))
    assert (said.state, said.cause.code if said.cause else None) == (state, code)
    assert said.answers == (NO_JOIN if state is State.FAIL else {})
    if fault:
        assert said.cause.object["fault"] == fault
        assert "2025-06-15 15:06:40 UTC" in said.evidence[0].text
    if code == "host.clock":
        assert (said.cause.object["behind_s_at_least"], said.cause.confidence) == (2970, Confidence.LIKELY)


def test_the_host_is_named_with_its_address_where_its_name_says_nothing():
    from netdiag.model.facts import Identity

    ctx = context(probe(), identity=Identity(hostname="localhost.localdomain"))
    assert ctx.host == f"localhost.localdomain ({OWN})"
    assert context(probe()).host == "host-b"
