"""Running rounds on this machine, and driving readings over any carrier."""

import threading
import time
from typing import Any

import pytest

from netdiag.host import LocalHost, Recorder, Replay, drive, drive_all
from netdiag.model.facts import AbsenceKind
from netdiag.model.wire import Answer, Gather, Request, WireError, answer_from_values, values_from_answer


def _slow(request: dict[str, Any]) -> dict[str, Any]:
    time.sleep(request["params"].get("sleep_s", 0.0))
    return {"data": {"n": request["params"]["n"], "thread": threading.get_ident()}, "duration_s": 0.0}


def _requests(count: int, **params: Any) -> list[Request]:
    return [Request("x", {"n": number, **params}, timeout_s=1.0) for number in range(count)]


def test_a_round_runs_side_by_side_and_keeps_its_order() -> None:
    start_s = time.monotonic()
    answers = LocalHost(run=_slow).ask(_requests(8, sleep_s=0.2))
    assert time.monotonic() - start_s < 1.4
    assert [answer.data["n"] for answer in answers if answer.data] == list(range(8))


def test_no_more_threads_than_workers() -> None:
    answers = LocalHost(run=_slow, workers=3).ask(_requests(60, sleep_s=0.001))
    assert len({answer.data["thread"] for answer in answers if answer.data}) <= 3


def test_an_empty_round() -> None:
    assert LocalHost().ask([]) == []


def test_a_verb_that_overruns_is_given_up_and_the_rest_goes_on() -> None:
    requests = [
        Request("x", {"n": number, "sleep_s": 30.0 if number < 3 else 0.0}, timeout_s=0.1) for number in range(40)
    ]
    start_s = time.monotonic()
    answers = LocalHost(run=_slow, workers=2).ask(requests)
    assert time.monotonic() - start_s < 15
    assert [answer.error.kind for answer in answers[:3] if answer.error] == [AbsenceKind.TIMEOUT] * 3
    assert [answer.data["n"] for answer in answers[3:] if answer.data] == list(range(3, 40))


def test_an_answer_that_is_none_is_a_failure_not_an_exception() -> None:
    (answer,) = LocalHost(run=lambda request: {"error": {"kind": "nonsense", "text": ""}}).ask(_requests(1))
    assert answer.error is not None
    assert answer.error.kind is AbsenceKind.FAILED


def test_the_real_participant_answers_typed() -> None:
    good, bad = LocalHost().ask([Request("file", {"path": "/proc/net/dev"}), Request("file", {"path": "/nonesuch"})])
    assert good.data is not None
    assert "lo:" in good.data["text"]
    assert bad.error == WireError(AbsenceKind.MISSING, "read /nonesuch: No such file or directory")


@pytest.mark.parametrize(
    "answer",
    [
        Answer(data={"messages": b"\0\xff", "rows": [{"b": b""}]}, duration_s=0.5),
        Answer(error=WireError(AbsenceKind.WITHHELD, "why"), duration_s=0.25),
    ],
)
def test_an_answer_survives_a_bundle(answer: Answer) -> None:
    import json

    assert answer_from_values(json.loads(json.dumps(values_from_answer(answer)))) == answer


def _reading(name: str) -> Gather[list[Any]]:
    (first,) = yield [Request("x", {"n": name})]
    second = yield [Request("x", {"n": number}) for number in range(2)]
    return [answer.data["n"] if answer.data else answer.error for answer in [first, *second]]


def test_what_was_recorded_is_replayed_and_anything_else_was_not_probed() -> None:
    recorder = Recorder(LocalHost(run=_slow))
    assert drive(_reading("a"), recorder) == ["a", 0, 1]
    replay = Replay(recorder.answers())
    assert drive(_reading("a"), replay) == ["a", 0, 1]
    first, *rest = drive(_reading("b"), replay)
    assert isinstance(first, WireError)
    assert first.kind is AbsenceKind.NOT_PROBED
    assert rest == [0, 1]


def test_sections_do_not_cost_each_other() -> None:
    def broken() -> Gather[int]:
        yield [Request("x", {"n": 0})]
        raise LookupError("a table that nobody has seen")

    def hanging() -> Gather[int]:
        yield [Request("x", {"n": 0, "sleep_s": 5.0}, timeout_s=10.0)]
        return 0

    start_s = time.monotonic()
    results = drive_all(
        {"good": _reading("a"), "broken": broken(), "hanging": hanging()}, LocalHost(run=_slow), deadline_s=0.5
    )
    assert time.monotonic() - start_s < 4
    assert list(results) == ["good", "broken", "hanging"]
    assert results["good"].value == ["a", 0, 1]
    assert results["good"].duration_s < 4
    assert results["broken"].error == WireError(
        AbsenceKind.FAILED, "section broken: LookupError: a table that nobody has seen"
    )
    assert results["hanging"].error == WireError(AbsenceKind.TIMEOUT, "section hanging: not done within 0.5 s")
