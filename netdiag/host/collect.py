"""Collecting a host's facts: every section in a thread of its own, with its own time-out, none waiting in vain."""

from __future__ import annotations

import os
import queue
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import netdiag
from netdiag.facts.assemble import context_of, facts_of, failed, timed
from netdiag.facts.bundle import Bundle, Collection, Ended
from netdiag.facts.context import Options
from netdiag.facts.sections import SECTIONS, with_needed
from netdiag.host.drive import Carrier, Recorder, drive
from netdiag.model.facts import Absence, AbsenceKind, Facts, Section

DEADLINE_S = 25.0
"""The longest that collecting takes, whatever hangs."""
GRACE_S = 0.6
"""How much longer than its requests a section may take: they should have ended by themselves."""


_ETCD_VARIABLES = (
    "ETCD_AUTHORITY",
    "ETCD_ENDPOINTS",
    "ETCD_SCHEME",
    "ETCD_CA_CERT_FILE",
    "ETCD_CERT_FILE",
    "ETCD_KEY_FILE",
)


def local_options(
    *, docker_socket: str | None = None, load_modules: bool = False, let_remember: bool = False
) -> Options:
    """Options with what this process's environment says: DOCKER_HOST (unix sockets only) and ETCD_*, no password."""
    host = os.environ.get("DOCKER_HOST", "")
    etcd = {name: re.sub(r"//[^/@]*@", "//", os.environ[name]) for name in _ETCD_VARIABLES if os.environ.get(name)}
    return Options(
        docker_socket=docker_socket or (host if host.startswith("unix://") else None),
        load_modules=load_modules,
        let_remember=let_remember,
        etcd=etcd,
    )


def collect(
    carrier: Carrier,
    names: Sequence[str] = (),
    *,
    now_s: float,
    options: Options | None = None,
    deadline_s: float = DEADLINE_S,
    progress: Callable[[str], None] | None = None,
) -> Facts:
    """The facts of one host; only the sections in ``names`` when some are named.

    Args:
        carrier: Whom to ask.
        names: Sections; those that they depend on are read as well, and left out of the result.
        now_s: Unix time, for ``collected_s``.
        options: What the operator chose.
        deadline_s: Sections that are not done by then are given up.
        progress: Told the name of each section when it has ended.

    Raises UsageError for a name that is no section. What a host cannot tell never raises: that section is absent.
    """
    return _Run(carrier, tuple(names), options or Options(), deadline_s, progress).facts(now_s)


def collect_bundle(
    carrier: Carrier,
    names: Sequence[str] = (),
    *,
    now_s: float,
    purpose: str = "collect",
    options: Options | None = None,
    deadline_s: float = DEADLINE_S,
    progress: Callable[[str], None] | None = None,
) -> tuple[Facts, Bundle]:
    """`collect`, with the answers that it rests on. A `Recorder` as ``carrier`` adds what else it has recorded."""
    options = options or Options()
    recorder = carrier if isinstance(carrier, Recorder) else Recorder(carrier)
    run = _Run(recorder, tuple(names), options, deadline_s, progress)
    facts = run.facts(now_s)
    collection = Collection(
        collected_s=facts.collected_s,
        duration_s=facts.duration_s,
        names=tuple(names),
        docker_socket=options.docker_socket,
        load_modules=options.load_modules,
        etcd=dict(options.etcd),
        ended=run.ended(),
    )
    bundle = Bundle(
        tool=netdiag.version(), created_s=now_s, purpose=purpose, collection=collection, answers=recorder.answers()
    )
    return facts, bundle


class _Run:
    """One collection: sections start when those that they wait for have ended, however they ended."""

    def __init__(
        self,
        carrier: Carrier,
        names: tuple[str, ...],
        options: Options,
        deadline_s: float,
        progress: Callable[[str], None] | None,
    ) -> None:
        self._carrier = carrier
        self._names = names or tuple(SECTIONS)
        self._waiting = list(with_needed(names))
        self._options = options
        self._deadline_s = deadline_s
        self._progress = progress
        self._started_s: dict[str, float] = {}
        self._done: dict[str, Section[Any]] = {}
        self._given_up: set[str] = set()
        self._ended: queue.SimpleQueue[tuple[str, Section[Any]]] = queue.SimpleQueue()

    def facts(self, now_s: float) -> Facts:
        """Read all sections and put them together."""
        begin_s = time.monotonic()
        end_s = begin_s + self._deadline_s
        while self._waiting or self._started_s:
            self._start_ready()
            due_s = min([end_s, *(start + self._patience(name) for name, start in self._started_s.items())])
            try:
                name, section = self._ended.get(timeout=max(0.0, due_s - time.monotonic()))
            except queue.Empty:
                self._give_up(time.monotonic(), end_s)
                continue
            if name in self._started_s:
                self._finish(name, section)
        duration_s = time.monotonic() - begin_s
        return facts_of(self._done, names=self._names, collected_s=now_s, duration_s=duration_s)

    def ended(self) -> dict[str, Ended]:
        """How each section went."""
        return {
            name: Ended(duration_s=section.duration_s, given_up=section.absent if name in self._given_up else None)
            for name, section in self._done.items()
        }

    def _patience(self, name: str) -> float:
        return SECTIONS[name].timeout_s + GRACE_S

    def _start_ready(self) -> None:
        for name in list(self._waiting):
            if all(needed in self._done for needed in SECTIONS[name].after):
                self._waiting.remove(name)
                self._started_s[name] = time.monotonic()
                threading.Thread(target=self._read, args=(name,), name=f"netdiag-{name}", daemon=True).start()

    def _read(self, name: str) -> None:
        try:
            section = drive(SECTIONS[name].gather(context_of(self._options, dict(self._done))), self._carrier)
        except Exception as error:  # noqa: BLE001 - a fault in one section's decoder must not cost the others
            section = failed(name, error)
        self._ended.put((name, section))

    def _finish(self, name: str, section: Section[Any]) -> None:
        self._done[name] = timed(section, time.monotonic() - self._started_s.pop(name))
        if self._progress is not None:
            self._progress(name)

    def _give_up(self, now_s: float, end_s: float) -> None:
        """End what has run out of time; when all time is up, also what has not begun."""
        for name, start_s in list(self._started_s.items()):
            if now_s >= end_s or now_s >= start_s + self._patience(name):
                text = f"section {name}: not done within {now_s - start_s:.1f} s"
                self._given_up.add(name)
                self._finish(name, Section(absent=Absence(kind=AbsenceKind.TIMEOUT, text=text)))
        if now_s >= end_s:
            for name in self._waiting:
                text = f"section {name}: not begun within {self._deadline_s:g} s"
                self._given_up.add(name)
                self._done[name] = Section(absent=Absence(kind=AbsenceKind.TIMEOUT, text=text))
            self._waiting.clear()
