"""The participant under the oldest interpreter of this machine: it is streamed to hosts that have no newer one."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import netdiag
from netdiag.carrier.listen import await_peer
from netdiag.carrier.listener import Listener
from netdiag.errors import CarrierError
from netdiag.model.wire import Request
from netdiag.participant.sealed import ASK

PACKAGE = Path(netdiag.__file__).parent

SCRIPT = """
import json, sys, types
package = types.ModuleType("netdiag")   # what the loader does on a host that has no netdiag
package.__path__ = [sys.argv[1]]
sys.modules["netdiag"] = package
from netdiag.participant import VERBS, run
from netdiag.participant.wire import to_wire
answers = [run(request) for request in json.loads(sys.argv[2])]
print(json.dumps({"version": list(sys.version_info[:2]), "verbs": sorted(VERBS), "answers": to_wire(answers),
                  "modules": sorted(name for name in sys.modules if name.startswith("netdiag"))}))
"""


def _oldest_interpreter() -> str | None:
    """The first of python3.6 to python3.10 that starts, on PATH or among pyenv's versions."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = []
    for minor in range(6, 11):
        candidates += [shutil.which(f"python3.{minor}") or ""]
        candidates += [str(path) for path in sorted(pyenv.glob(f"3.{minor}.*/bin/python3"))]
    return next((path for path in candidates if path and _starts(path)), None)


def _starts(interpreter: str) -> bool:
    """A shim of pyenv's exists and fails when its version is not chosen."""
    return subprocess.run([interpreter, "-c", ""], capture_output=True, check=False).returncode == 0


def test_verbs_run_under_the_oldest_interpreter_here() -> None:
    interpreter = _oldest_interpreter()
    if interpreter is None:
        pytest.skip("no python3.6 to python3.10 on PATH or below PYENV_ROOT")
    requests = [
        {"verb": "identity"},
        {"verb": "clock"},
        {"verb": "namespaces"},
        {"verb": "file", "params": {"path": "/proc/net/dev"}},
        {"verb": "netlink-dump", "params": {"type": 18}},
        {"verb": "tcp-connect", "params": {"address": "127.0.0.1", "port": 1}},
        {"verb": "tls-hello", "params": {"address": "127.0.0.1", "port": 1, "pad_bytes": 3000}},
        {"verb": "tls-exchange", "params": {"address": "127.0.0.1", "port": 1, "alpn": ["h2"]}},
        {"verb": "resolve", "params": {"name": "::1"}},
        {"verb": "command", "params": {"argv": ["ip", "-V"]}},
        {"verb": "docker-get", "params": {"path": "/info", "socket": "/none"}},
    ]
    done = subprocess.run(
        [interpreter, "-B", "-I", "-c", SCRIPT, str(PACKAGE), json.dumps(requests)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["version"] < [3, 11]
    assert all(name == "netdiag" or name.startswith("netdiag.participant") for name in report["modules"])
    for request, answer in zip(requests, report["answers"], strict=True):
        if request["verb"] == "docker-get":
            assert answer["error"]["kind"] == "missing"
        elif request["verb"] == "command":
            assert "data" in answer or answer["error"]["kind"] == "missing"
        else:
            assert "data" in answer, (request, answer)


SERVES = """
import sys, types
package = types.ModuleType("netdiag")
package.__path__ = [sys.argv[1]]
sys.modules["netdiag"] = package
from netdiag.participant.guard import Guard
from netdiag.participant.sealed import SERVE, Key, SealedError, dial
from netdiag.participant.stream import serve
try:
    channel = dial("127.0.0.1", int(sys.argv[2]), Key.parse(sys.stdin.read()), SERVE, 10.0)
except SealedError as error:
    sys.exit(str(error))
serve(channel, Guard(channel.peer).answer)
"""


def test_it_dials_a_listener_and_serves_under_the_oldest_interpreter_here() -> None:
    interpreter = _oldest_interpreter()
    if interpreter is None:
        pytest.skip("no python3.6 to python3.10 on PATH or below PYENV_ROOT")
    listener = Listener("127.0.0.1", 0, ASK, print)
    with subprocess.Popen(
        [interpreter, "-B", "-I", "-c", SERVES, str(PACKAGE), str(listener.port)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(listener.key.text())
        process.stdin.close()
        try:
            carrier = await_peer(listener, 15)
        except CarrierError:
            process.wait(10)
            said = process.stderr.read()
            if "has no TLS 1.3" in said:
                pytest.skip(said.strip())
            raise AssertionError(said) from None
        with carrier:
            clock, shadow, names = carrier.ask(
                [Request("clock"), Request("file", {"path": "/etc/shadow"}), Request("netlink-dump", {"type": 18})]
            )
        assert clock.data is not None
        assert shadow.error is not None
        assert names.data is not None
        assert process.wait(10) == 0
        assert process.stderr.read() == ""


def test_the_participant_needs_the_standard_library_only() -> None:
    """Imports at any depth: standard library of Python 3.6, or the participant itself."""
    allowed = re.compile(
        r"array|base64|contextlib|ctypes|errno|fcntl|glob|hashlib|hmac|http(\.client)?|ipaddress|json|os|platform|re|select|shutil|signal|socket|ssl|stat"
        r"|struct|subprocess|sys|syslog|threading|time|typing|urllib\.parse|netdiag\.participant(\.\w+)?"
    )
    for path in sorted((PACKAGE / "participant").glob("*.py")):
        for module in re.findall(r"^\s*(?:from|import) ([\w.]+)", path.read_text(), re.MULTILINE):
            assert allowed.fullmatch(module), (path.name, module)
