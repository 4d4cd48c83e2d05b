"""``recorded/dockerd-20.10.24-joins.log``: lines of a real engine, each after its expected class and a tab."""

from pathlib import Path

import pytest

from netdiag.model.engine import SwarmState
from netdiag.swarm.join_messages import JoinProblem, JoinStage, LogClass
from netdiag.swarm.join_stage import classify_log, redacted, stage_of

RECORDED = Path(__file__).parent / "recorded" / "dockerd-20.10.24-joins.log"
LINES = [tuple(line.split("\t", 1)) for line in RECORDED.read_text().splitlines()]
SESSION_TIMEOUT = (
    'time="2026-11-23T03:43:36Z" level=error msg="agent: session failed" backoff=700ms '
    'error="session initiation timed out" module=node/agent node.id=ene8i1xbb0udd5m15wgejv8xm'
)
ROOT_CA_TIMEOUT = (
    'time="2026-11-23T03:43:16.767696448Z" level=error msg="failed to retrieve remote root CA certificate" '
    'error="rpc error: code = DeadlineExceeded desc = context deadline exceeded" module=node'
)


def classes(*lines: str) -> list[LogClass]:
    return [found for line in lines if (found := classify_log(line)) is not None]


@pytest.mark.parametrize(
    ("expected", "line"), LINES, ids=[f"{at} {expected}" for at, (expected, _) in enumerate(LINES)]
)
def test_lines_of_a_real_engine(expected: str, line: str) -> None:
    (found,) = classes(line)
    assert f"{found.stage.value} {found.problem.value} {found.peer or '-'}" == expected


@pytest.mark.parametrize(
    ("text", "stage", "problem"),
    [
        pytest.param(
            "Nov 23 03:43:36 worker-1 dockerd[812]: " + SESSION_TIMEOUT,
            JoinStage.SESSION,
            JoinProblem.SESSION_TIMEOUT,
            id="behind journald's prefix",
        ),
        pytest.param(
            '{"level":"error","msg":"failed to retrieve remote root CA certificate","error":"rpc error: code = '
            'DeadlineExceeded desc = context deadline exceeded","time":"2026-11-23T03:43:16Z"}',
            JoinStage.TCP,
            JoinProblem.SILENT_DROP,
            id="JSON",
        ),
        pytest.param(
            'rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing: dial tcp '
            '10.0.0.1:2377: connect: connection refused"',
            JoinStage.TCP,
            JoinProblem.REFUSED,
            id="newer gRPC",
        ),
        pytest.param(
            "memberlist: Was able to connect to 63645780a642 over TCP but UDP probes failed",
            JoinStage.JOINED,
            JoinProblem.GOSSIP_UDP_BLOCKED,
            id="newer memberlist",
        ),
        pytest.param(
            "error while validating Root CA Certificate: x509: certificate has expired or is not yet valid: current "
            "time 2016-01-01T00:00:00Z is before 2026-11-23T03:37:00Z",
            JoinStage.ROOT_CA,
            JoinProblem.CLOCK,
            id="clock before the root",
        ),
        pytest.param(
            'rpc error: code = Unavailable desc = connection error: desc = "transport: authentication handshake '
            'failed: x509: certificate has expired or is not yet valid"',
            JoinStage.CERTIFICATE,
            JoinProblem.CLOCK,
            id="clock before the leaf",
        ),
        pytest.param(
            'rpc error: code = Unavailable desc = "transport: remote error: tls: bad certificate"',
            JoinStage.TLS,
            JoinProblem.CLIENT_CERTIFICATE_WANTED,
            id="port 2376",
        ),
        pytest.param(
            'level=error msg="failed to request and save new certificate" error="rpc error: code = DeadlineExceeded"',
            JoinStage.CERTIFICATE,
            JoinProblem.CERTIFICATE_TIMEOUT,
            id="no certificate in time",
        ),
        pytest.param(
            'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.',
            JoinStage.UNKNOWN,
            JoinProblem.ALREADY_MEMBER,
            id="member already",
        ),
    ],
)
def test_other_spellings(text: str, stage: JoinStage, problem: JoinProblem) -> None:
    (found,) = classes(text)
    assert (found.stage, found.problem) == (stage, problem)


@pytest.mark.parametrize(
    "line",
    [
        (
            'level=error msg="Handler for POST /v1.41/images/create returned error: '
            'Get \\"https://registry-1.docker.io/v2/\\": x509: certificate signed by unknown authority"'
        ),
        'level=error msg="Get https://10.0.0.5:5000/v2/: x509: certificate has expired or is not yet valid"',
        (
            'level=warning msg="grpc: addrConn.createTransport failed to connect to {unix:///run/c.sock}. Err: '
            'connection error: desc = \\"transport: Error while dialing dial unix /run/c.sock: connection refused\\""'
        ),
        'level=info msg="API listen on /run/docker.sock"',
        "",
    ],
    ids=["registry CA", "registry expired", "containerd", "information", "nothing"],
)
def test_other_lines_are_not_about_joining(line: str) -> None:
    assert classify_log(line) is None


@pytest.mark.parametrize(
    ("state", "node_id", "error", "log", "stage", "problem"),
    [
        pytest.param("pending", "", "", [ROOT_CA_TIMEOUT], "tcp", JoinProblem.SILENT_DROP, id="dropped port"),
        pytest.param("pending", "", "", [], "unknown", None, id="pending without a word"),
        pytest.param("pending", "abc", "", [SESSION_TIMEOUT], "session", JoinProblem.SESSION_TIMEOUT, id="small MTU"),
        pytest.param("pending", "abc", "", [], "session", None, id="certificate, no session, no log"),
        pytest.param("pending", "abc", "", [ROOT_CA_TIMEOUT], "session", None, id="earlier trouble is over"),
        pytest.param("inactive", "", "invalid join token", [], "root-ca", JoinProblem.TOKEN_FORMAT, id="error text"),
        pytest.param("inactive", "", "", [], "unknown", None, id="never tried"),
        pytest.param("active", "abc", "", [ROOT_CA_TIMEOUT], "joined", None, id="joined after trouble"),
        pytest.param(
            "active",
            "abc",
            "",
            ["memberlist: Was able to connect to 63645780a642 but other probes failed"],
            "joined",
            JoinProblem.GOSSIP_UDP_BLOCKED,
            id="joined, names late",
        ),
        pytest.param("locked", "abc", "", [], "unknown", JoinProblem.LOCKED, id="locked"),
    ],
)
def test_where_a_join_stands(
    state: str, node_id: str, error: str, log: list[str], stage: str, problem: JoinProblem | None
) -> None:
    report = stage_of(SwarmState(state), node_id, error, classes(*log))
    assert (report.stage.value, report.problem) == (stage, problem)
    assert report.explanation


def test_gossip_keys_and_tokens_are_taken_out() -> None:
    line = (
        'msg="New memberlist node - Node:vm will use memberlist nodeID:953f with config:&{BindPort:0 '
        'Keys:[[20 166 100] [18 132 17] [187 169 59]] PacketBufferSize:1400} SWMTKN-1-0abc-0def SWMKEY-1-xyz"'
    )
    assert redacted(line) == (
        'msg="New memberlist node - Node:vm will use memberlist nodeID:953f with config:&{BindPort:0 '
        'Keys:[…] PacketBufferSize:1400} SWM… SWM…"'
    )


def test_redacting_twice_is_redacting_once() -> None:
    line = "config:&{Keys:[[56 231 238] [1 2]] PacketBufferSize:1400} token SWMTKN-1-abc-def"
    once = redacted(line)
    assert "231" not in once
    assert "abc" not in once
    assert redacted(once) == once
