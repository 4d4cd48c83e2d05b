"""What must happen *on* a host, and nothing else: reading it, and sending probes from it.

Standard library only, in the subset that Python 3.6 understands, because these modules also run on hosts whose Python
is old and where nothing of ours is installed. Answers are raw; they are decoded elsewhere, so that a local host, one
behind ssh and a bundle are read by the same code. The registry of verbs is `netdiag.participant.verbs.VERBS`.
"""

from netdiag.participant.verbs import VERBS, run

__all__ = ["VERBS", "run"]
