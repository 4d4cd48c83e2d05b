"""What goes on between two requests: a thread that watches sockets until it is stopped or its time is up."""

import os
import select
import threading
import time
from typing import Any, Callable, Dict, List, Optional

from netdiag.participant.errors import MISSING, VerbError

MOST_SECONDS = 120.0
_DRAIN_S = 0.5

_lock = threading.Lock()
_running: Dict[str, "Running"] = {}


class Running:
    """Calls ``read(descriptor)`` for whatever can be read, in a thread of its own, and ``close()`` at the end.

    It ends with `stop`, after ``seconds``, and with its process.
    """

    def __init__(
        self, descriptors: List[int], read: Callable[[int], None], close: Callable[[], None], seconds: float
    ) -> None:
        self._descriptors = descriptors
        self._read = read
        self._close = close
        self._end_s = time.monotonic() + min(seconds, MOST_SECONDS)
        self._stop_read, self._stop_write = os.pipe()
        self._pipe = threading.Lock()
        self._closed = False
        self.identity = os.urandom(8).hex()
        self.result: Callable[[], Dict[str, Any]] = dict
        with _lock:
            _running[self.identity] = self
        self._thread = threading.Thread(target=self._run, name="netdiag-running", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        poller = select.poll()
        for descriptor in [*self._descriptors, self._stop_read]:
            poller.register(descriptor, select.POLLIN)
        stopped = False
        while True:
            left_ms = 0 if stopped else max(0, int((self._end_s - time.monotonic()) * 1000))
            ready = [descriptor for descriptor, _ in poller.poll(left_ms)]
            if self._stop_read in ready:
                stopped = True  # once more: what has arrived is read
                poller.unregister(self._stop_read)
                ready.remove(self._stop_read)
                if not ready:
                    continue
            for descriptor in ready:
                self._read(descriptor)
            if not ready or time.monotonic() > self._end_s + 1.0:
                break
        with _lock:
            _running.pop(self.identity, None)
        self._close()
        with self._pipe:
            self._closed = True
            os.close(self._stop_read)
            os.close(self._stop_write)

    def drain(self) -> None:
        """Wait until the reader has taken what the kernel holds for it."""
        poller = select.poll()
        for descriptor in self._descriptors:
            poller.register(descriptor, select.POLLIN)
        end_s = time.monotonic() + _DRAIN_S
        while poller.poll(0) and time.monotonic() < end_s:
            time.sleep(0.001)

    def end(self) -> None:
        """Stop it, and wait until everything is closed."""
        with self._pipe:
            if not self._closed:  # once its time is up, the number of the descriptor is somebody else's
                os.write(self._stop_write, b"\0")
        self._thread.join(2.0)


def result(params: Dict[str, Any], what: str) -> Dict[str, Any]:
    """What the one with the request's ``id`` has seen; it ends unless ``keep`` is set.

    Raises VerbError missing when it has ended already, or never was.
    """
    identity = str(params.get("id"))
    with _lock:
        found: Optional[Running] = _running.get(identity)
        if found is not None and not params.get("keep"):
            del _running[identity]
    if found is None:
        raise VerbError(MISSING, "{}: there is none of this id (any more)".format(what))
    if params.get("keep"):
        found.drain()
    else:
        found.end()
    return found.result()
