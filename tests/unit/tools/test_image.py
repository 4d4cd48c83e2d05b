"""The container image's own decisions; that it runs is for the lab to say."""

import ast
import tarfile
from io import BytesIO

import pytest

from netdiag.cli import COMMANDS
from netdiag.lab.root import CHECKOUT
from tools.image import enter
from tools.image.contents import UNUSED_WHEELS
from tools.image.inputs import LEFT_OUT, dependencies
from tools.image.layers import layer

OF_A_HOST = [["facts"], ["preflight", "swarm", "--manager", "192.0.2.1"], ["--verbose", "diagnose", "a", "b"], ["lab"]]
OF_NONE = [
    [],
    ["--version"],
    ["--help"],
    ["facts", "--help"],
    ["preflight", "swarm", "-h"],
    ["explain", "firewall.rule"],
]


@pytest.mark.parametrize("words", OF_A_HOST, ids=" ".join)
def test_commands_that_look_at_a_host(words):
    assert enter.looks_at_host(words)


@pytest.mark.parametrize("words", OF_NONE, ids=" ".join)
def test_commands_that_look_at_none(words):
    assert not enter.looks_at_host(words)


def test_every_command_that_looks_at_no_host_exists():
    assert set(COMMANDS) > enter.ANYWHERE


def test_where_no_namespace_of_another_is_seen(monkeypatch):
    monkeypatch.setattr(enter, "HOST_PID", "self")
    assert "--pid host" in enter.why_not_host()


def imported():
    """The packages that netdiag's own code imports, wherever in a module it does."""
    for path in [*CHECKOUT.glob("netdiag/**/*.py"), *CHECKOUT.glob("agent/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.partition(".")[0]


def test_nothing_is_left_out_that_netdiag_imports():
    used = set(imported())
    assert {"msgspec", "click", "rich"} <= used
    assert not used & {*LEFT_OUT, *UNUSED_WHEELS}


def test_only_what_is_left_out_is_missing():
    declared = (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")
    for name in LEFT_OUT:
        assert f'"{name}>=' in declared
        assert not any(each.startswith(name) for each in dependencies())


def test_a_layer_does_not_show_who_made_it_and_when(tmp_path):
    made = []
    for name in ("one", "other"):
        root = tmp_path / name
        (root / "tmp").mkdir(parents=True)
        (root / "usr").mkdir()
        files = [("usr/b", 0o600), ("usr/a", 0o700)]
        for path, mode in files if name == "one" else reversed(files):
            (root / path).write_text(path)
            (root / path).chmod(mode)
        (root / "link").symlink_to("usr/a")
        made.append(layer(root, 7))
    assert made[0] == made[1]
    with tarfile.open(fileobj=BytesIO(made[0])) as archive:
        members = {member.name: member for member in archive}
    assert list(members) == ["link", "tmp", "usr", "usr/a", "usr/b"]
    assert {member.mtime for member in members.values()} == {7}
    assert {(member.uid, member.gid, member.uname) for member in members.values()} == {(0, 0, "")}
    assert [members[name].mode for name in ("tmp", "usr", "usr/a", "usr/b")] == [0o1777, 0o755, 0o755, 0o644]
