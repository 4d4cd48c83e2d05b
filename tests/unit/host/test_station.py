"""One side of an examination takes in what its participant tells, and tells apart none from not read."""

from netdiag.host.station import Station
from netdiag.model.facts import AbsenceKind
from netdiag.model.wire import Answer, WireError
from tests.unit.checks.factory import facts

BROKEN = Answer(error=WireError(AbsenceKind.TIMEOUT, "no answer"))
BOUND = {"proto": "udp", "port": 4789, "bound": True, "errno": 0, "error": ""}


class Told:
    """A carrier that gives each verb its prepared answers in turn; the last one stays."""

    def __init__(self, **answers):
        self._answers = {verb.replace("_", "-"): list(each) for verb, each in answers.items()}
        self.asked = []

    def ask(self, requests):
        self.asked += requests
        return [self._next(request.verb) for request in requests]

    def _next(self, verb):
        left = self._answers.get(verb, [BROKEN])
        answer = left.pop(0) if len(left) > 1 else left[0]
        return answer if isinstance(answer, Answer) else Answer(data=answer)


def got(*numbers):
    rows = [{"number": number, "source": "192.0.2.1", "sport": 1, "t_us": 1} for number in numbers]
    return {"ports": [{"proto": "udp", "port": 4789, "got": rows, "others": 0}]}


def armed(**answers):
    carrier = Told(
        capture_start=[{"id": "c", "points": [{"name": "eth0", "error": ""}]}],
        bind_port=[{"id": "b", "ports": [BOUND]}],
        clock=[{"unix_ns": 1, "monotonic_ns": 1}],
        **answers,
    )
    station = Station("two", carrier, facts(), "a1b2c3d4")
    station.arm(
        ports=[("udp", 4789)], devices=["eth0"], addresses=["192.0.2.20"], peers=["192.0.2.10"], seconds=9.0, frames=9
    )
    return station


NO_FRAMES = {"points": [{"name": "eth0", "error": "", "frames": [], "more": 0, "dropped": 0}]}


def test_none_is_none_only_where_the_last_look_could_read():
    station = armed(release_port=[got(1, 1), BROKEN, got(1, 1, 2)], capture_read=[NO_FRAMES, BROKEN, NO_FRAMES])
    station.look()
    assert (station.passed(1), station.passed(2), station.unread()) == (2, 0, "")
    assert station.seen(1, out=False, answer=False) == 0
    station.look()
    assert (station.passed(1), station.passed(2), station.unread()) == (2, None, "two: no answer")
    assert station.seen(1, out=False, answer=False) is None
    station.look()
    assert (station.passed(1), station.passed(2), station.unread()) == (2, 1, "")
    assert station.seen(1, out=False, answer=False) == 0


def test_counts_never_go_back():
    station = armed(release_port=[got(1, 1, 2), got(1)], capture_read=[NO_FRAMES])
    station.look()
    station.look()
    assert (station.passed(1), station.passed(2)) == (2, 1)


def test_whoever_still_answers_anything_is_not_gone():
    station = armed(release_port=[BROKEN], capture_read=[BROKEN])
    station.look()
    assert station.gone() == ""
