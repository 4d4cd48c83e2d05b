import msgspec
import pytest

from netdiag.model.probes import CaOutcome, CaProbe
from netdiag.model.report import Answer, Confidence, Need, State
from netdiag.swarm.token import TokenFault, TokenProblem
from tests.unit.checks.factory import MANAGER, TOKEN, context, joining, only, probe

NO_JOIN = {Need.JOIN: Answer.NO}


@pytest.mark.parametrize(
    ("token", "state", "answers"),
    [
        pytest.param(TOKEN, State.OK, {}, id="whole"),
        pytest.param(None, State.SKIP, {}, id="none"),
        pytest.param(TokenProblem(TokenFault.CUT, "the join token is cut"), State.FAIL, NO_JOIN, id="cut"),
        pytest.param(msgspec.structs.replace(TOKEN, secret_possible=False), State.FAIL, NO_JOIN, id="secret too large"),
        pytest.param(msgspec.structs.replace(TOKEN, version=2, fips=True), State.WARN, {}, id="FIPS only"),
    ],
)
def test_syntax(token, state, answers):
    one = only("swarm.token.syntax", context(probe(), options={"token": token}))
    assert (one.state, one.answers) == (state, answers)
    if one.cause:
        assert (one.cause.code, one.cause.confidence) == ("swarm.token", Confidence.PROVEN)
        assert (one.cause.remedy[0].host, one.cause.remedy[0].commands) == (
            MANAGER,
            ("docker swarm join-token worker",),
        )


@pytest.mark.parametrize(
    ("token", "ca", "state"),
    [
        pytest.param(TOKEN, probe().ca, State.OK, id="same swarm"),
        pytest.param(TOKEN, CaProbe(outcome=CaOutcome.ANSWERED, root_pem=b"another"), State.FAIL, id="other swarm"),
        pytest.param(TOKEN, CaProbe(outcome=CaOutcome.ANSWERED), State.SKIP, id="an empty answer"),
        pytest.param(TOKEN, CaProbe(outcome=CaOutcome.SILENT), State.SKIP, id="no answer"),
        pytest.param(TOKEN, None, State.SKIP, id="not asked"),
        pytest.param(None, probe().ca, State.SKIP, id="no token"),
    ],
)
def test_authority(token, ca, state):
    one = only("swarm.token.ca", context(probe(ca=ca), options={"token": token, "manager_role": True}))
    assert (one.state, one.answers) == (state, NO_JOIN if state is State.FAIL else {})
    if one.cause:
        assert (one.cause.object["form"], one.cause.confidence) == ("other-swarm", Confidence.PROVEN)
        assert one.cause.remedy[0].commands == ("docker swarm join-token manager",)


def test_the_secret_stays_open_and_blocks_nothing():
    one = only("swarm.token.secret", joining())
    assert (one.state, one.answers, one.next[0].host) == (State.UNKNOWN, {}, MANAGER)
