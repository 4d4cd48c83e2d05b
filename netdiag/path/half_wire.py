"""A half as the small JSON value that a pasted answer holds, and back; what comes in is not trusted to be well-formed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from netdiag.causes import CATALOGUE, cause
from netdiag.model.facts import HOST
from netdiag.model.half import Half, HalfCount, HalfEnd, HalfFlow, HalfPlace, HalfRound, Outcome, Told
from netdiag.model.path import Side, Stage
from netdiag.model.report import Confidence, Evidence, Remedy

_SIDES, _STAGES, _OUTCOMES, _SURE = list(Side), list(Stage), list(Outcome), list(Confidence)
_MOST_TEXT, _MOST_ROWS = 512, 16
_CUT = "…"
_SHORT_TEXT, _SHORT_NAME, _SHORTEST = 48, 24, 12
_IDENTIFYING = ("kind", "backend", "namespace", "family", "table", "chain", "number", "policy", "text")
"""What of a rule is kept when there is little room."""


def half_value(half: Half) -> list[Any]:
    """What JSON can say of it."""
    flow = half.flow
    return [
        _SIDES.index(half.side),
        _shown(half.host),
        [flow.source, flow.destination, flow.protocol, flow.port],
        half.within_s,
        [
            [_STAGES.index(place.stage), _namespace_value(place.namespace, half.end), _shown(place.device)]
            for place in half.places
        ],
        [_round_value(each) for each in half.rounds],
        [_told_value(each) for each in half.told],
        half.more,
        _shown(half.listens),
        _shown(half.hidden),
        _end_value(half.end),
        _shown(half.why),
    ]


def _namespaces(end: HalfEnd) -> list[str]:
    """What most places of an overlay are in, which is said by a number."""
    return [HOST, f"container:{end.container}", f"overlay:{end.network}"]


def _namespace_value(namespace: str, end: HalfEnd | None) -> str | int:
    known = _namespaces(end) if end is not None else []
    return known.index(namespace) if namespace in known else _shown(namespace)


def _end_value(end: HalfEnd | None) -> list[Any] | None:
    if end is None:
        return None
    return [_shown(end.container), _shown(end.network), end.host_address, end.towards, end.vxlan_port]


def _round_value(one: HalfRound) -> list[Any]:
    return [
        one.due_s,
        [[each.there, each.back, each.refused] if each.watched else [] for each in one.counts],
        _OUTCOMES.index(one.outcome) if one.outcome is not None else None,
        _shown(one.detail),
        one.rtt_us,
        one.echo_arrived,
        one.late_ms,
    ]


def _told_value(told: Told) -> list[Any]:
    one = told.cause
    thing = {
        key: value if isinstance(value, int) else _shown(value)
        for key, value in one.object.items()
        if isinstance(value, int | str)
    }
    remedy = one.remedy[0] if one.remedy and _is_shown(one.remedy[0]) else None
    return [
        one.code,
        _SURE.index(one.confidence),
        told.ahead,
        thing,
        list(remedy.commands) if remedy is not None else [],
        list(remedy.undo) if remedy is not None else [],
    ]


def _shown(text: str) -> str:
    """As it may be said: what others wrote into a rule is not always for a terminal."""
    clean = "".join(one if one.isprintable() else "?" for one in text)
    return _cut(clean, _MOST_TEXT)


def _is_shown(remedy: Remedy) -> bool:
    """Whether every command can be carried as it is: one that is cut or cleaned would be another one."""
    return all(_shown(command) == command for command in (*remedy.commands, *remedy.undo))


def shrunk(half: Half) -> Iterator[Half]:
    """The half as it is, then with less and less: for a place that holds little. The last holds hardly more than counts."""
    yield half
    told = tuple(msgspec.structs.replace(each, cause=_without_remedy(each)) for each in half.told)
    yield (half := msgspec.structs.replace(half, told=told, why=_cut(half.why, _SHORT_TEXT)))
    yield (half := msgspec.structs.replace(half, rounds=tuple(_brief(each) for each in half.rounds)))
    while len(half.told) > 1:
        yield (half := msgspec.structs.replace(half, told=half.told[:-1], more=half.more + 1))
    told = tuple(msgspec.structs.replace(each, cause=_short_object(each)) for each in half.told)
    yield (half := msgspec.structs.replace(half, told=told))
    half = msgspec.structs.replace(
        _short_names(half, _SHORT_NAME),
        listens=_cut(half.listens, _SHORT_NAME),
        hidden=_cut(half.hidden, _SHORT_NAME),
        why=_cut(half.why, _SHORT_NAME),
        host=_cut(half.host, _SHORT_NAME),
    )
    yield half
    yield (half := msgspec.structs.replace(half, told=(), more=half.more + len(half.told)))
    # The other side may have been there in either; a round in which it was heard is the better one.
    heard = [each for each in half.rounds if each.heard()]
    yield (half := msgspec.structs.replace(half, rounds=(heard or half.rounds)[:1], listens="", hidden="", why=""))
    yield msgspec.structs.replace(_short_names(half, _SHORTEST, devices=True), host=_cut(half.host, _SHORTEST))


def _short_names(half: Half, most: int, *, devices: bool = False) -> Half:
    """With the names of namespaces cut, and of the end that some of them are called after."""
    end, renamed = half.end, {}
    if end is not None:
        short = msgspec.structs.replace(end, container=_cut(end.container, most), network=_cut(end.network, most))
        renamed, end = dict(zip(_namespaces(end), _namespaces(short), strict=True)), short
    places = [
        msgspec.structs.replace(
            each,
            namespace=renamed.get(each.namespace) or _cut(each.namespace, most),
            device=_cut(each.device, most) if devices else each.device,
        )
        for each in half.places
    ]
    return msgspec.structs.replace(half, end=end, places=tuple(places))


def _without_remedy(told: Told) -> Any:  # noqa: ANN401 - replace() loses the type
    return msgspec.structs.replace(told.cause, remedy=())


def _short_object(told: Told) -> Any:  # noqa: ANN401 - replace() loses the type
    kept = {key: value for key, value in told.cause.object.items() if key in _IDENTIFYING}
    kept = {key: _cut(value, _SHORT_TEXT) if isinstance(value, str) else value for key, value in kept.items()}
    return msgspec.structs.replace(told.cause, object=kept)


def _brief(one: HalfRound) -> HalfRound:
    return msgspec.structs.replace(one, detail="", rtt_us=None)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + _CUT


# --- and back ---


def half_from_value(value: object) -> Half:
    """The half that another side's answer holds. Raises ValueError for what is none."""
    try:
        return _half(value)
    except (TypeError, ValueError, KeyError, IndexError, OverflowError) as error:
        raise ValueError(f"no half of a diagnosis: {type(error).__name__}") from None


def _half(value: Any) -> Half:  # noqa: ANN401 - whatever JSON held
    side, host, flow, within_s, places, rounds, told, more, listens, hidden, end, why = _list(value)
    name = _text(host)
    source, destination, protocol, port = _list(flow)
    if protocol not in ("tcp", "udp", "icmp"):
        raise ValueError("protocol")
    tunnels = None if end is None else _end(end)
    found = tuple(_place(each, tunnels) for each in _list(places))
    return Half(
        side=_SIDES[_number(side, most=1)],
        host=name,
        flow=HalfFlow(
            source=_text(source),
            destination=_text(destination),
            protocol=protocol,
            port=None if port is None else _number(port, most=65535),
        ),
        within_s=_number(within_s, most=3600),
        places=found,
        rounds=tuple(_round(each, len(found)) for each in _list(rounds)),
        told=tuple(_told(each, name, affects=_affected(end, len(found))) for each in _list(told)),
        more=_number(more),
        listens=_text(listens),
        hidden=_text(hidden),
        end=tunnels,
        why=_text(why),
    )


def _affected(end: Any, places: int) -> str:  # noqa: ANN401
    """What a cause of a half breaks."""
    if end is not None:
        return "overlay data"
    return "published ports" if places > 1 else "host traffic"


def _end(value: Any) -> HalfEnd:  # noqa: ANN401
    container, network, host_address, towards, vxlan_port = _list(value)
    return HalfEnd(
        container=_text(container),
        network=_text(network),
        host_address=_text(host_address),
        towards=_text(towards),
        vxlan_port=_number(vxlan_port, least=1, most=65535),
    )


def _place(value: Any, end: HalfEnd | None) -> HalfPlace:  # noqa: ANN401
    stage, namespace, device = _list(value)
    if end is not None and not isinstance(namespace, str):
        namespace = _namespaces(end)[_number(namespace, most=2)]
    return HalfPlace(
        stage=_STAGES[_number(stage, most=len(_STAGES) - 1)], namespace=_text(namespace), device=_text(device)
    )


def _round(value: Any, places: int) -> HalfRound:  # noqa: ANN401
    due_s, counts, outcome, detail, rtt_us, echo_arrived, late_ms = _list(value)
    rows = [_count(each) for each in _list(counts)]
    if len(rows) != places or echo_arrived not in (None, True, False):
        raise ValueError("counts")
    return HalfRound(
        due_s=_number(due_s, most=1 << 40),
        counts=tuple(rows),
        outcome=None if outcome is None else _OUTCOMES[_number(outcome, most=len(_OUTCOMES) - 1)],
        detail=_text(detail),
        rtt_us=None if rtt_us is None else _number(rtt_us),
        echo_arrived=echo_arrived,
        late_ms=None if late_ms is None else _number(late_ms, least=-(1 << 40), most=1 << 40),
    )


def _count(value: Any) -> HalfCount:  # noqa: ANN401
    row = _list(value)
    if not row:
        return HalfCount(watched=False)
    there, back, refused = row
    return HalfCount(_number(there), _number(back), _number(refused))


def _told(value: Any, host: str, *, affects: str) -> Told:  # noqa: ANN401
    code, sure, ahead, thing, commands, undo = _list(value)
    if code not in CATALOGUE or not isinstance(ahead, bool) or not isinstance(thing, dict):
        raise ValueError("cause")
    named = {_text(key): each if isinstance(each, int) else _text(each) for key, each in thing.items()}
    heals = tuple(_text(each) for each in _list(commands))
    remedy = Remedy(
        host=host, summary=f"as {host} proposes it", commands=heals, undo=tuple(_text(each) for each in _list(undo))
    )
    made = cause(
        code,
        host=host,
        object=named,
        confidence=_SURE[_number(sure, most=len(_SURE) - 1)],
        explanation=f"{host} found it on itself, and says so in the answer that was pasted.",
        evidence=(Evidence("pasted", _said(named)),),
        affects=(affects,),
        remedy=(remedy,) if heals else (),
    )
    return Told(cause=made, ahead=ahead)


def _said(thing: dict[str, Any]) -> str:
    text = thing.get("text")
    return str(text) if text else ", ".join(f"{key} {value}" for key, value in thing.items())


def _list(value: Any) -> Sequence[Any]:  # noqa: ANN401
    if not isinstance(value, list) or len(value) > _MOST_ROWS:
        raise ValueError("list")
    return value


def _text(value: Any) -> str:  # noqa: ANN401
    if not isinstance(value, str) or len(value) > _MOST_TEXT or not value.isprintable():
        raise ValueError("text")
    return value


def _number(value: Any, *, least: int = 0, most: int = 1 << 32) -> int:  # noqa: ANN401
    if type(value) is not int or not least <= value <= most:
        raise ValueError("number")
    return value
