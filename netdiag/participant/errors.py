"""How a verb says that it could not answer: a kind that the requester can act on, and one line for the operator."""

import errno
import os

PERMISSION = "permission"
MISSING = "missing"
TIMEOUT = "timeout"
FAILED = "failed"
UNSUPPORTED = "unsupported"
WITHHELD = "withheld"

KINDS = (PERMISSION, MISSING, TIMEOUT, FAILED, UNSUPPORTED, WITHHELD)
"""Every kind of error that an answer may carry; the requester's model knows the same words."""

_BY_ERRNO = {
    errno.EPERM: PERMISSION,
    errno.EACCES: PERMISSION,
    errno.ENOENT: MISSING,
    errno.ENOTDIR: MISSING,
    errno.ESRCH: MISSING,
    errno.ENODEV: MISSING,
    errno.ENXIO: MISSING,
    errno.ECONNREFUSED: MISSING,
    errno.ETIMEDOUT: TIMEOUT,
    errno.EAGAIN: TIMEOUT,
    errno.EOPNOTSUPP: UNSUPPORTED,
    errno.EPROTONOSUPPORT: UNSUPPORTED,
    errno.EAFNOSUPPORT: UNSUPPORTED,
    errno.ENOSYS: UNSUPPORTED,
}


class VerbError(Exception):
    """A verb has no data. ``kind`` is one of `KINDS`; ``text`` is one line that names what was tried."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


def from_errno(number: int, tried: str) -> VerbError:
    """The error for a kernel's errno; ``tried`` names what was asked ("open /proc/net/tcp")."""
    return VerbError(_BY_ERRNO.get(number, FAILED), "{}: {}".format(tried, os.strerror(number)))


def from_os_error(error: OSError, tried: str) -> VerbError:
    """The error for an `OSError`, time-outs of sockets (which carry no errno) included."""
    if error.errno is None:
        timed_out = "timed out" in str(error)
        return VerbError(TIMEOUT if timed_out else FAILED, "{}: {}".format(tried, error))
    return from_errno(error.errno, tried)
