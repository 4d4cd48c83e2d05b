"""Entering another network namespace: in a thread that dies afterwards, so that nobody else is ever moved."""

import ctypes
import os
import threading
from typing import Any, Callable, Dict, List, TypeVar

from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import FAILED, MISSING, TIMEOUT, VerbError, from_errno, from_os_error

CLONE_NEWNET = 0x40000000
OWN_NET = "/proc/thread-self/ns/net"
"""The calling thread's namespace; /proc/self would be the main thread's."""

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)


def call_within(function: Callable[[], T], deadline: Deadline, tried: str) -> T:
    """Run ``function`` in a thread of its own and wait no longer than the deadline.

    A thread that overruns is left to end by itself; its result is dropped. Errors of the function are raised here.
    """
    results: List[T] = []
    errors: List[BaseException] = []

    def body() -> None:
        try:
            results.append(function())
        except BaseException as error:  # handed to the caller's thread below
            errors.append(error)

    thread = threading.Thread(target=body, name="netdiag-verb", daemon=True)
    thread.start()
    thread.join(deadline.left())
    if errors:
        raise errors[0]
    if not results:
        raise VerbError(TIMEOUT, "{}: no answer within {:g} s".format(tried, deadline.timeout_s))
    return results[0]


def in_netns(path: str, function: Callable[[], T], deadline: Deadline) -> T:
    """Run ``function`` inside the network namespace at ``path`` ("" is the caller's own, without a thread).

    Raises VerbError: missing when the namespace is gone, permission without CAP_SYS_ADMIN, timeout.
    """
    if not path:
        return function()

    def body() -> T:
        enter(path)
        return function()

    return call_within(body, deadline, "in network namespace " + path)


def enter(path: str) -> None:
    """Move the calling thread into the network namespace at ``path``, and verify that it is there."""
    tried = "enter network namespace " + path
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise from_os_error(error, tried)
    try:
        if _libc.setns(descriptor, CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            # A stale file below /run/docker/netns is a plain file: the namespace that it named is gone.
            if number == 22:
                raise VerbError(MISSING, tried + ": not a network namespace (any more)")
            raise from_errno(number, tried)
        if os.fstat(descriptor).st_ino != os.stat(OWN_NET).st_ino:
            raise VerbError(FAILED, tried + ": the thread is elsewhere after setns")
    finally:
        os.close(descriptor)


def in_scratch_netns(function: Callable[[], T], deadline: Deadline) -> T:
    """Run ``function`` in a new, empty network namespace that dies with its thread."""
    tried = "create a scratch network namespace"
    own = os.stat(OWN_NET).st_ino

    def body() -> T:
        if _libc.unshare(CLONE_NEWNET) != 0:
            raise from_errno(ctypes.get_errno(), tried)
        # Whatever the caller is about to create must never land in a namespace that lives on.
        if os.stat(OWN_NET).st_ino == own:
            raise VerbError(FAILED, tried + ": the thread is where it was after unshare")
        return function()

    return call_within(body, deadline, "in a scratch network namespace")


def thread_path(path: str) -> str:
    """``path`` as the calling thread must open it: /proc/net and /proc/self follow the *main* thread's namespace."""
    for prefix in ("/proc/net/", "/proc/self/net/"):
        if path.startswith(prefix):
            return "/proc/thread-self/net/" + path[len(prefix) :]
    return path


def namespace_of(params: Dict[str, Any]) -> str:
    """The request's ``netns`` parameter: a path, or "" for the participant's own."""
    return str(params.get("netns") or "")
