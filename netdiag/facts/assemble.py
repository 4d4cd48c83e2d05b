"""From sections that were read to the whole: what each reader may know of the others, and Facts from a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netdiag.facts.bundle import Bundle
from netdiag.facts.context import Context, Options
from netdiag.facts.script_sections import PURPOSE as SCRIPT
from netdiag.facts.script_sections import SCRIPT_SECTIONS
from netdiag.facts.sections import SECTIONS, with_needed
from netdiag.model.facts import Absence, AbsenceKind, Facts, Section
from netdiag.model.wire import Answer, Gather, Request, WireError

NOT_RECORDED = "not probed when the bundle was made"


def context_of(options: Options, done: Mapping[str, Section[Any]]) -> Context:
    """What a reader may know once the sections in ``done`` have ended."""

    def value(name: str) -> Any:  # noqa: ANN401 - each section has a type of its own
        section = done.get(name)
        return section.value if section is not None else None

    return Context(
        options=options,
        namespaces=value("namespaces") or {},
        links=value("links") or {},
        kernel=value("kernel"),
        engine=value("engine"),
    )


def facts_of(
    done: Mapping[str, Section[Any]], *, names: tuple[str, ...], collected_s: float, duration_s: float
) -> Facts:
    """The facts of the sections in ``names``; the others stay absent, as not collected."""
    sections: dict[str, Any] = {name: done[name] for name in names}
    return Facts(collected_s=collected_s, duration_s=duration_s, **sections)


def replay(bundle: Bundle) -> Facts:
    """The facts that a bundle holds: the very ones that were collected when it was made."""
    collection = bundle.collection
    readers = SCRIPT_SECTIONS if bundle.purpose == SCRIPT else SECTIONS
    options = Options(
        docker_socket=collection.docker_socket, load_modules=collection.load_modules, etcd=collection.etcd
    )
    done: dict[str, Section[Any]] = {}
    for name in in_order(with_needed(collection.names)):
        ended = collection.ended.get(name)
        if ended is not None and ended.given_up is not None:
            done[name] = Section(absent=ended.given_up, duration_s=ended.duration_s)
            continue
        section = _answered(readers[name].gather(context_of(options, done)), bundle.answers, name)
        done[name] = timed(section, ended.duration_s if ended is not None else 0.0)
    return facts_of(
        done,
        names=tuple(collection.names) or tuple(SECTIONS),
        collected_s=collection.collected_s,
        duration_s=collection.duration_s,
    )


def timed(section: Section[Any], duration_s: float) -> Section[Any]:
    """The section with the time that reading it took."""
    return Section(value=section.value, absent=section.absent, partial=section.partial, duration_s=duration_s)


def failed(name: str, error: Exception) -> Section[Any]:
    """The section for a reader that raised: a fault in one decoder must not cost the others."""
    text = f"section {name}: {type(error).__name__}: {error}"
    return Section(absent=Absence(kind=AbsenceKind.FAILED, text=" ".join(text.split())))


def in_order(names: tuple[str, ...]) -> list[str]:
    """The names, each after those that it waits for."""
    ordered: list[str] = []
    while len(ordered) < len(names):
        ordered.extend(
            name for name in names if name not in ordered and all(needed in ordered for needed in SECTIONS[name].after)
        )
    return ordered


def _answered(gather: Gather[Section[Any]], answers: Mapping[str, Answer], name: str) -> Section[Any]:
    """Run a reader on recorded answers."""
    try:
        requests = next(gather)
        while True:
            requests = gather.send([answers.get(request.key()) or _not_recorded(request) for request in requests])
    except StopIteration as stop:
        section: Section[Any] = stop.value
        return section
    except Exception as error:  # noqa: BLE001 - as when it was collected
        return failed(name, error)


def _not_recorded(request: Request) -> Answer:
    return Answer(error=WireError(AbsenceKind.NOT_PROBED, f"{request.verb}: {NOT_RECORDED}"))
