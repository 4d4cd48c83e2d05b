"""The per-host daemon."""

import sys


def main() -> int:
    """Entry point of ``netdiag-agent``: this release has no daemon, and says so instead of pretending to run."""
    sys.stderr.write("netdiag-agent: this release has no daemon; run netdiag on each host instead (netdiag --help)\n")
    return 2
