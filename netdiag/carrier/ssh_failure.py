"""Why a log-in by ssh did not come about, in one line, with what to do next."""

from __future__ import annotations

import re
from collections.abc import Sequence

from netdiag.carrier.stream import NoGreeting

_SSH_FAILED = 255
"""ssh's exit code when it is ssh that failed, and not what it ran."""

_LISTEN = "or run netdiag listen here and the line that it prints there"

_UNRESOLVED = r"Could not resolve hostname"

_REASONS = (
    # what ssh says; what to do: in this order, as a changed key and an unknown one end with the same line
    (
        r"IDENTIFICATION HAS CHANGED|Host key for \S+ has changed",
        (
            "its host key is not the one that is known here: ask why it changed; if it may have, ssh-keygen -R {host} and log"
            " in once by hand"
        ),
    ),
    (
        r"Host key verification failed|host key is known for|authenticity of host",
        "its host key is not known here: log in once by hand, compare the fingerprint and say yes",
    ),
    (
        r"Too many authentication failures",
        "too many keys were offered: say in ~/.ssh/config which one it takes (IdentityFile, IdentitiesOnly yes)",
    ),
    (
        r"Permission denied|No more authentication methods|no authentication methods",
        "ssh must log in without a question: load the key (ssh-add) or put it there (ssh-copy-id), and check the user",
    ),
    (_UNRESOLVED, "no such name here: give an address, or a name of ~/.ssh/config"),
    (r"Connection refused", f"nothing takes connections at its ssh port: check the port and the sshd there, {_LISTEN}"),
    (
        r"timed out|No route to host|unreachable",
        f"its ssh port cannot be reached from here: check address and port, go by another host (ProxyJump), {_LISTEN}",
    ),
    (
        r"kex_exchange_identification|banner exchange|Connection (closed|reset)|Connection to \S+ closed",
        (
            "it closed the connection before the log-in: look for a ban (fail2ban), a limit (MaxStartups) or a port that is"
            " not sshd's"
        ),
    ),
    (r"Unable to negotiate|no matching", "the two sides have no common algorithm: allow one for it in ~/.ssh/config"),
    (
        r"[Bb]ad (configuration|owner)|configuration options?$|Bad .*permissions",
        "ssh's own configuration has to be mended",
    ),
    (
        r"netdiag: no Python",
        "install one there (python3), use netdiag's container image there, or take its collected script instead",
    ),
)

_NO_REASON = (
    "it gave no reason: where small packets pass and large ones are swallowed its key exchange ends so"
    " (netdiag preflight swarm measures sizes without ssh)"
)


def explain(name: str, said: Sequence[str], code: int | None, failure: NoGreeting) -> str:
    """One line: the host, the reason in ssh's or the other host's own words, and what to do.

    Args:
        name: The host, as the operator called it.
        said: Lines of ssh's standard error, which are also those of what it ran.
        code: ssh's exit code; None or negative when it was ended from here.
        failure: How far it came.
    """
    if failure.timed_out:
        told = f" (it says: {failure.came[-1]})" if failure.came else ""
        if failure.started:
            return f"{name}: the Python there does not answer: it is very slow, or the connection is"
        return (
            f"{name}: nothing runs there yet{told}: it is slow, or its login shell or ForceCommand waits for something"
        )
    heard = said[-1] if said else failure.came[-1] if failure.came else ""
    if failure.started:
        return f"{name}: the Python there ended before it answered" + (f": {heard}" if heard else "")
    for pattern, advice in _REASONS:
        line = next((each for each in reversed(said) if re.search(pattern, each)), "")
        if line:
            known_as = re.search(r"Host key for (\S+) has changed", line)
            host = known_as[1] if known_as else name.rpartition("@")[2]
            return f"{name}: {_short(line)}: {advice.format(host=host)}"
    if code == _SSH_FAILED:
        return f"{name}: ssh: {_short(heard) or _NO_REASON}"
    told = f": it says {heard!r}" if heard else ""
    return f"{name}: it does not run what it is asked{told}: its login shell or a ForceCommand may forbid it"


def is_unresolved(said: Sequence[str]) -> bool:
    """Whether ssh says that there is no such name."""
    return any(re.search(_UNRESOLVED, each) for each in said)


def _short(line: str) -> str:
    """Without the program's name and the noise around the reason."""
    return re.sub(r"^ssh: |^netdiag: |@ +| +@|\.$", "", line).strip()
