"""The command that a yes ends with can be pasted as it stands."""

import datetime as dt

import pytest

from netdiag.cli.preflight_asked import Asked
from netdiag.cli.preflight_run import judge
from tests.unit.checks.factory import MANAGER, OTHER, TOKEN, blocked, context, probe


def command(asked, *probes):
    ctx = context(*probes)
    targets = tuple((one.given, one.address, 2377) for one in probes)
    started = dt.datetime.fromtimestamp(0, dt.UTC)
    steps = judge(asked, ctx.facts, ctx.observed, targets, started=started, duration_s=0.1).next
    return next(step.command for step in steps if step.command.startswith("docker swarm join "))


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        pytest.param({"token_in_environment": True}, '"$NETDIAG_TOKEN"', id="the variable"),
        pytest.param({"token_file": "worker.token"}, '"$(cat worker.token)"', id="a file"),
        pytest.param({}, "TOKEN", id="an option, which is in no variable"),
        pytest.param({"token_file": "-"}, "TOKEN", id="standard input"),
    ],
)
def test_the_token_is_named_where_the_shell_has_it(fields, shown):
    asked = Asked(managers=(MANAGER,), token=TOKEN, **fields)
    assert command(asked, probe()) == f"docker swarm join --token {shown} {MANAGER}:2377"


def test_the_manager_that_answers_is_the_one_to_join():
    dead = blocked(given=OTHER, address=OTHER)
    assert command(Asked(managers=(OTHER, MANAGER)), dead, probe()).endswith(f" {MANAGER}:2377")
