"""The other side of a byte stream, as hostile or as broken as a test wants it."""

import contextlib
import json
import os
import threading

from netdiag.carrier.stream import StreamCarrier
from netdiag.participant.stream import PROTOCOL

GREETING = {"protocol": PROTOCOL, "python": [3, 11, 7], "uid": 0}


class FarEnd:
    """Two pipes: what the carrier writes is heard here, what is said here is read there."""

    def __init__(self):
        here, self._to_carrier = os.pipe()
        self._from_carrier, there = os.pipe()
        self.source, self.target = os.fdopen(here, "rb"), os.fdopen(there, "wb")
        self._heard = os.fdopen(self._from_carrier, "rb")
        self.closed = 0
        self._ending = threading.Lock()

    def say(self, *messages, last=False):
        """Objects as lines of JSON, bytes as they are; ``last``: then the stream breaks off.

        In a thread, as a pipe holds only so much.
        """
        data = b"".join(each if isinstance(each, bytes) else json.dumps(each).encode() + b"\n" for each in messages)

        def write():
            with contextlib.suppress(OSError):
                view = memoryview(data)
                while view:
                    view = view[os.write(self._to_carrier, view) :]
            if last:
                self.end()

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        return thread

    def hear(self):
        """The next request, pings apart; None at the end."""
        while line := self._heard.readline():
            message = json.loads(line)
            if "ping" not in message:
                return message
        return None

    def hear_bytes(self, count):
        return self._heard.read(count)

    def end(self):
        """The stream breaks off."""
        with self._ending:  # the thread that says the last words and the carrier may both end it
            if self._to_carrier >= 0:
                os.close(self._to_carrier)
                self._to_carrier = -1

    def close(self):
        """What ends the carrier's side, as the end of ssh does."""
        self.closed += 1
        self.end()
        with contextlib.suppress(OSError):
            self._heard.close()

    def tidy(self):
        """Close whatever no carrier has closed."""
        self.close()
        for each in (self.source, self.target):
            with contextlib.suppress(OSError):
                each.close()

    def carrier(self, *greeting, greet_s=5.0, **kwargs):
        self.say(*(greeting or (GREETING,)))
        return StreamCarrier("far", self.source, self.target, greet_s=greet_s, close=self.close, **kwargs)
