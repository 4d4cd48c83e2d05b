"""Whose a socket is: the user of a process, or one that is named; and nothing of it stays with the thread."""

import os
import socket
import threading

import pytest

from netdiag.participant.errors import VerbError
from netdiag.participant.user import owned_socket

NOBODY = 65534


def owner_of(sock):
    """The user of a socket's file, which is that of the thread that opened it."""
    return os.fstat(sock.fileno()).st_uid


def opened(**params):
    with owned_socket(params) as user, socket.socket() as sock:
        return user, owner_of(sock)


@pytest.mark.parametrize("params", [{}, {"as_pid": os.getpid()}, {"as_pid": 2**22 + 1}, {"as_user": os.geteuid()}])
def test_its_own(params):
    """A process that has ended is nobody: the socket is then this one's."""
    assert opened(**params) == (os.geteuid(), os.geteuid())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may open a socket as another user")
def test_another_user_s_and_no_longer_than_asked():
    assert opened(as_user=NOBODY) == (NOBODY, NOBODY)
    assert opened() == (0, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may open a socket as another user")
def test_other_threads_keep_theirs():
    seen, now = [], threading.Event()
    thread = threading.Thread(target=lambda: now.wait(5) and seen.append(opened()))
    thread.start()
    with owned_socket({"as_user": NOBODY, "as_group": 7}):
        now.set()
        thread.join()
    assert seen == [(0, 0)]


def test_who_is_not_root_cannot_be_another():
    child = os.fork()
    if child == 0:  # whoever runs the tests; root becomes somebody else
        code = 1
        try:
            if os.geteuid() == 0:
                os.setuid(NOBODY)
            opened(as_user=0)
        except VerbError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
