"""Verbs that watch one flow at several places of this host: packet sockets with a kernel filter, and nothing else.

Only the headers of the flow that was asked for are taken. The sockets close when they are stopped, when their time is
up, and with this process.
"""

import ctypes
import os
import select
import socket
import struct
import threading
import time
from typing import Any, Dict, List, Optional

from netdiag.participant import capture_filter
from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import FAILED, MISSING, UNSUPPORTED, VerbError, from_os_error
from netdiag.participant.netns import in_netns

MOST_POINTS = 32
MOST_FRAMES, FRAMES_LIMIT = 512, 131072
"""Frames that are kept at one place unless more are asked for, and the most that can be; more are counted."""
MOST_SECONDS = 120.0
_ETH_P_ALL = 0x0003
_SO_RCVBUFFORCE, _FRAME_ROOM_BYTES, _MOST_ROOM_BYTES = 33, 2304, 16 << 20
_SO_ATTACH_FILTER, _SO_TIMESTAMPNS, _SOL_PACKET, _PACKET_STATISTICS = 26, 35, 263, 6
_PACKET_OUTGOING = 4
_NO_HEADER = b"\0" * 12
_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"
_DRAIN_S = 0.5

_libc = ctypes.CDLL(None, use_errno=True)
_lock = threading.Lock()
_captures: Dict[str, "_Capture"] = {}


def capture_start(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """Begin to watch a flow. Answers when every socket is ready.

    Parameters: ``points`` (each with ``name``, ``device``, ``netns``, ``flow``: see `capture_filter.program`, and
    ``frames``: how many are kept). A flow that is known by its ``mark`` may be watched on every device of the namespace
    at once (``device`` is ""), those without a link header too. ``seconds`` (after which it stops by itself, 120 at most). Data: ``id``, and ``points``: for each ``name`` and
    ``error`` ("" where it watches). Errors: permission, missing, failed.
    """
    points = list(params["points"])
    if not points or len(points) > MOST_POINTS:
        raise VerbError(FAILED, "watch {} places: 1 to {}".format(len(points), MOST_POINTS))
    seconds = min(float(params.get("seconds") or 30.0), MOST_SECONDS)
    capture = _Capture([_Point(point, deadline) for point in points], seconds)
    if all(point.error for point in capture.points):
        first = capture.points[0]
        raise VerbError(first.kind, first.error)
    identity = os.urandom(8).hex()
    with _lock:
        _captures[identity] = capture
    capture.begin(identity)
    return {"id": identity, "points": [{"name": point.name, "error": point.error} for point in capture.points]}


def capture_read(params: Dict[str, Any], _deadline: Deadline) -> Dict[str, Any]:
    """What a capture has seen so far; it goes on.

    Parameters: ``id``; ``after``: for each point's name how many of its frames are known already. Data: as for
    ``capture-stop``, with the later frames only. Errors: missing.
    """
    with _lock:
        capture = _captures.get(str(params.get("id")))
    if capture is None:
        raise VerbError(MISSING, "read a capture: there is none of this id (any more)")
    after = params.get("after") or {}
    capture.drain()
    return {"points": [point.row(int(after.get(point.name) or 0)) for point in capture.points]}


def capture_stop(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """End a capture and tell what it saw.

    Parameters: ``id``; ``settle_ms`` (how long it goes on for frames that are on the way; default 0). Data: ``points``:
    for each ``name``, ``error``, ``frames`` (each ``t_us`` since the start, ``out`` (it was sent here), ``device``,
    ``data``: its first bytes, from the Ethernet header on; with a ``mark`` its addresses are left out, zeros), ``more`` (frames that were not kept), ``dropped`` (frames that the kernel could not keep). Errors:
    missing.
    """
    with _lock:
        capture = _captures.pop(str(params.get("id")), None)
    if capture is None:
        raise VerbError(MISSING, "stop a capture: there is none of this id (any more)")
    time.sleep(min(float(params.get("settle_ms") or 0) / 1000.0, deadline.left()))
    return {"points": capture.end()}


class _Point:
    """One packet socket."""

    def __init__(self, params: Dict[str, Any], deadline: Deadline) -> None:
        self.name = str(params.get("name") or params["device"])
        self.error = ""
        self.kind = FAILED
        self.frames: List[Dict[str, Any]] = []
        self.more = 0
        self.dropped = 0
        self._most = min(int(params.get("frames") or MOST_FRAMES), FRAMES_LIMIT)
        self.socket: Optional[socket.socket] = None
        device = str(params["device"])
        flow = dict(params["flow"])
        self._from_network = bool(flow.get("mark"))
        try:
            if not device and not self._from_network:
                raise VerbError(UNSUPPORTED, "watch every device: only for a flow that is known by its mark")
            program = capture_filter.program(flow)
            room = self._most * _FRAME_ROOM_BYTES
            kind = socket.SOCK_DGRAM if self._from_network else socket.SOCK_RAW
            self.socket = in_netns(str(params.get("netns") or ""), lambda: _open(device, kind, program, room), deadline)
        except VerbError as error:
            self.kind, self.error = error.kind, error.text
        except OSError as error:
            wrong = from_os_error(error, "watch " + (device or "every device"))
            self.kind, self.error = wrong.kind, wrong.text

    def take(self, start_s: float) -> None:
        """Read one frame."""
        if self.socket is None:
            return
        try:
            data, ancillary, _, address = self.socket.recvmsg(capture_filter.SNAP_BYTES, 64)
        except OSError:
            return
        stamp_s = time.time()
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(value) >= 16:
                seconds, nanoseconds = struct.unpack_from("=qq", value)
                stamp_s = seconds + nanoseconds / 1e9
        if len(self.frames) >= self._most:
            self.more += 1
            return
        out = address[2] == _PACKET_OUTGOING
        if self._from_network:
            data = _NO_HEADER + (_IPV6 if data[:1] >= b"\x60" else _IPV4) + data
        self.frames.append({"t_us": int((stamp_s - start_s) * 1e6), "out": out, "device": address[0], "data": data})

    def row(self, after: int) -> Dict[str, Any]:
        """What was seen, without the first ``after`` frames."""
        self._count_dropped()
        return {
            "name": self.name,
            "error": self.error,
            "frames": self.frames[after:],
            "more": self.more,
            "dropped": self.dropped,
        }

    def close(self) -> None:
        """Close the socket; what the kernel could not keep is counted."""
        if self.socket is not None:
            self._count_dropped()
            self.socket.close()
            self.socket = None

    def _count_dropped(self) -> None:
        """Take the kernel's count; it begins anew each time that it is asked."""
        sock = self.socket
        if sock is not None:
            try:
                _, dropped = struct.unpack("=II", sock.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
                self.dropped += dropped
            except OSError:
                pass


def _open(device: str, kind: int, program: bytes, room: int) -> socket.socket:
    """A packet socket with a filter; of kind SOCK_DGRAM a frame begins at its network header, whatever the device."""
    sock = socket.socket(socket.AF_PACKET, kind | socket.SOCK_CLOEXEC, 0)
    try:
        code = ctypes.create_string_buffer(program, len(program))
        attached = struct.pack("HL", len(program) // 8, ctypes.addressof(code))
        # The filter first: nothing of anybody else's is ever queued.
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, attached)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        # A burst waits here while the reader is not scheduled; what the kernel counts is the whole buffer of a frame.
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, min(room, _MOST_ROOM_BYTES))
        if device:
            sock.bind((device, _ETH_P_ALL))
        else:
            _bind_to_all(sock)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _bind_to_all(sock: socket.socket) -> None:
    """Bind to the device of number 0, which is every one: Python's own bind wants a name."""
    address = struct.pack("=H2siHBB8s", socket.AF_PACKET, struct.pack(">H", _ETH_P_ALL), 0, 0, 0, 0, b"")
    if _libc.bind(sock.fileno(), address, len(address)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class _Capture:
    """Several points that are read by one thread."""

    def __init__(self, points: List[_Point], seconds: float) -> None:
        self.points = points
        self._end_s = time.monotonic() + seconds
        # Frames are stamped by the clock of the day; only differences of it leave this host.
        self._start_s = time.time()
        self._stop_read, self._stop_write = os.pipe()
        self._rows: List[Dict[str, Any]] = []
        self._done = threading.Event()

    def begin(self, identity: str) -> None:
        """Start reading."""
        threading.Thread(target=self._run, args=(identity,), name="netdiag-capture", daemon=True).start()

    def drain(self) -> None:
        """Wait until the reader has taken what the kernel holds for it, so that what has arrived is known."""
        poller = select.poll()
        for point in self.points:
            if point.socket is not None:
                poller.register(point.socket, select.POLLIN)
        end_s = time.monotonic() + _DRAIN_S
        while poller.poll(0) and time.monotonic() < end_s:
            time.sleep(0.001)

    def end(self) -> List[Dict[str, Any]]:
        """Stop reading, and give what was seen."""
        os.close(self._stop_write)
        return self._rows if self._done.wait(2.0) else [point.row(0) for point in self.points]

    def _run(self, identity: str) -> None:
        poller = select.poll()
        by_descriptor = {}
        for point in self.points:
            if point.socket is not None:
                poller.register(point.socket, select.POLLIN)
                by_descriptor[point.socket.fileno()] = point
        poller.register(self._stop_read, select.POLLIN)
        stopped = False
        while True:
            left_ms = 0 if stopped else max(0, int((self._end_s - time.monotonic()) * 1000))
            ready = [descriptor for descriptor, _ in poller.poll(left_ms)]
            for descriptor in ready:
                if descriptor in by_descriptor:
                    by_descriptor[descriptor].take(self._start_s)
            if self._stop_read in ready and not stopped:
                stopped = True  # once more: what has arrived is read
                poller.unregister(self._stop_read)
            elif stopped and not ready:
                break
            elif not ready:
                with _lock:
                    if _captures.pop(identity, None) is not None:  # its time is up, and nobody will end it
                        os.close(self._stop_write)
                break
        # Told before the sockets are closed: for each the kernel waits until no processor is in it any more.
        self._rows = [point.row(0) for point in self.points]
        self._done.set()
        for point in self.points:
            point.close()
        os.close(self._stop_read)
