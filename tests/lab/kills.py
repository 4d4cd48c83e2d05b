"""What the tests that kill netdiag at any moment share: pictures of hosts, and how two of them differ."""

import os
import random
from collections import Counter
from pathlib import Path

from tests.lab.matrix import rules

KILLS = int(os.environ.get("NETDIAG_KILLS", "12"))
"""How often altogether in a test module; the long run takes 50."""
CHECKOUT = Path(__file__).parents[2]
"""Where Python and the other tests write as well; it may be below /tmp."""
OURS = (
    "ps -ww -e -o args= | grep -E 'netdiag[-.]|netdiag |sshd: root|^ssh |^sudo ' | grep -vF grep; ip netns list;"
    " tc qdisc show; ip -br link; ip rule;"
    " sysctl -a -r '^net[.](netfilter[.]nf_log|ipv4[.]conf[.]all|ipv4[.]ip_forward)';"
    " ss -Hlntu; ss -Hn0; ss -Hnw;"
    f" find /run /var/lib/netdiag /tmp /dev/shm /root/.ssh -path '{CHECKOUT}' -prune -o -not -type s -print;"
    " ls -A /root /"
)


def picture(*hosts):
    """All that a run may touch on hosts, a line each: rules, processes, devices, settings, sockets and files."""
    seen = []
    for host in hosts:
        lines = [*rules(host), *host.exec(["sh", "-c", f"({OURS}) 2>/dev/null; true"]).stdout.splitlines()]
        seen += [f"{host.name}: {line}" for line in lines]
    return seen


def difference(before, after):
    """Lines that went and came, each as often as it did: two participants look the same."""
    gone, come = Counter(before) - Counter(after), Counter(after) - Counter(before)
    return [f"- {line}" for line in gone.elements()] + [f"+ {line}" for line in come.elements()]


def dice(what):
    """Dice whose seed is printed, and shown with a test that fails; NETDIAG_SEED throws the same again."""
    seed = os.environ.get("NETDIAG_SEED") or os.urandom(4).hex()
    print(f"NETDIAG_SEED={seed}")  # noqa: T201 - pytest shows it
    return random.Random(f"{what} {seed}")
