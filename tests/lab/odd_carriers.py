"""Carriers between a test and a real participant that answer as a sick, a dying or a hostile peer would."""

import time

from netdiag.model.facts import AbsenceKind
from netdiag.model.wire import Answer, WireError

NO_ANSWER = Answer(error=WireError(AbsenceKind.TIMEOUT, "no answer within 3 s"))


class Odd:
    """Answers one verb with something else, from the nth request on."""

    def __init__(self, carrier, verb, first=1, answer=NO_ANSWER):
        self._carrier, self._verb, self._first, self._answer = carrier, verb, first, answer
        self._asked = 0

    def ask(self, requests):
        answers = list(self._carrier.ask(requests))
        for index, request in enumerate(requests):
            if request.verb == self._verb:
                self._asked += 1
                if self._asked >= self._first:
                    answers[index] = self._answer
        return answers


class Dying:
    """Its participant ends when a verb is asked for the nth time, before it is answered."""

    def __init__(self, carrier, verb, count=1):
        self._carrier, self._verb, self._left = carrier, verb, count

    def ask(self, requests):
        self._left -= sum(request.verb == self._verb for request in requests)
        if self._left <= 0:
            self._carrier.close()
        return self._carrier.ask(requests)


class Slow:
    """Far away: each round takes so much longer."""

    def __init__(self, carrier, trip_s):
        self._carrier, self._trip_s = carrier, trip_s

    def ask(self, requests):
        time.sleep(self._trip_s)
        return self._carrier.ask(requests)


class Hanging:
    """Never answers one verb."""

    def __init__(self, carrier, verb):
        self._carrier, self._verb = carrier, verb

    def ask(self, requests):
        if any(request.verb == self._verb for request in requests):
            time.sleep(60)
        return self._carrier.ask(requests)
