"""As much of HTTP/2 as reading one answer needs: frames, and the acknowledgements that a peer waits for (RFC 9113)."""

import struct
from typing import Iterator, Tuple

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM = ACK = 1
FRAME_HEAD_BYTES = 9


class Reader:
    """Follows one stream. Feed it what came; it says what to send back, and when the stream has ended."""

    def __init__(self, stream: int = 1) -> None:
        self._stream = stream
        self._rest = b""
        self.ended = ""
        """"end-stream", "rst-stream" or "goaway" once the answer is over."""

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the connection; the frames that must be sent in return (may be none)."""
        self._rest += data
        replies = b""
        for kind, flags, stream, body in self._frames():
            if kind == SETTINGS and not flags & ACK:
                replies += frame(SETTINGS, ACK, 0, b"")
            elif kind == PING and not flags & ACK:
                replies += frame(PING, ACK, 0, body)
            elif kind == GOAWAY:
                self.ended = self.ended or "goaway"
            elif stream == self._stream and kind == RST_STREAM:
                self.ended = self.ended or "rst-stream"
            elif stream == self._stream and kind in (DATA, HEADERS) and flags & END_STREAM:
                self.ended = self.ended or "end-stream"
        return replies

    def _frames(self) -> Iterator[Tuple[int, int, int, bytes]]:
        while len(self._rest) >= FRAME_HEAD_BYTES:
            length = int.from_bytes(self._rest[:3], "big")
            if len(self._rest) < FRAME_HEAD_BYTES + length:
                return
            kind, flags, stream = struct.unpack_from(">BBI", self._rest, 3)
            body = self._rest[FRAME_HEAD_BYTES : FRAME_HEAD_BYTES + length]
            self._rest = self._rest[FRAME_HEAD_BYTES + length :]
            yield kind, flags, stream & 0x7FFFFFFF, body


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    """One frame."""
    return struct.pack(">I", len(body))[1:] + struct.pack(">BBI", kind, flags, stream) + body
