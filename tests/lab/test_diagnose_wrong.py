"""What an operator mistypes and what another host may answer: one clear line each, and never a traceback."""

import sys
from pathlib import Path

import pytest

from netdiag.lab.host import PATH

BIN = Path(sys.prefix) / "bin"
FAKE_SSH = '''#!/usr/bin/env python3
"""Stands for ssh, and behind it for a host that is not what it should be."""
import json, os, sys
kind, out = os.environ["FAKE"], sys.stdout.buffer
GREETING = {"protocol": "netdiag/participant/1", "python": [3, 11, 2], "uid": 0}
ODD = {"capture-start": {"id": 7, "points": 3}, "capture-stop": {"points": [{"name": 1}]},
       "send-probe": {"heard": []}, "trace": {"events": "x"}}
def say(message):
    out.write(json.dumps(message).encode() + b"\\n")
    out.flush()
if kind == "version":
    say({**GREETING, "protocol": "netdiag/participant/99"})
elif kind == "noise":
    out.write(b"\\x1b[2J\\x00\\xff welcome\\n" * 9000)
elif kind == "ends":
    sys.exit(255)
else:
    say(GREETING)
for line in sys.stdin.buffer:
    request = json.loads(line) if line.startswith(b"{") else {}
    if "id" not in request or kind in ("version", "noise"):
        continue
    number, verb = request["id"], request["verb"]
    if kind == "truncated":
        out.write(b'{"id": %d, "data": {"points": [{"na' % number)
        break
    if kind == "escape":
        say({"id": number, "error": {"kind": "failed", "text": "\\x1b[2J\\x1b[1;31mgotcha\\n\\nnetdiag: all is well"}})
    elif kind == "empty":
        say({"id": number, "data": {}, "duration_s": 0})
    elif kind == "odd":
        say({"id": number, "data": ODD.get(verb, {"id": [], "points": 3, "sizes": 1, "messages": "x"}), "duration_s": "y"})
    elif kind == "deep":
        out.write(b'{"id": %d, "data": {"a": %s}}\\n' % (number, b"[" * 50000 + b"]" * 50000))
        out.flush()
    elif kind == "wrong kinds":
        say({"id": number, "data": dict.fromkeys(("addresses", "points", "frames", "sizes", "files", "messages"), None)})
'''


@pytest.fixture(scope="module")
def one(pair_lab):
    host = pair_lab.host("one")
    fake = host.path("/tmp/fake")
    fake.mkdir()
    (fake / "ssh").write_text(FAKE_SSH)
    (fake / "ssh").chmod(0o755)
    return host


def diagnose(host, *words, **env):
    """The exit code and what was said on standard error, which is never a traceback and never steers a terminal."""
    settings = [f"{name}={value}" for name, value in env.items()]
    argv = ["env", *settings, str(BIN / "netdiag"), "diagnose", *words]
    result = host.exec(argv, check=False, timeout_s=90)
    for text in (result.stdout, result.stderr):
        assert "Traceback" not in text
        assert "fault of netdiag itself" not in text, text
        assert "\x1b" not in text
    if result.returncode == 2:
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) == 1
    return result.returncode, result.stderr + result.stdout


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("version", "use the same version"),
        ("noise", "two: "),
        ("ends", "two: "),
        ("truncated", "an answer that is cut"),
    ],
)
def test_a_peer_that_cannot_be_asked(kind, says, one):
    code, said = diagnose(one, "one", "two:9000", "--via", "ssh", FAKE=kind, PATH=f"/tmp/fake:{PATH}:{BIN}")
    assert code == 2, said
    assert says in said


@pytest.mark.parametrize("end", ["one two:9000", "two one:9000"])
@pytest.mark.parametrize("kind", ["empty", "odd", "escape", "deep", "wrong kinds"])
def test_a_peer_that_answers_nonsense(kind, end, one):
    code, said = diagnose(one, *end.split(), "--via", "ssh", FAKE=kind, PATH=f"/tmp/fake:{PATH}:{BIN}")
    assert code in (1, 2, 3), said
    assert "firewall." not in said
    assert "underlay." not in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("one", "two:0"), "1 to 65535"),
        (("one", "two:65536"), "1 to 65535"),
        (("one", "two:80/sctp"), "tcp or udp"),
        (("one", "two:"), "1 to 65535"),
        (("one", ""), "DESTINATION ''"),
        (("one", "two/web/a"), "NAME, HOST/NAME or an address"),
        (("one", "one:80"), "are the same host"),
        (("one", "localhost:80"), "are the same host"),
        (("one", "two:80", "--via", "shs"), "did you mean ssh?"),
        (("one", "two:80", "--via", "ssh:a b"), "give HOST, USER@HOST"),
        (("one", "two:80", "--via", "ssh", "--code", "H9JA-QDA3"), "give one of the two"),
        (("one", "two:80", "--pasted", "nd1:x."), "--code as well"),
        (("one", "two:80", "--code", "1234"), "at least 8"),
        (("one", "two:80", "--watch", "--output", "html"), "table or json"),
    ],
)
def test_what_is_typed_wrongly(words, says, one):
    code, said = diagnose(one, *words)
    assert code == 2, said
    assert says in said


def test_no_ssh_on_this_host(one):
    code, said = diagnose(one, "one", "two:80", "--via", "ssh", PATH="/nowhere")
    assert (code, "there is no ssh on this host" in said) == (2, True), said


@pytest.mark.parametrize(
    ("via", "says"), [("ssh:root@two:23", "nothing takes connections"), ("ssh:no.such.invalid", "no such name")]
)
def test_a_host_that_does_not_let_in(via, says, one, ssh_pair):
    code, said = diagnose(one, "one", "two:80", "--via", via)
    assert code == 2, said
    assert says in said


def test_a_host_that_knows_another_key(one, ssh_pair):
    key = "/root/.ssh/lab_two"
    one.exec(["mv", key, f"{key}.away"])
    try:
        code, said = diagnose(one, "one", "two:80", "--via", "ssh")
    finally:
        one.exec(["mv", f"{key}.away", key])
    assert (code, "ssh-copy-id" in said) == (2, True), said
