"""TLS over a socket as `netdiag.participant.stream` reads and writes it: in two directions at once, every wait bounded."""

import select
import socket
import ssl
import threading
from typing import Optional

from netdiag.participant.deadline import Deadline

_LINE_BYTES = 256
_SLICE_S = 1.0


class SealedError(Exception):
    """The channel does not come about; the text is one line and holds nothing of the key."""


class Channel:
    """TLS over a connected socket; bounded in bytes. One thread may receive while others send."""

    def __init__(self, plain: socket.socket, context: ssl.SSLContext, server: bool) -> None:
        self.peer = str(plain.getpeername()[0])
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.setblocking(False)
        self._tls = context.wrap_socket(
            plain, server_side=server, do_handshake_on_connect=False, suppress_ragged_eofs=True
        )
        # OpenSSL's object stands no two threads at once: it is only used for an instant each time, never waited in.
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._pending = b""
        self._closed = False
        self.received_bytes = 0
        self.sent_bytes = 0
        self.limit_bytes = 1 << 40
        """Beyond so many bytes, both ways together, it closes."""

    def shake_hands(self, deadline: Deadline) -> None:
        """The TLS handshake. Raises SealedError when it does not succeed in time."""
        while True:
            try:
                with self._lock:
                    self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN, deadline)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT, deadline)
            except ssl.SSLError as error:
                raise SealedError("no TLS 1.3 ({})".format((error.reason or "closed").lower().replace("_", " ")))
            except (OSError, ValueError) as error:
                raise SealedError("closed while shaking hands ({})".format(getattr(error, "strerror", "") or "ended"))
        if self._tls.version() != "TLSv1.3":
            raise SealedError("{} instead of TLS 1.3".format(self._tls.version()))

    def certificate(self) -> bytes:
        """The peer's certificate, DER."""
        return self._tls.getpeercert(True) or b""

    def line(self, deadline: Deadline) -> str:
        """One short line of the beginning. Raises SealedError when it does not come in time, or is too long."""
        while b"\n" not in self._pending:
            if len(self._pending) > _LINE_BYTES:
                raise SealedError("a line that is longer than any should be")
            more = self._read(_LINE_BYTES, deadline)
            if not more:
                raise SealedError("it says nothing in time" if more is None else "it closed the connection")
            self._pending += more
        line, _, self._pending = self._pending.partition(b"\n")
        if len(line) > _LINE_BYTES:
            raise SealedError("a line that is longer than any should be")
        return line.decode("ascii", "replace")

    def receive(self, limit_bytes: int, timeout_s: float) -> Optional[bytes]:
        """What has come; b"" when the channel has ended, None when nothing came in time."""
        if self._pending:
            data, self._pending = self._pending[:limit_bytes], self._pending[limit_bytes:]
            return data
        try:
            return self._read(limit_bytes, Deadline(timeout_s))
        except SealedError:
            return b""

    def _read(self, limit_bytes: int, deadline: Deadline) -> Optional[bytes]:
        while True:
            try:
                with self._lock:
                    if self._closed:
                        return b""
                    data = self._tls.recv(limit_bytes)
                self.received_bytes += len(data)
                self._bound()
                return data
            except ssl.SSLWantReadError:
                wanted = select.POLLIN
            except ssl.SSLWantWriteError:
                wanted = select.POLLOUT
            except (OSError, ValueError):
                return b""
            try:
                self._wait(wanted, deadline)
            except SealedError:
                return None

    def send(self, data: bytes, timeout_s: float = 30.0) -> None:
        """Send all of it. Raises OSError when the peer is gone, or takes nothing for ``timeout_s``."""
        with self._sending:
            view = memoryview(data)
            while view:
                try:
                    with self._lock:
                        if self._closed:
                            raise OSError("the channel is closed")
                        sent = self._tls.send(view[: 1 << 16])
                    self.sent_bytes += sent
                    self._bound()
                    view = view[sent:]
                    continue
                except ssl.SSLWantReadError:
                    wanted = select.POLLIN
                except ssl.SSLWantWriteError:
                    wanted = select.POLLOUT
                except ValueError:
                    raise OSError("the channel is closed")
                try:
                    self._wait(wanted, Deadline(timeout_s))
                except SealedError as error:
                    self.close()
                    raise OSError(str(error))

    def _bound(self) -> None:
        if self.received_bytes + self.sent_bytes > self.limit_bytes:
            self.close()

    def _wait(self, events: int, deadline: Deadline) -> None:
        """Wait until the socket is ready; in slices, for another thread may close it. Raises SealedError in the end."""
        while deadline.left() > 0.0:
            with self._lock:
                if self._closed:
                    return
                number = self._tls.fileno()
            poll = select.poll()
            poll.register(number, events)
            if poll.poll(min(deadline.left(), _SLICE_S) * 1000.0):
                return
        raise SealedError("nothing came in time ({:g} s)".format(deadline.timeout_s))

    def close(self) -> None:
        """End the channel; whoever waits in it wakes up. Says so to the peer where that needs no waiting."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                self._tls.unwrap()
            except (OSError, ValueError):
                pass
            try:
                self._tls.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            self._tls.close()
