"""All checks together: their pages, a clean host, and hosts of which nothing is known."""

import importlib
import pkgutil

import msgspec
import pytest

import netdiag.checks
from netdiag.checks.context import Context, Options
from netdiag.checks.registry import CHECKS, PREFLIGHT, VERIFY, run
from netdiag.model.facts import Facts, Section
from netdiag.model.report import Answer, Need, State
from netdiag.report.assemble import build_report
from tests.unit.checks.factory import context, joining, manager_engine, node, probe


def report(found, need=Need.JOIN):
    return build_report(command="x", host="h", started="2026-01-01T00:00:00Z", duration_s=0, found=found, question=need)


def test_there_are_many_and_their_ids_are_unique():
    for group in (PREFLIGHT, VERIFY):
        assert len({check.id for check in group}) == len(group)
    assert len(CHECKS) >= 48


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_every_check_explains_itself(check):
    assert check.title
    assert not check.title.endswith(".")
    assert len(check.explains) > 40
    assert check.remedy.endswith(".")
    assert set(check.needs) <= set(Facts.__struct_fields__)


def test_every_module_with_checks_is_registered():
    for info in pkgutil.iter_modules(netdiag.checks.__path__):
        module = importlib.import_module(f"netdiag.checks.{info.name}")
        if info.name != "registry":
            for check in getattr(module, "CHECKS", ()):
                assert CHECKS[check.id] is check


def test_a_clean_host_joins():
    found = run(PREFLIGHT, joining())
    told = [
        (one.check, one.state, one.answers) for one in found if one.state in (State.FAIL, State.WARN, State.UNKNOWN)
    ]
    assert not [one for one in told if Need.JOIN in one[2]]
    assert {one[1] for one in told} <= {State.UNKNOWN}
    said = report(found)
    assert said.answers == {Need.JOIN: Answer.YES, Need.NAMES: Answer.UNKNOWN, Need.TRAFFIC: Answer.UNKNOWN}
    assert said.verdict is State.OK
    assert said.causes == ()


def test_a_clean_member_leaves_only_what_the_other_side_knows():
    ctx = context(engine=manager_engine(node("host-c", "192.0.2.30")), options={"need": Need.TRAFFIC})
    told = {one.check for one in run(VERIFY, ctx) if one.state not in (State.OK, State.SKIP)}
    assert told == {"swarm.verify.data"}


@pytest.mark.parametrize("absent", [True, False], ids=["nothing collected", "sections without a reason"])
@pytest.mark.parametrize("checks", [PREFLIGHT, VERIFY], ids=["preflight", "verify"])
def test_a_host_of_which_nothing_is_known_gets_no_answer(checks, absent):
    empty = Facts(collected_s=0.0)
    if not absent:
        names = [name for name in Facts.__struct_fields__ if isinstance(getattr(empty, name), Section)]
        empty = msgspec.structs.replace(empty, **{name: Section() for name in names})
    ctx = Context(facts=empty, options=Options(managers=("192.0.2.10",)))
    found = run(checks, ctx)
    assert not [one.reason for one in found if "the check itself failed" in (one.reason or "")]
    assert {one.state for one in found} <= {State.UNKNOWN, State.SKIP}
    assert set(report(found).answers.values()) == {Answer.UNKNOWN}


@pytest.mark.parametrize("section", ["kernel", "sysctls", "links", "sockets", "routes", "firewall", "engine"])
def test_without_a_section_traffic_is_no_yes(section):
    found = run(PREFLIGHT, joining(**{section: Section()}))
    decided = [one for one in found if one.check != "swarm.peer.inbound"]
    assert any(one.answers.get(Need.TRAFFIC) is Answer.UNKNOWN for one in decided)


def test_a_check_that_fails_costs_the_operator_only_itself():
    def faulty(ctx):
        raise ZeroDivisionError
        yield

    broken = msgspec.structs.replace(CHECKS["host.name"], evaluate=faulty)
    first, second = run([broken, CHECKS["host.platform"]], joining())
    assert (first.state, first.answers) == (State.UNKNOWN, dict.fromkeys(Need, Answer.UNKNOWN))
    assert "ZeroDivisionError" in first.reason
    assert second.state is State.OK


def test_what_is_ignored_warns_and_answers_nothing():
    ctx = joining(engine=msgspec.structs.replace(joining().facts.engine.value, live_restore=True))
    check = CHECKS["swarm.engine.live-restore"]
    (one,) = run([check], ctx, ignored=[check.id])
    assert (one.state, one.answers) == (State.WARN, {})
    assert "ignored" in one.summary


def test_probes_that_were_never_sent_leave_the_join_open():
    ctx = context(options={"managers": ("192.0.2.10",)})
    assert report(run(PREFLIGHT, ctx)).answers[Need.JOIN] is Answer.UNKNOWN


def test_evidence_and_objects_are_data():
    for one in run(PREFLIGHT, context(probe(tls=None), engine=manager_engine())):
        msgspec.json.encode(one)
