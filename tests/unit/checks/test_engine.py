import pytest

from netdiag.model.engine import Network
from netdiag.model.facts import AbsenceKind, FirewallSaved, FirewallService
from netdiag.model.report import Answer, Confidence, Need, State
from tests.unit.checks.factory import absent, engine, found, joining, only

ALL = dict.fromkeys(Need, Answer.NO)
OPEN = dict.fromkeys(Need, Answer.UNKNOWN)
FIREWALLD = FirewallSaved(services=(FirewallService(name="firewalld", active=True, evidence=""),))
ENCRYPTED = (Network(id="n", name="n", driver="overlay", scope="swarm", encrypted=True),)


@pytest.mark.parametrize(
    ("section", "state", "answers", "step"),
    [
        pytest.param(absent(kind=AbsenceKind.MISSING), State.FAIL, ALL, "systemctl start docker", id="none"),
        pytest.param(absent(), State.UNKNOWN, OPEN, "sudo netdiag", id="not permitted"),
        pytest.param(absent(kind=AbsenceKind.TIMEOUT), State.UNKNOWN, OPEN, "systemctl status docker", id="it hangs"),
    ],
)
def test_an_engine_that_does_not_answer(section, state, answers, step):
    one = only("swarm.engine.reachable", joining(engine=section))
    assert (one.state, one.answers) == (state, answers)
    assert one.next[0].command.startswith(step)


@pytest.mark.parametrize(
    ("fields", "sections", "state", "answers", "confidence"),
    [
        pytest.param({}, {}, State.OK, {}, None, id="fine"),
        pytest.param({"version": "1.11.2"}, {}, State.FAIL, ALL, Confidence.PROVEN, id="no swarm mode"),
        pytest.param({"version": "dev"}, {}, State.UNKNOWN, {}, None, id="no version"),
        pytest.param({"version": "28.2.2"}, {}, State.WARN, {}, Confidence.POSSIBLE, id="leak that needs an event"),
        pytest.param(
            {"version": "20.10.24"}, {"firewall_saved": FIREWALLD}, State.WARN, {}, Confidence.POSSIBLE, id="firewalld"
        ),
        pytest.param(
            {"version": "29.3.0", "firewall_backend": "nftables"},
            {},
            State.FAIL,
            ALL,
            Confidence.PROVEN,
            id="nftables refused",
        ),
        pytest.param(
            {"version": "29.8.1", "firewall_backend": "nftables+firewalld"},
            {},
            State.UNKNOWN,
            OPEN,
            None,
            id="nftables by flag",
        ),
    ],
)
def test_version(fields, sections, state, answers, confidence):
    one = only("swarm.engine.version", joining(engine=engine(**fields), **sections))
    assert (one.state, one.answers) == (state, answers)
    assert (one.cause.confidence if one.cause else None) is confidence
    if one.cause:
        assert (one.cause.code, one.cause.object["version"]) == ("swarm.engine-version", fields["version"])


def test_a_defect_that_always_strikes_answers_traffic():
    from tests.unit.checks.factory import context, probe

    ctx = context(probe(), options={"data_path_port": 7789}, engine=engine(version="20.10.24", networks=ENCRYPTED))
    told = {one.cause.object["defect"]: one for one in found("swarm.engine.version", ctx)}
    port = told["encryption-port"]
    assert (port.answers, port.cause.confidence) == ({Need.TRAFFIC: Answer.NO}, Confidence.LIKELY)


def test_live_restore():
    one = only("swarm.engine.live-restore", joining(engine=engine(live_restore=True)))
    assert (one.state, one.answers, one.cause.code) == (State.FAIL, ALL, "swarm.engine-setting")
    (remedy,) = one.cause.remedy
    assert '"live-restore": false' in remedy.commands[0]
    assert '"live-restore": true' in remedy.undo[0]


def test_rootless():
    one = only("swarm.engine.rootless", joining(engine=engine(rootless=True)))
    assert (one.state, one.answers) == (State.WARN, {Need.NAMES: Answer.NO, Need.TRAFFIC: Answer.NO})
    assert (one.cause.object["key"], one.cause.confidence) == ("rootless", Confidence.LIKELY)


PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("fields", "manager", "state"),
    [
        pytest.param({}, False, State.OK, id="none"),
        pytest.param({"version": "17.09.0-ce", "https_proxy": PROXY}, False, State.WARN, id="a version that uses it"),
        pytest.param({"version": "17.06.2-ce", "https_proxy": PROXY}, False, State.OK, id="before it was used"),
        pytest.param({"version": "17.12.1-ce", "https_proxy": PROXY}, False, State.OK, id="worker, repaired"),
        pytest.param({"version": "17.12.1-ce", "http_proxy": PROXY}, True, State.WARN, id="manager, not repaired"),
        pytest.param({"version": "18.09.4", "http_proxy": PROXY}, True, State.OK, id="manager, repaired"),
        pytest.param(
            {"version": "17.09.0-ce", "https_proxy": PROXY, "no_proxy": "localhost, 192.0.2.10"},
            False,
            State.OK,
            id="exempt",
        ),
        pytest.param(
            {"version": "17.09.0-ce", "https_proxy": PROXY, "no_proxy": "192.0.2.0/24"},
            False,
            State.OK,
            id="network exempt",
        ),
        pytest.param(
            {"version": "17.09.0-ce", "https_proxy": PROXY, "no_proxy": "192.0.2.10:2377"},
            False,
            State.OK,
            id="port exempt",
        ),
        pytest.param(
            {"version": "17.09.0-ce", "https_proxy": PROXY, "no_proxy": "*"}, False, State.OK, id="all exempt"
        ),
        pytest.param(
            {"version": "17.09.0-ce", "https_proxy": PROXY, "no_proxy": "x/y,192.0.2.1"},
            False,
            State.WARN,
            id="another exempt",
        ),
    ],
)
def test_proxy(fields, manager, state):
    from tests.unit.checks.factory import context, probe

    one = only("swarm.engine.proxy", context(probe(), options={"manager_role": manager}, engine=engine(**fields)))
    assert (one.state, one.answers) == (state, {})
    if one.cause:
        assert one.cause.confidence is Confidence.POSSIBLE
        assert one.cause.object["key"] == ("HTTPS_PROXY" if "https_proxy" in fields else "HTTP_PROXY")


def test_a_proxys_password_is_not_told():
    one = only(
        "swarm.engine.proxy", joining(engine=engine(version="17.09.0-ce", https_proxy="http://me:secret@proxy:1"))
    )
    assert "secret" not in repr(one)
    assert "proxy:1" in one.summary
